"""Whose sub-agent an agent is: a Hold on an ancestor, or on what it works on, is one on the sub-agent too."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.agent import Spawned
from schemas.base import Key
from schemas.resource import Resource
from store.contract import Snapshot


def ancestors(snapshot: Snapshot, agent: Resource) -> list[tuple[Key, Mapping[str, str]]]:
    """Agents and missions above a sub-agent, with their labels; [] for a declared agent."""
    if not agent.status.get("spawned"):
        return []
    spawned = Spawned.model_validate(agent.status["spawned"])
    keys = []
    for ancestor in spawned.lineage:
        keys += [ancestor.agent.key("Agent", agent.namespace), ancestor.mission.key("Mission", agent.namespace)]
    found = snapshot.get_many(keys)
    return [(key, found[key].labels if key in found else {}) for key in keys]
