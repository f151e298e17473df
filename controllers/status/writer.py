"""Writes status to the status branches: gathers what changed, and commits it in batches.

A component of the engine. What it keeps in memory is a cache: at the start, and whenever a branch is not where it was
left, everything that a source declares is compared with what its branch holds, so neither a crash nor somebody else's
push leaves anything behind. A remote gets the commits by the outbox (`controllers.status.push`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from controllers.runtime.backoff import Backoff
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.sources import git_push, git_status
from controllers.sources.readers import local_url, require_remote
from controllers.sources.units import source_of
from controllers.status import conditions, files
from controllers.status.push import enqueue_push
from schemas import registry
from schemas.base import Key
from schemas.errors import Refused, RemitError, SourceUnreadable, StoreUnavailable, UnknownName
from schemas.kind import ObjectClass
from schemas.resource import Resource
from schemas.source import SourceReason, SourceSpec, SourceType, WritebackMode
from store.contract import Snapshot, Store

log = logging.getLogger(__name__)

POLL_S = 1.0
"""How often changes are looked for: a memory read."""
START_S = 2.0
"""How long the first comparison of everything waits after a start: work comes first."""
CHECK_S = 600.0
"""How often a branch that is quiet is compared with the store all the same."""
_CHANGES = 5_000
_ATTEMPTS = 5
_SHOWN = 40
_BACKOFF = Backoff(initial_s=2.0, maximum_s=300.0)
_KINDS = tuple(n.kind for n in registry.NAMES if n.object_class is not ObjectClass.RECORD)


@dataclass(slots=True)
class _Unit:
    """One source whose status is written. ``paths`` are the files of its objects by uid; ``changed`` holds what is to
    be looked at, keys by uid; times are monotonic."""

    key: Key
    uid: str
    spec: SourceSpec
    branch: git_status.StatusBranch | None = None
    remote: git_push.StatusRemote | None = None
    paths: dict[str, str] = field(default_factory=dict)
    changed: dict[str, Key] = field(default_factory=dict)
    whole: bool = True
    first_s: float = 0.0
    last_s: float = 0.0
    failures: int = 0
    not_before_s: float = 0.0
    checked_s: float = 0.0

    def due_s(self) -> float | None:
        """When it is to be written; None while nothing changed."""
        if not self.whole and not self.changed:
            return None
        if self.whole:
            return self.not_before_s
        quiet, longest = (
            self.spec.status_writeback.quiet_period.total_seconds(),
            self.spec.status_writeback.max_wait.total_seconds(),
        )
        return max(self.not_before_s, min(self.last_s + quiet, self.first_s + longest))


class StatusWriter:
    """Keeps the status branches of all sources. ``project`` is where relative paths start, ``cache`` the folder for
    copies of remote status branches. Works in one thread at a time."""

    def __init__(
        self, store: Store, *, project: Path, cache: Path, clock: Clock, blocking: Blocking, random: Random
    ) -> None:
        self._store = store
        self._project = project
        self._cache = cache
        self._clock = clock
        self._blocking = blocking
        self._random = random
        self._units: dict[str, _Unit] = {}
        self._cursor = -1
        self.commits = 0

    async def run(self, life: Lifecycle) -> None:
        """A component. Writes what is left when it is stopped."""
        life.ready()
        try:
            await wait_for_any(self._clock, START_S, life.stopping)
            while not life.stopping.is_set():
                wait_s = await self._blocking.run(self.pass_once)
                await wait_for_any(self._clock, wait_s, life.stopping)
            await self._blocking.run(self.flush)
        finally:
            await self._blocking.run(self.close)

    def pass_once(self) -> float:
        """Take in what changed and write what is due; the seconds until something may be due again."""
        try:
            self._look()
            for unit in list(self._units.values()):
                due = unit.due_s()
                if due is not None and due <= self._clock.monotonic():
                    self._write(unit)
        except StoreUnavailable as error:
            log.warning("status waits, the store does not answer: %s", error)
            self._cursor = -1
            return POLL_S
        now_s = self._clock.monotonic()
        waits = [due - now_s for unit in self._units.values() if (due := unit.due_s()) is not None]
        return max(0.02, min([POLL_S, *waits]))

    def flush(self) -> None:
        """Write whatever is left, due or not; a fault leaves it to the next start."""
        try:
            self._look()
            for unit in self._units.values():
                if unit.due_s() is not None and not unit.failures:
                    self._write(unit)
        except StoreUnavailable as error:
            log.warning("status was not written at the end: %s", error)

    def close(self) -> None:
        """Let go of the repositories; the next pass opens them again."""
        for unit in self._units.values():
            if unit.branch is not None:
                unit.branch.close()
        self._units.clear()
        self._cursor = -1

    # What changed.

    def _look(self) -> None:
        if self._cursor >= 0 and self._store.cursor() == self._cursor:
            self._check_branches()
            return
        with self._store.snapshot() as snapshot:
            self._follow_sources(snapshot)
            latest = snapshot.latest_version()
            if self._cursor < snapshot.oldest_cursor() or self._cursor < 0:
                for unit in self._units.values():
                    unit.whole = True
            else:
                self._take(snapshot, latest)
            self._cursor = latest
        self._check_branches()

    def _take(self, snapshot: Snapshot, latest: int) -> None:
        if not self._units:
            return  # nobody is written anywhere
        cursor = self._cursor
        by_key = {unit.key: unit for unit in self._units.values()}
        while cursor < latest:
            changes = snapshot.changes_since(cursor, limit=_CHANGES)
            if not changes:
                return
            found = snapshot.get_many([c.key for c in changes])
            now_s = self._clock.monotonic()
            for change in changes:
                resource = found.get(change.key)
                concerned = {u.uid: u for u in self._units.values() if change.uid in u.paths}
                source = _source_of(resource) if resource is not None else None
                owner = by_key.get(source) if source is not None else None
                if owner is not None:
                    concerned[owner.uid] = owner
                for unit in concerned.values():
                    if not unit.changed:
                        unit.first_s = now_s
                    unit.last_s = now_s
                    unit.changed[change.uid] = change.key
            cursor = changes[-1].resource_version

    def _follow_sources(self, snapshot: Snapshot) -> None:
        """Sources that came, went, or are written elsewhere now."""
        seen: set[str] = set()
        for source in snapshot.objects("Source"):
            spec = SourceSpec.model_validate(source.spec)
            wanted = spec.type is SourceType.GIT and spec.status_writeback.mode is not WritebackMode.NEVER
            if not wanted or source.deletion_at is not None:
                continue
            seen.add(source.uid)
            known = self._units.get(source.uid)
            if known is not None and (known.spec, known.key) == (spec, source.key):
                continue
            self._drop(source.uid)
            self._units[source.uid] = _Unit(source.key, source.uid, spec)
        for uid in self._units.keys() - seen:
            self._drop(uid)

    def _drop(self, uid: str) -> None:
        unit = self._units.pop(uid, None)
        if unit is not None and unit.branch is not None:
            unit.branch.close()

    def _check_branches(self) -> None:
        """Now and then a branch is looked at although nothing changed: somebody may have pushed to it."""
        now_s = self._clock.monotonic()
        for unit in self._units.values():
            if now_s - unit.checked_s >= CHECK_S and not unit.failures:
                unit.whole = True

    def look_again(self, source_uid: str) -> None:
        """Compare everything with the branch at the next pass: somebody else wrote to it. From any thread."""
        unit = self._units.get(source_uid)
        if unit is not None:
            unit.whole = True

    # Writing.

    def _write(self, unit: _Unit) -> None:
        """Write one source's batch, and say on the source how that went."""
        whole = unit.whole
        try:
            self._commit(unit)
        except git_status.Moved:
            unit.whole = True
            unit.not_before_s = self._clock.monotonic() + 1.0
            return
        except (Refused, SourceUnreadable, OSError, ValueError) as error:
            unit.failures += 1
            unit.whole = True
            unit.not_before_s = self._clock.monotonic() + _BACKOFF.delay(unit.failures, self._random)
            if unit.branch is not None:
                unit.branch.close()
            reason = conditions.reason_of(error)
            message = str(error) if isinstance(error, RemitError) else f"{unit.key.short}: {error}"
            conditions.set_on(self._store, unit.key, "StatusWritten", reason, message, good=False)
            return
        unit.failures = 0
        unit.not_before_s = 0.0
        if unit.remote is None:
            where = f"{unit.branch.ref if unit.branch else ''} of {unit.spec.url}"
            conditions.set_on(self._store, unit.key, "StatusWritten", SourceReason.STATUS_WRITTEN, where, good=True)
        elif whole or unit.remote.is_behind():
            enqueue_push(self._store, unit.key, unit.uid, unit.remote.tip())

    def _commit(self, unit: _Unit) -> None:
        self._open(unit)
        assert unit.branch is not None
        for _ in range(_ATTEMPTS):
            if unit.remote is not None and unit.branch.adopt(git_push.THEIRS):
                unit.whole = True
            whole = unit.whole or not unit.branch.is_current
            keys = dict(unit.changed)
            with self._store.snapshot() as snapshot:
                changes = self._everything(snapshot, unit) if whole else self._some(snapshot, unit, keys)
            try:
                commit = unit.branch.commit(changes.files, changes.message(), self._clock.now())
            except git_status.Moved:
                unit.whole = True
                continue
            if commit is not None:
                self.commits += 1
            unit.paths = changes.paths
            unit.changed = {uid: key for uid, key in unit.changed.items() if keys.get(uid) != key}
            if whole:
                unit.whole = False
                unit.checked_s = self._clock.monotonic()
            return
        raise git_status.Moved

    def _open(self, unit: _Unit) -> None:
        require_remote(unit.key, unit.spec)
        url = local_url(unit.spec.url, self._project)
        local = git_status.local_path(url)
        if local is None and unit.spec.status_writeback.mode is not WritebackMode.ALWAYS:
            raise Refused(
                "the repository is remote, and statusWriteback.mode is Auto: set it to Always, and let the engine push",
                reason=SourceReason.NOT_WRITABLE,
            )
        if local is None:
            unit.remote = git_push.StatusRemote(url, unit.spec.status_writeback.branch, self._cache)
            local = unit.remote.prepare()
        if unit.branch is None:
            unit.branch = git_status.StatusBranch(
                local, unit.spec.status_writeback.branch, marker=_marker(unit.key), sign=unit.spec.status_writeback.sign
            )

    def _everything(self, snapshot: Snapshot, unit: _Unit) -> _Changes:
        """What brings the branch, as it is now, to what the store says."""
        assert unit.branch is not None
        there = unit.branch.read()
        changes = _Changes(unit.key.name, {})
        for resource in _objects_of(snapshot, unit.key):
            changes.put(resource, there, unit.branch)
        for path in there.keys() - set(changes.paths.values()):
            changes.remove(path)
        return changes

    def _some(self, snapshot: Snapshot, unit: _Unit, keys: Mapping[str, Key]) -> _Changes:
        assert unit.branch is not None
        changes = _Changes(unit.key.name, dict(unit.paths))
        found = snapshot.get_many(keys.values())
        gone = []
        for uid, key in keys.items():
            before = changes.paths.pop(uid, None)
            resource = found.get(key)
            if resource is not None and resource.uid == uid and _source_of(resource) == unit.key:
                changes.put(resource, (before,), unit.branch)
            if before is not None:
                gone.append(before)
        kept = {changes.paths[uid] for uid in keys if uid in changes.paths}
        for path in gone:
            if path not in kept:
                changes.remove(path)
        return changes


class _Changes:
    """Files to write (None removes one), and the paths of all objects once that is done."""

    def __init__(self, source: str, paths: dict[str, str]) -> None:
        self._source = source
        self.paths = paths
        self.files: dict[str, bytes | None] = {}
        self._lines: list[str] = []

    def put(self, resource: Resource, known: Iterable[str | None], branch: git_status.StatusBranch) -> None:
        try:
            path = files.path_of(resource.key)
        except (ValueError, UnknownName) as error:
            log.warning("no status is written for an object: %s", error)
            return
        self.paths[resource.uid] = path
        content = files.render(resource)
        if branch.holds(path, content):
            return
        self.files[path] = content
        sign = "~" if path in known else "+"
        self._lines.append(f"{sign} {path.removesuffix('.yaml')} {files.summary(resource)}".rstrip())

    def remove(self, path: str) -> None:
        self.files[path] = None
        self._lines.append(f"- {path.removesuffix('.yaml')}")

    def message(self) -> str:
        """Subject and body of the commit: what changed, at most 40 lines of it."""
        count = len(self._lines)
        if not count:
            return f"Begin the status of source {self._source}"
        shown = sorted(self._lines, key=lambda line: line[2:])[:_SHOWN]
        if count == 1:
            return f"Status: {shown[0]}"[:200]
        more = [f"... and {count - _SHOWN} more"] if count > _SHOWN else []
        return "\n".join([f"Status: {count} objects of source {self._source}", "", *shown, *more])


def _source_of(resource: Resource) -> Key | None:
    """The source whose branch shows the object; None for none."""
    if resource.kind == "Source":
        return resource.key
    return source_of(resource.unit) if resource.unit else None


def _objects_of(snapshot: Snapshot, source: Key) -> Iterable[Resource]:
    for kind in _KINDS:
        yield from (r for r in snapshot.objects(kind) if _source_of(r) == source)


def _marker(source: Key) -> bytes:
    return (
        f"# Status of source {source.name}\n\n"
        f"Written by Remit for the Source {source.namespace}/{source.name}: one file for each object that it declares,"
        " as\n`<namespace>/<kind>/<name>.yaml`. Nothing reads this branch; what is edited here is written over.\n"
    ).encode()
