"""Whether an agent may propose a change, and what to tell it when not. Merging is never decided here."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.proposal import ProposalRule, Proposals, ProposedKind


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and what would be."""

    message: str
    allowed: tuple[str, ...]


def refusal(
    proposals: Proposals | None, kind: ProposedKind, name: str, fields: Iterable[str], *, create: bool
) -> Refusal | None:
    """None when every field is covered by a rule that names the object; a new object needs one rule with ``create``
    that covers them all, so that two narrow rules do not make a wide one."""
    rules = proposals.allow if proposals is not None else ()
    if not rules:
        return Refusal("this agent may propose nothing: its spec has no proposals.allow", ())
    named = [rule for rule in rules if rule.kind is kind and _names(rule.names, name)]
    if create:
        named = [rule for rule in named if rule.create]
    told = tuple(in_words(rule) for rule in rules)
    if not named:
        what = f"a new {kind}" if create else f"a change of {kind}"
        return Refusal(f"this agent may not propose {what} called {name}", told)
    fields = list(fields)
    if create:
        if any(all(covers(rule.fields, field) for field in fields) for rule in named):
            return None
        outside = [f for f in fields if not any(covers(rule.fields, f) for rule in named)] or fields
    else:
        outside = [f for f in fields if not any(covers(rule.fields, f) for rule in named)]
        if not outside:
            return None
    return Refusal(f"this agent may not propose {', '.join(outside[:5])} of {kind} {name}", told)


def covers(allowed: Sequence[str], field: str) -> bool:
    """Whether a field is one of those, or lies below one."""
    return any(field == one or field.startswith(one + ".") for one in allowed)


def in_words(rule: ProposalRule) -> str:
    """``Budget auditor-*: spec.limits.usd``."""
    new = " (also new ones)" if rule.create else ""
    return f"{rule.kind} {', '.join(rule.names)}{new}: {', '.join(rule.fields)}"


def _names(globs: Iterable[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)
