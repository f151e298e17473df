"""``remit tree``: what belongs to what, as an indented list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.output import paint, safe, value_at
from schemas.base import Key

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Snapshot

_MAX = 300
_COLOURS = {
    "Done": "good", "Succeeded": "good", "True": "good", "Approved": "good",
    "InProgress": "busy", "Running": "busy", "Assigned": "busy", "Pending": "busy",
    "Review": "attention", "NeedsApproval": "attention", "Blocked": "attention",
    "Failed": "bad", "False": "bad", "TimedOut": "bad", "Lost": "bad", "Unknown": "attention",
}  # fmt: skip


def render(snapshot: Snapshot, root: Resource | None, namespace: str | None) -> list[str]:
    """Lines of the tree below ``root``, or of all sources, agents and unassigned missions of a namespace."""
    forest = _Forest(snapshot, namespace)
    lines: list[str] = []
    for top in [root] if root is not None else forest.roots():
        lines.append(_label(top))
        lines += forest.below(top, "")
        if len(lines) > _MAX:
            return [*lines[:_MAX], f"... more; narrow it: remit tree {top.key.short}"]
    return lines or ["nothing here yet; declare something, then: remit sync"]


class _Forest:
    def __init__(self, snapshot: Snapshot, namespace: str | None) -> None:
        self._snapshot = snapshot
        self._namespace = namespace
        self._children: dict[str, list[Resource]] = defaultdict(list)
        self._missions = snapshot.objects("Mission", namespace=namespace)
        by_key = {m.key: m for m in self._missions}
        agents = {a.key: a for a in snapshot.objects("Agent", namespace=namespace)}
        self._agents = list(agents.values())
        goals = {g.key: g for g in snapshot.objects("Goal", namespace=namespace)}
        self._goals = list(goals.values())
        placed: set[Key] = set()
        for mission in self._missions:
            for kind, path, known in (("Goal", "spec.goalRef", goals), ("Agent", "status.agent", agents)):
                ref = value_at(mission.to_wire(), path)
                parent = known.get(Key(kind, ref.get("namespace") or mission.namespace, ref["name"])) if ref else None
                if parent is not None:
                    self._children[parent.uid].append(mission)
                    placed.add(mission.key)
                    break
        self._loose = [m for key, m in by_key.items() if key not in placed]
        for kind in ("Run", "ApprovalRequest"):
            for record in snapshot.objects(kind, namespace=namespace):
                if record.owner_uid:
                    self._children[record.owner_uid].append(record)

    def roots(self) -> Iterator[Resource]:
        yield from self._goals
        yield from self._agents
        yield from self._loose

    def below(self, parent: Resource, indent: str) -> list[str]:
        children = sorted(self._children.get(parent.uid, ()), key=lambda r: (r.kind != "Mission", r.created_at, r.name))
        lines = []
        for position, child in enumerate(children):
            last = position == len(children) - 1
            lines.append(f"{indent}{'└─ ' if last else '├─ '}{_label(child)}")
            lines += self.below(child, indent + ("   " if last else "│  "))
        return lines


def _label(resource: Resource) -> str:
    document = resource.to_wire()
    state = resource.state or str(value_at(document, "status.conditions[Ready].status") or "-")
    why = value_at(document, "status.blockedOn[0].hint") or value_at(document, "status.message") or ""
    title = value_at(document, "spec.title") or ""
    text = " · ".join(safe(str(t)) for t in (title, why) if t)
    colour = _COLOURS.get(state)
    shown = paint(state, colour) if colour else state
    return f"{resource.kind.lower()}/{safe(resource.name)}  {shown}" + (f"  {text}" if text else "")
