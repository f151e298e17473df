"""Runs that workers fetch, under virtual time: offered, claimed, kept, lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.effects import claims
from controllers.effects.runs import CANCEL, RunContext
from controllers.runs.tokens import RunTokens
from schemas.resource import SYSTEM, Resource
from schemas.run import RunState
from store.contract import Effect
from tests.fakes.world import World, agent, mission

EXECUTOR = """\
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Pull
  pull: {lease: 60s, auth: {env: T}, command: {argv: [work], stopGrace: 10s, outputFormat: Text}}
"""


class Tokens(RunTokens):
    """Of a world, whose uids are no UUIDs."""

    def mint(self, run_uid: str) -> str:
        return f"token of {run_uid}"


class PullWorld(World):
    """A world whose starts leave the run to a worker."""

    def _restart(self) -> None:
        super()._restart()
        folder = self.folder
        self.context = RunContext(Tokens(b"k" * 32), lambda: "", folder)

    def _carry_out(self, effect: Effect) -> None:
        with self.store.transaction(SYSTEM) as tx:
            tx.finish_effect(effect)
            uid = str(effect.payload["runUid"])
            if effect.type == CANCEL:
                claims.withdraw(tx, uid)

    def comes(self, worker: str = "one") -> None:
        """A worker shows up."""
        with self.store.transaction(SYSTEM) as tx:
            claims.saw(tx, self.get("Executor", "local").key, worker, 1)
        self.settle()

    def claim(self, worker: str = "one", key: str = "k") -> claims.Claimed | None:
        """It asks for a run."""
        with self.store.transaction(SYSTEM) as tx:
            got = claims.claim(tx, self.executor, worker, key, self.context)
        self.settle()
        return got

    def renew(self, run: str, fence: int = 1, *, started: bool = True) -> None:
        with self.store.transaction(SYSTEM) as tx:
            claims.saw(tx, self.executor.key, "one")
            claims.renew(tx, self.executor.key, self.get("Run", run).uid, fence, started=started)
        self.settle()

    @property
    def executor(self) -> Resource:
        return self.get("Executor", "local")


@pytest.fixture
def pull(tmp_path: Path) -> Iterator[PullWorld]:
    made = PullWorld(tmp_path)
    made.commit(
        {"e.yaml": EXECUTOR, "a.yaml": agent(), "m.yaml": mission("a", retry="{maxAttempts: 2, idempotent: true}")}
    )
    made.sync()
    yield made
    made.close()


def test_without_workers_the_executor_says_so_and_nothing_is_dispatched(pull: PullWorld) -> None:
    assert pull.reason("Executor", "local", "Ready") == "False/NoWorkers"
    assert pull.find("Run", "a-1") is None
    pull.comes()
    assert pull.reason("Executor", "local", "Ready") == "True/Reconciled"
    assert pull.get("Run", "a-1").state == RunState.PENDING
    pull.advance(121)
    assert pull.reason("Executor", "local", "Ready") == "False/NoWorkers"


def test_a_claim_that_is_renewed_holds_for_hours(pull: PullWorld) -> None:
    pull.comes()
    assert pull.claim() is not None
    for _ in range(300):
        pull.renew("a-1")
        pull.advance(50)
    assert pull.get("Run", "a-1").state == RunState.RUNNING
    pull.check()


def test_a_claim_that_is_not_renewed_loses_the_run_which_is_tried_again(pull: PullWorld) -> None:
    pull.comes()
    pull.claim()
    pull.renew("a-1")
    pull.advance(74)
    assert pull.get("Run", "a-1").state == RunState.RUNNING
    pull.comes("two")
    pull.advance(10)
    assert pull.get("Run", "a-1").state == RunState.LOST
    pull.advance(600)
    pull.comes("two")
    pull.advance(1)
    second = pull.claim("two", "k2")
    assert second is not None
    assert second.order.run_name == "a-2"
    pull.check()


def test_a_run_that_is_canceled_before_it_is_fetched_ends_at_once(pull: PullWorld) -> None:
    pull.comes()
    pull.commit({"m.yaml": mission("a", desiredState="Canceled")})
    pull.sync()
    assert pull.get("Run", "a-1").state == RunState.CANCELED
    assert pull.claim() is None


def test_a_hold_keeps_an_ordered_run_from_being_fetched(pull: PullWorld) -> None:
    pull.comes()
    pull.act("Hold", "quiet", {"selector": {"names": ["a"]}, "mode": "Hold", "reason": "test"})
    assert pull.claim() is None
    pull.remove("Hold", "quiet")
    assert pull.claim() is not None


def test_an_engine_that_was_away_begins_every_lease_anew(pull: PullWorld) -> None:
    pull.comes()
    pull.claim()
    pull.renew("a-1")
    pull.clock.tick(3600)
    with pull.store.transaction(SYSTEM) as tx:
        assert claims.forgive(tx) == 1
    pull.restart()
    assert pull.get("Run", "a-1").state == RunState.RUNNING
    pull.renew("a-1")
    pull.advance(80)
    assert pull.get("Run", "a-1").state == RunState.LOST


def test_a_worker_that_is_gone_with_its_claim_may_have_started_the_program(pull: PullWorld) -> None:
    """It says that it started one only once it did: who dies in between has left a program at work, or none."""
    pull.commit({"m.yaml": mission("a", retry="{maxAttempts: 2}")})
    pull.sync()
    pull.comes()
    pull.claim()
    pull.advance(80)
    run = pull.get("Run", "a-1")
    assert (run.state, run.status.get("startedAt")) == (RunState.UNKNOWN, None)
    assert "nobody can know" in run.status["message"]
    pull.comes("two")
    assert pull.claim("two", "k2") is None, "it is not repeated"
    pull.check()
