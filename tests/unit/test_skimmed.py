"""Missions that are read without being decoded teach the same as those that are read whole."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from controllers.reconcilers import dispatcher, skimmed
from controllers.reconcilers.standings import Standings
from controllers.reconcilers.wakes import Wakes
from decisions.mission_summary import FULL
from schemas.base import Key
from schemas.resource import SYSTEM, Declared
from store.contract import Snapshot
from tests.fakes.world import World

SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"dependsOn": []},
    {"dependsOn": [{"name": "before"}]},
    {"agentRef": {"name": "worker"}},
    {"projectRef": {"name": "shop", "namespace": "team"}, "priority": 70},
    {"goalRef": {"name": "more"}, "dependsOn": []},
    {"policyRefs": [{"name": "strict"}]},
    {"agentSelector": {"matchLabels": {"role": "any"}}},
    {"title": "what agentRef and dependsOn mean", "input": {"agentRef": {"name": "nobody"}}},
    {"dependsOn": [], "then": {"dependsOn": [{"name": "after"}]}},
)
STATUSES: tuple[dict[str, Any], ...] = (
    {},
    {"state": "Inbox", "blockedOn": [{"type": "Person", "ref": ""}]},
    {"state": "Assigned", "agent": {"name": "worker"}},
    {"state": "Assigned", "agent": {"name": "worker"}, "readySince": "2026-01-01T00:00:00.000Z"},
    {"state": "InProgress", "agent": {"name": "a", "namespace": "team"}, "currentRun": "r",
     "readySince": "2026-01-01T00:00:00.000Z"},
    {"state": "Inbox", "blockedOn": [{"type": "Tenant", "ref": f"team/{FULL}"}]},
    {"state": "Inbox", "blockedOn": [{"type": "Budget", "ref": "daily"}]},
    {"state": "Review", "awaitsFollowUp": True},
    {"state": "Done", "finishedAt": "2026-01-02T00:00:00.000Z"},
)  # fmt: skip


def test_whatever_a_mission_says_skimming_it_teaches_what_reading_it_does(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        with world.store.transaction(SYSTEM) as tx:
            for number, (spec, status) in enumerate(itertools.product(SPECS, STATUSES)):
                made = tx.create(Declared("Mission", "team", f"m-{number:03d}", spec), manager="cli/alice")
                tx.put_status(made, status)
        with world.store.snapshot() as snapshot:
            whole, skimming = _learnt(snapshot, skim=False), _learnt(snapshot, skim=True)
            skipped = sum(not mission.spec for mission in skimmed.missions(snapshot))
        assert skimming == whole
        assert whole["targets"]
        assert whole["selecting"]
        assert whole["over"]
        assert whole["awaiting"]
        assert whole["waiting"]
        assert whole["parked"]
        assert whole["counted"]
        assert skipped > 2 * len(SPECS[:2])
    finally:
        world.close()


def _learnt(snapshot: Snapshot, *, skim: bool) -> dict[str, Any]:
    """Everything that Wakes knows after it learnt all missions."""
    ready, standings = dispatcher.ReadyMissions(), Standings()
    wakes = Wakes(ready, standings)
    if skim:
        keys = [key for key, _ in wakes.everything(snapshot, ["Mission"])]
    else:
        keys = []
        for mission in snapshot.objects("Mission"):
            wakes._learn(mission)
            wakes._names[mission.uid] = mission.key
            keys.append(mission.key)
    waiting = {key for key in keys if ready.waits(key)}
    return {
        "keys": keys,
        "names": wakes._names,
        "targets": wakes._index._targets,
        "selecting": wakes._selecting,
        "over": {namespace: found for namespace, found in wakes._over.items() if found},
        "awaiting": wakes._awaiting,
        "waiting": waiting,
        "parked": ready._parked,
        "counted": [standings.of(owner) for owner in (Key("Project", "team", "shop"), Key("Goal", "team", "more"))],
    }
