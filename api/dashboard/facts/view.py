"""What a page is made from: one moment of the store, the time, what was asked for, and what this site is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.dashboard.commands import Commands
from api.read.engine import Health
from schemas.base import Key
from schemas.errors import NotFound
from schemas.identity import is_name, is_namespace
from schemas.resource import Resource
from store.contract import Snapshot

PAGE = 100
"""Rows of a list on one page."""
SCAN = 1000
"""Objects that are looked through for a filter the store has no index for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration in force, and where its value comes from: default, file, environment or flag."""

    key: str
    value: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """The end of what a program wrote, masked. ``cut``: there is more before it."""

    lines: tuple[str, ...]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages need to know beside the store. ``environment`` stands loud in the header where it is set.
    ``log_of`` gives the end of a run's log, or None where there is none on this machine, ``log_file`` as much of it as
    is worth a download; ``health`` tells how the parts of the engine fare, ``figures`` how long its queues are."""

    title: str = "Remit"
    environment: str = ""
    version: str = ""
    commands: Commands = field(default_factory=Commands)
    settings: Sequence[Setting] = ()
    log_of: Callable[[Snapshot, Resource], Log | None] = lambda _, __: None
    log_file: Callable[[Snapshot, Resource], bytes | None] = lambda _, __: None
    health: Callable[[], Sequence[Health]] = tuple
    figures: Callable[[], dict[str, float]] = dict

    @property
    def loud(self) -> bool:
        """Whether the environment is one where mistakes cost."""
        return self.environment.lower() in ("production", "prod", "live")


@dataclass(frozen=True, slots=True)
class View:
    """One request. ``query`` and ``place`` (parts of the path) are what was typed: never trusted.
    ``find`` searches (``api.read.hits``)."""

    snapshot: Snapshot
    now: datetime
    site: Site
    path: str = "/"
    query: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)
    find: Callable[[str], list[dict[str, Any]]] = lambda _: []

    @property
    def commands(self) -> Commands:
        """Command lines to copy."""
        return self.site.commands

    @property
    def namespace(self) -> str | None:
        """The namespace that lists are narrowed to."""
        given = self.query.get("ns", "")
        return given if is_namespace(given) else None

    def wanted(self, name: str, known: Sequence[str]) -> str:
        """A value of the query that is one of ``known``, else ""."""
        given = self.query.get(name, "")
        return given if given in known else ""

    def name(self, field_name: str) -> str:
        """A name in the query, "" when it is none."""
        given = self.query.get(field_name, "")
        return given if is_name(given) else ""

    def after(self) -> tuple[str, str] | None:
        """Where a list goes on: behind namespace/name."""
        namespace, slash, name = self.query.get("after", "").rpartition("/")
        ok = slash and is_name(name) and (not namespace or is_namespace(namespace))
        return (namespace, name) if ok else None

    def objects(self, kind: str, states: Sequence[str] | None = None) -> tuple[list[Resource], str]:
        """A page of a kind in the namespace asked for, and the address of the next one, "" when this is the last."""
        found = self.snapshot.objects(kind, namespace=self.namespace, states=states, limit=PAGE + 1, after=self.after())
        if len(found) <= PAGE:
            return found, ""
        from api.dashboard.links import query

        last = found[PAGE - 1]
        return found[:PAGE], query(self.path, {**self.query, "after": f"{last.namespace}/{last.name}"})

    def one(self, kind: str) -> Resource:
        """The object that the path names. Raises NotFound."""
        namespace, name = self.place.get("namespace", ""), self.place.get("name", "")
        found = None
        if is_name(name) and (not namespace or is_namespace(namespace)):
            found = self.snapshot.get(Key(kind, namespace, name))
        if found is None:
            raise NotFound(f"there is no {kind} {name[:80]!r} in {namespace[:80] or 'this store'}")
        return found
