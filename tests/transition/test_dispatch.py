"""Free places find the missions that may take them, whatever the order of the passes."""

from __future__ import annotations

from controllers.reconcilers.dispatcher import key_of
from schemas.base import Key
from schemas.hold import HoldSpec, HoldStatus
from schemas.resource import Declared
from tests.fakes.world import ALICE, World, agent, executor, mission


def test_a_free_place_goes_past_any_number_of_missions_that_just_ceased_to_be_ready(world: World) -> None:
    held = {f"h{n:02d}.yaml": mission(f"h{n:02d}", priority=90, labels="team: held") for n in range(30)}
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "busy.yaml": mission("busy", priority=100)})
    world.sync()
    world.commit({**held, "free.yaml": mission("free", priority=10)})
    world.sync()
    assert world.started == ["busy-1"]
    # The place becomes free and thirty better ones are held; everybody else looks before those missions do.
    world.finish("busy-1", settle=False)
    spec = HoldSpec.model_validate({"selector": {"matchLabels": {"team": "held"}}, "mode": "Hold", "reason": "test"})
    with world.store.transaction(ALICE) as tx:
        status = HoldStatus(placed_by="user:alice", transport="Store").to_wire()
        tx.create(Declared("Hold", "default", "h", spec.to_wire()), manager="cli/alice", status=status)
    worker = world.get("Agent", "worker").key
    passed = (Key("Hold", "default", "h"), Key("Mission", "default", "busy"), worker, key_of(worker))
    for key in passed:
        world._take_changes()
        world._pass(key)
    world._take_changes()
    for key in passed:
        world.pending.pop(key, None)
    world.settle()
    assert world.started == ["busy-1", "free-1"]
