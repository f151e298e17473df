"""How runs and missions of a World go on, as agents report and people ask."""

from __future__ import annotations

from controllers.effects.runs import end_run
from controllers.runs import records, reports
from controllers.runs.once import Once
from schemas.base import Key
from schemas.mission import Artifact
from schemas.resource import RETRY_REQUESTED_AT, SYSTEM, Declared
from schemas.run import RunReason, RunState
from tests.fakes.world import ALICE, World


def ends(world: World, run: str) -> None:
    """The program of a run ends."""
    with world.store.transaction(SYSTEM) as tx:
        ending = records.Ending(state=RunState.SUCCEEDED, reason=RunReason.COMPLETED, exit_code=0, ended_at=tx.now)
        end_run(tx, world.get("Run", run).uid, ending)
    world.settle()


def hands_in(world: World, run: str) -> None:
    """The agent is done."""
    with world.store.transaction(SYSTEM) as tx:
        done = Artifact(name="deliverable", size=2, digest="sha256:" + "0" * 64, text="ok", run=run)
        reports.complete(tx, world.get("Run", run).uid, done, "looked at it", once=Once.of("end", b""))
    ends(world, run)


def again(world: World, name: str) -> None:
    """A person asks for another try."""
    with world.store.transaction(ALICE) as tx:
        found = tx.get(Key("Mission", "default", name))
        assert found is not None
        asked = Declared(found.kind, found.namespace, found.name, found.spec, annotations={RETRY_REQUESTED_AT: "now"})
        tx.put_spec(found, asked, manager="cli/alice")
    world.settle()
