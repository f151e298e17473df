"""Of several engines on a cluster, one acts: the Lease, in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.lifecycle import Lifecycle
from controllers.web.kubernetes import ClusterFault
from controllers.web.kubernetes_lease import GIVE_UP_S, LOOK_S, RENEW_S, STORE, TTL_S, LeaseElection
from tests.fakes.clock import VirtualClock
from tests.fakes.kubernetes_api import FakeApi

PLACE = ("leases", "ns", "remit")


class Candidate:
    """An engine, and when it acted."""

    def __init__(self, name: str, api: FakeApi, clock: VirtualClock, store: str = "s1") -> None:
        self.acting = 0
        self.cut = False
        self.api = api
        self.election = LeaseElection(
            self, "ns", "remit", name, self._act, store=lambda: store, clock=clock, blocking=InlineBlocking(),
            random=Random(1),
        )  # fmt: skip
        self.life = Lifecycle()
        self.task = asyncio.create_task(self.election.run(self.life))

    def ask(self, *arguments: object, **options: object) -> dict[str, object]:
        """The API, unless this engine is cut off from it."""
        if self.cut:
            raise ClusterFault("nobody answers", status=0)
        return self.api.ask(*arguments, **options)  # type: ignore[arg-type]

    async def _act(self, ends: asyncio.Event) -> None:
        self.acting += 1
        await ends.wait()
        self.acting -= 1


@pytest.mark.asyncio
async def test_one_acts_and_another_steps_in_when_it_is_silent_or_leaves() -> None:
    api, clock = FakeApi(), VirtualClock()
    first, second = Candidate("a", api, clock), Candidate("b", api, clock)
    await clock.advance(3 * LOOK_S)
    assert (first.acting, second.acting) == (1, 0)
    await clock.advance(5 * TTL_S)
    assert (first.acting, second.acting) == (1, 0), "who renews keeps it"
    first.cut = True
    for _ in range(100):  # the two never act at once
        await clock.advance(0.5)
        assert first.acting + second.acting <= 1
    assert (first.acting, second.acting) == (0, 1)
    assert api.objects[PLACE]["spec"]["leaseTransitions"] == 1
    assert "nobody answers" in first.election.problem()
    first.cut = False
    await clock.advance(2 * LOOK_S)
    assert first.election.problem() == ""
    second.life.stopping.set()
    await clock.run(second.task)
    await clock.advance(2 * LOOK_S)
    assert first.acting == 1, "who leaves in order hands it over at once"
    first.life.stopping.set()
    await clock.run(first.task)


@pytest.mark.asyncio
async def test_who_cannot_renew_gives_up_before_another_may_step_in() -> None:
    api, clock = FakeApi(), VirtualClock()
    only = Candidate("a", api, clock)
    await clock.advance(2 * LOOK_S)
    only.cut = True
    await clock.advance(GIVE_UP_S / 2)
    assert only.acting == 1, "a short silence of the API server is no reason to drop everything"
    await clock.advance(GIVE_UP_S / 2 + RENEW_S)
    assert only.acting == 0
    assert GIVE_UP_S + RENEW_S < TTL_S
    only.life.stopping.set()
    await clock.run(only.task)


@pytest.mark.asyncio
async def test_a_lease_of_another_store_is_not_taken_until_somebody_says_so() -> None:
    api, clock = FakeApi(), VirtualClock()
    first = Candidate("a", api, clock)
    await clock.advance(2 * LOOK_S)
    first.life.stopping.set()
    await clock.run(first.task)
    other = Candidate("b", api, clock, store="s2")
    await clock.advance(5 * TTL_S)
    assert other.acting == 0
    assert "another store" in other.election.problem()
    api.edit(PLACE, {"annotations": {}})
    await clock.advance(2 * LOOK_S)
    assert other.acting == 1
    assert other.election.problem() == ""
    assert api.objects[PLACE]["metadata"]["annotations"] == {STORE: "s2"}
    other.life.stopping.set()
    await clock.run(other.task)


@pytest.mark.asyncio
async def test_a_lease_that_is_edited_or_deleted_meanwhile_is_taken_up_as_it_is() -> None:
    api, clock = FakeApi(), VirtualClock()
    only = Candidate("a", api, clock)
    await clock.advance(2 * LOOK_S)
    api.edit(PLACE, {"labels": {"team": "a"}})
    await clock.advance(2 * TTL_S)
    assert only.acting == 1
    assert api.objects[PLACE]["metadata"]["labels"] == {"team": "a"}
    api.remove(PLACE)
    await clock.advance(2 * TTL_S)
    assert only.acting == 1
    assert api.objects[PLACE]["spec"]["holderIdentity"] == "a"
    only.life.stopping.set()
    await clock.run(only.task)
