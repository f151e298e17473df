"""What Policies and Waivers count: each call once, whatever happens between its decision and the counting."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from controllers.gate import tally
from controllers.gate.tally import Tally
from schemas.errors import StoreUnavailable
from schemas.policy import PolicyStatus
from schemas.quantities import format_time
from schemas.waiver import WaiverStatus
from store.contract import Store
from tests.fakes.faulty_store import WRITING, Fault, FaultyStore
from tests.fakes.gates import Desk
from tests.fakes.world import World, agent, executor, mission

TOOLS = "[{name: '*'}]"
POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house-rules}
spec:
  risk: {send_fax: Red}
  rules:
    - {name: never, match: {tools: [drop_table]}, verdict: Deny}
    - {name: ask, match: {tools: [rename_file]}, verdict: RequireApproval}
    - {name: fine, match: {tools: [water_plants]}, verdict: Allow}
"""
WAIVER = """\
apiVersion: remit.dev/v1alpha1
kind: Waiver
metadata: {name: morning}
spec:
  match: {tools: [deploy_prod]}
  owner: docs team
  reason: nobody is up
  expires: "%s"
"""


@pytest.fixture
def desk(world: World) -> Desk:
    end = format_time((world.now + timedelta(days=30)).replace(microsecond=0))
    fleet = [executor(), agent(autonomyLevel="Lead", tools=TOOLS), mission("one"), POLICY, WAIVER % end]
    world.commit({"fleet.yaml": "---\n".join(fleet)})
    world.sync()
    return Desk(world)


def policy(world: World) -> tuple[int, int, int]:
    status = PolicyStatus.model_validate(world.get("Policy", "house-rules").status)
    return status.denied, status.asked, status.allowed


def used(world: World) -> int:
    return WaiverStatus.model_validate(world.get("Waiver", "morning").status).used


def test_each_verdict_is_counted_by_whom_it_speaks_for(world: World, desk: Desk) -> None:
    (run,) = world.started
    for tool in ("drop_table", "drop_table", "rename_file", "send_fax", "water_plants", "deploy_prod", "read_file"):
        desk.ask(run, tool, {"n": 1})
    assert policy(world) == (0, 0, 0)
    counting = Tally(world.store)
    counting.count()
    assert policy(world) == (2, 2, 1)
    assert used(world) == 1
    assert WaiverStatus.model_validate(world.get("Waiver", "morning").status).last_used_at == world.now
    counting.count()
    counting.count()
    assert (policy(world), used(world)) == ((2, 2, 1), 1)
    world.settle()
    world.check()


def test_a_hard_stop_is_counted_by_the_policies_that_switch_it_on(world: World, desk: Desk) -> None:
    (run,) = world.started
    assert desk.ask(run, "make_payment").code == "HardStop"
    Tally(world.store).count()
    assert policy(world) == (1, 0, 0)


def test_a_call_that_a_person_allows_was_asked_once_and_allowed_by_no_rule(world: World, desk: Desk) -> None:
    (run,) = world.started
    first = desk.ask(run, "rename_file", key="k")
    for _ in range(3):
        desk.ask(run, "rename_file", key="k")
    assert first.approval_request is not None
    desk.decide(first.approval_request)
    assert desk.collect(run, first).decision == "allow"
    Tally(world.store).count()
    assert policy(world) == (0, 1, 0)


def test_a_restart_counts_nothing_twice_and_loses_nothing(world: World, desk: Desk) -> None:
    (run,) = world.started
    desk.ask(run, "drop_table")
    Tally(world.store).count()
    desk.ask(run, "deploy_prod")
    desk.ask(run, "drop_table", {"n": 2})
    world.restart()
    Tally(world.store).count()
    Tally(world.store).count()
    assert (policy(world), used(world)) == ((2, 0, 0), 1)


def test_what_is_more_than_a_batch_is_counted_in_several(
    world: World, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "BATCH", 2)
    (run,) = world.started
    for n in range(7):
        desk.ask(run, "drop_table", {"n": n}, settle=False)
    Tally(world.store).count()
    assert policy(world) == (7, 0, 0)


def test_how_far_it_read_is_noted_also_where_nothing_counts(
    world: World, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "NOTE_EVERY", 3)
    (run,) = world.started
    for n in range(4):
        desk.ask(run, "read_file", {"n": n})
    Tally(world.store).count()
    last = world.events("CallDecided")[-1].seq
    assert PolicyStatus.model_validate(world.get("Policy", "house-rules").status).counted_to >= last


def test_a_commit_whose_outcome_is_unknown_counts_once(world: World, desk: Desk) -> None:
    (run,) = world.started
    desk.ask(run, "drop_table")
    faults = iter([Fault.UNSAID])
    faulty = FaultyStore(world.store, lambda kinds: (next(faults, Fault.NONE) if kinds == WRITING else Fault.NONE, 0))
    counting = Tally(cast(Store, faulty))
    with pytest.raises(StoreUnavailable):
        counting.count()
    desk.ask(run, "drop_table", {"n": 2})
    counting.count()
    assert policy(world) == (2, 0, 0)


def test_a_commit_that_failed_is_made_good(world: World, desk: Desk) -> None:
    (run,) = world.started
    desk.ask(run, "deploy_prod")
    faults = iter([Fault.ROLLED_BACK])
    faulty = FaultyStore(world.store, lambda kinds: (next(faults, Fault.NONE) if kinds == WRITING else Fault.NONE, 0))
    counting = Tally(cast(Store, faulty))
    with pytest.raises(StoreUnavailable):
        counting.count()
    assert used(world) == 0
    counting.count()
    assert used(world) == 1
