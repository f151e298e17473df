"""A plan as Markdown for a pull request: short enough for a comment, and nothing in it but text.

Names, values and messages come from whoever opened the pull request. None of them may leave its place in the page,
address a person, link to anything, or begin a line, where some forges take commands from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cli.output import safe
from decisions.plan_effects import EffectKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.plans import PlanView
    from decisions.plan import Entry

LIMIT: Final = 60_000
"""Characters; GitHub takes 65,536 in a comment."""
_DETAIL: Final = ((60, 8), (40, 4), (25, 2), (25, 0), (8, 0), (0, 0))
"""How many objects, and fields of each, are shown: the first that fits."""
_MESSAGE: Final = 300
_VALUE: Final = 80
_BREAK: Final = "\u200b"
_SPECIAL = re.compile(r"([\\`*_{}\[\]()|#!~^=+-])")
_REFERENCE = re.compile(r"([@#!~%$&])(?=[\w\"'])")
_LINK = re.compile(r"(://|\bwww\.|\bmailto:)", re.IGNORECASE)


def render(views: Sequence[PlanView], limit: int = LIMIT) -> str:
    """The plans as Markdown of at most ``limit`` characters."""
    shown = [view for view in views if view.plan.entries]
    if not shown:
        return "### Remit plan\n\nNothing would change."
    text = ""
    for entries, fields in _DETAIL:
        text = "\n\n".join(_view(view, entries, fields, titled=len(shown) > 1) for view in shown)
        if len(text) <= limit:
            return text
    note = "\n\n... and more than fits here; `remit diff` shows all of it."
    return text[: limit - len(note)].rpartition("\n")[0] + note


def _view(view: PlanView, entries: int, fields: int, *, titled: bool) -> str:
    from cli.plans import counts

    plan = view.plan
    unit = f" of unit {code(plan.unit.partition(':')[2])}" if titled else ""
    lines = [f"### Remit plan{unit}: {counts(plan)}", ""]
    most = max(entries, 4)
    widens = [e for e in view.effects if e.kind is EffectKind.WIDENS]
    for effect in widens[:most]:
        lines.append(f"> [!WARNING]\n> widens {code(effect.subject)}: {escape(effect.message)}\n")
    if len(widens) > most:
        lines.append(f"> [!WARNING]\n> and {len(widens) - most} more that widen\n")
    for guard in plan.guards[:most]:
        lines.append(f"> [!CAUTION]\n> {guard.reason}: {escape(guard.message)}\n")
    if entries:
        lines += ["| | object | where | fields |", "|---|---|---|---|"]
        lines += [_row(entry, fields) for entry in plan.entries[:entries]]
        if len(plan.entries) > entries:
            lines.append(f"| | and {len(plan.entries) - entries} more | | |")
    others = [e for e in view.effects if e.kind is not EffectKind.WIDENS]
    if others:
        lines += ["", "**Effects**", ""]
        lines += [f"- {e.kind} {code(e.subject)}: {escape(e.message)}" for e in others[:most]]
        if len(others) > most:
            lines.append(f"- and {len(others) - most} more")
    return "\n".join([*lines, "", f"`planDigest {plan.digest}`"])


def _row(entry: Entry, fields: int) -> str:
    parts = [f"{code(c.path)}: {code(_value(c.old))} → {code(_value(c.new))}" for c in entry.changes[:fields]]
    if fields and len(entry.changes) > fields:
        parts.append(f"and {len(entry.changes) - fields} more")
    if not fields and entry.changes:
        parts = [f"{len(entry.changes)} fields"]
    name = f"{entry.renamed_from.short} -> {entry.key.short}" if entry.renamed_from else entry.key.short
    place = code(entry.place) if entry.place else ""
    return f"| {entry.action} | {code(name)} | {place} | {'<br>'.join(parts)} |"


def _value(value: object) -> str:
    return "(none)" if value is None else str(value)


def code(text: str) -> str:
    """Inline code that nothing in ``text`` can leave."""
    shown = safe(text)
    if len(shown) > _VALUE:
        shown = shown[: _VALUE - 3] + "..."
    # A backslash before the bar would take the escape away from it.
    shown = shown.replace("`", "'").replace("\\", "\u29f5").replace("|", "\\|")
    return f"`{shown or ' '}`"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line, without links and mentions."""
    out = safe(text)
    if len(out) > _MESSAGE:
        out = out[: _MESSAGE - 3] + "..."
    out = _LINK.sub(lambda found: f"{found[0][:-1]}{_BREAK}{found[0][-1]}", out)
    out = _REFERENCE.sub(rf"\1{_BREAK}", out)
    out = out.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", out)
