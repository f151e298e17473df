"""Which tools of a server are accepted: what is pinned against what it offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas import tool_definition
from schemas.policy import Risk
from schemas.resource import canonical_json
from schemas.tool_server import Pin, SeenTool, ToolState

MAX_SHOWN = 16 * 1024
"""Bytes of a quarantined definition that a status shows."""
QUARANTINED = (ToolState.NEW, ToolState.CHANGED)


@dataclass(frozen=True, slots=True)
class Offered:
    """One tool as its server defines it now."""

    name: str
    digest: str
    definition: Mapping[str, Any]

    @property
    def hinted_risk(self) -> Risk | None:
        """The risk that the server names."""
        return tool_definition.hinted_risk(self.definition)


def offered(definitions: Iterable[Mapping[str, Any]]) -> list[Offered]:
    """What can be read of the definitions, in their order. A name that stands twice is nobody's: a client may take
    either of the two."""
    found: dict[str, Offered | None] = {}
    for wire in definitions:
        try:
            made = tool_definition.definition_of(wire)
        except tool_definition.Unreadable:
            continue
        name = str(made["name"])
        found[name] = None if name in found else Offered(name, tool_definition.digest_of(made), made)
    return [each for each in found.values() if each is not None]


def state_of(pins: Mapping[str, str], name: str, digest: str) -> ToolState:
    """Where a tool stands. ``pins``: name to digest."""
    known = pins.get(name)
    if known is None:
        return ToolState.NEW
    return ToolState.ACCEPTED if known == digest else ToolState.CHANGED


def seen(old: Sequence[SeenTool], found: Iterable[Offered], now: datetime) -> tuple[SeenTool, ...]:
    """The tools as they were seen now, by name; ``judged`` says where they stand. What was known of the accepted
    definition of each is kept."""
    before = {tool.name: tool for tool in old}
    made = []
    for each in found:
        known = before.pop(each.name, None)
        same = known is not None and known.digest == each.digest
        large = len(canonical_json(each.definition)) > MAX_SHOWN
        made.append(
            SeenTool(
                name=each.name,
                digest=each.digest,
                state=known.state if known is not None else ToolState.NEW,
                parts=tool_definition.parts_of(each.definition),
                accepted_parts=known.accepted_parts if known is not None else {},
                definition={} if large else dict(each.definition),
                hinted_risk=each.hinted_risk,
                first_seen=known.first_seen if known is not None and same else now,
            )
        )
    for gone in before.values():  # kept while it is pinned: what comes back is compared with what was accepted
        made.append(gone.model_copy(update={"digest": "", "parts": {}, "definition": {}, "hinted_risk": None}))
    return tuple(sorted(made, key=lambda tool: tool.name))


def judged(tools: Iterable[SeenTool], pins: Iterable[Pin]) -> tuple[SeenTool, ...]:
    """Each tool with the state that the pins give it, and what changed. Those that are gone and not pinned are left
    out."""
    pinned = {pin.tool: pin.digest for pin in pins}
    made = []
    for tool in tools:
        if not tool.digest:
            if tool.name in pinned:
                made.append(tool.model_copy(update={"state": ToolState.GONE, "changed": ()}))
            continue
        state = state_of(pinned, tool.name, tool.digest)
        accepted = state is ToolState.ACCEPTED
        update: dict[str, Any] = {"state": state, "changed": ()}
        if accepted:
            update |= {"accepted_parts": tool.parts, "definition": {}}
        elif state is ToolState.CHANGED:
            update["changed"] = _changed(tool)
        made.append(tool.model_copy(update=update))
    return tuple(made)


def _changed(tool: SeenTool) -> tuple[str, ...]:
    if not tool.accepted_parts:
        return ()
    fields = {*tool.parts, *tool.accepted_parts}
    order = [field for field in tool_definition.FIELDS if field in fields]
    return tuple(field for field in order if tool.parts.get(field) != tool.accepted_parts.get(field))
