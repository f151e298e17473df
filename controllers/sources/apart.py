"""Units whose entries stand each for itself: what is wrong is left out, and what was in force of it stays.

Files of a folder are written together, and are applied together or not at all. Objects of a cluster come one by one,
from people who do not know of each other: a mistake of one of them must not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from controllers.sources import kubernetes_objects
from controllers.sources.compile import CompiledUnit
from controllers.sources.units import UnitFiles
from schemas.base import Key
from schemas.errors import Diagnostic


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A unit without what is wrong with it. ``keys`` are the identities that were left out; they must not be taken for
    deleted. ``unit`` has diagnostics only where they name no entry."""

    files: UnitFiles
    unit: CompiledUnit
    keys: frozenset[Key]
    problems: tuple[Diagnostic, ...]
    waits: bool = False
    """Whether it may be right at the next look, though no entry changes: it clashes with what there is."""


def leave_out(
    files: UnitFiles, unit: CompiledUnit, compile_: Callable[[UnitFiles], CompiledUnit], before: LeftOut | None = None,
    *, waits: bool = True,
) -> LeftOut:  # fmt: skip
    """Take out entries until the rest compiles: what is taken out may make another one wrong, that leaned on it.
    ``before`` is what was left out already."""
    problems: list[Diagnostic] = [] if before is None else [*before.problems]
    out: set[str] = set()
    while unit.diagnostics:
        problems += unit.diagnostics
        wrong = {problem.path for problem in unit.diagnostics} & {entry.path for entry in files.entries}
        if not wrong:
            break
        out |= wrong
        kept = tuple(problem for problem in files.problems if problem.path not in out)
        files = replace(files, entries=tuple(e for e in files.entries if e.path not in out), problems=kept)
        unit = compile_(files)
    keys = frozenset(key for path in out if (key := kubernetes_objects.key_of(path)) is not None)
    if before is not None:
        keys |= before.keys
    return LeftOut(files, unit, keys, tuple(sorted(set(problems))), waits=waits)
