"""The sync pipeline of one source: fetch, verify, compile, plan, guards, apply, say how it went.

A source that cannot be read never means "empty": every failure keeps the last good revision and is said on the Source.
Each unit is applied whole, in one transaction with its events, or not at all; a unit that fails leaves the others be.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controllers.runtime.result import DONE, RequeueAfter, Result
from controllers.sources import (
    apart,
    collector,
    confirming,
    increment,
    kubernetes_acts,
    kubernetes_voices,
    listed,
    planning,
    provenance,
    saying,
)
from controllers.sources.apply import Applied, apply
from controllers.sources.checked import Checked, recall, record
from controllers.sources.compile import BlobCache, CompiledUnit, compile_unit, compiler_version
from controllers.sources.git import GitReader
from controllers.sources.git_trust import Trust
from controllers.sources.tree import SourceReader, Tree, Version
from controllers.sources.units import UnitFiles, source_id, split, unit_id
from decisions.plan import Action, Guard, Plan
from schemas.base import Key
from schemas.conditions import is_true
from schemas.errors import Conflict, Diagnostic, SourceUnreadable, StoreUnavailable
from schemas.event import EventType
from schemas.resource import RECONCILE_REQUESTED_AT, Actor, ActorKind, Resource
from schemas.source import PendingPlan, SourceReason, SourceSpec, SourceStatus, UnitStatus
from store.contract import Store, Transaction

log = logging.getLogger(__name__)

RECHECK = timedelta(minutes=10)
"""How often an unchanged revision is compared with the store all the same: the insurance against drift."""
FAILED_RETRY_S = 15.0
"""A source that cannot be read is looked at again after this, or its interval if that is shorter."""
SOON_S = 1.0
"""A directory that was being written is looked at again after this."""
_SHOWN = 50

Follow = Callable[[Transaction, Sequence[Key]], Callable[[], object]]
"""What is done at once, in the same transaction, about the new objects that a look brought, where it brought nothing
else. What it returns is called after the commit. Whatever it raises, the look is written without it."""

ReaderOf = Callable[[Resource, SourceSpec], SourceReader]
"""The reader of a source; the same one for the same spec."""


class _NotAlong(Exception):
    """What follows from a look could not be done in its transaction."""


@dataclass(slots=True)
class _Memory:
    """What this process knows of a source: enough to leave an unchanged one alone."""

    checked: Checked | None = None
    ground: increment.Ground | None = None
    head: str = ""
    listed: str = ""
    """The tree whose listing is kept beside the cache, as far as this process knows."""


@dataclass(slots=True)
class _Outcome:
    """How one unit went."""

    status: UnitStatus
    applied: Applied = field(default_factory=Applied)
    resting: bool = False
    faults: tuple[Diagnostic, ...] = ()
    """What only the live objects told, where nothing of the unit was applied because of it."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a pass knows before it applies anything, to be said at its end: the status it found, the request it answers,
    open confirmations by digest, who signed the revision, and how history was rewritten."""

    status: SourceStatus
    token: str | None
    confirmed: dict[str, Resource]
    signer: str
    rewritten: str


class SourceSync:
    """Keeps sources applied. ``jitter`` gives a factor around 1 for each wait. Called from worker threads, for one
    source at a time."""

    def __init__(
        self, store: Store, reader_of: ReaderOf, *, cache: BlobCache, now: Callable[[], datetime],
        jitter: Callable[[], float], follow: Follow | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._reader_of = reader_of
        self._cache = cache
        self._now = now
        self._jitter = jitter
        self._follow = follow
        self._memory: dict[str, _Memory] = {}

    def __call__(self, key: Key) -> Result:
        """One pass over a source; returns when to look again."""
        with self._store.snapshot() as snapshot:
            source = snapshot.get(key)
            confirmed = confirming.open_confirmations(snapshot)
        if source is None or source.deletion_at is not None:
            return DONE
        spec = SourceSpec.model_validate(source.spec)
        status = SourceStatus.model_validate(source.status)
        interval = spec.interval.total_seconds()
        token = source.annotations.get(RECONCILE_REQUESTED_AT)
        asked = token is not None and token != status.last_handled_reconcile
        if spec.suspend:
            self._say(source, status, SourceReason.SUSPENDED, "spec.suspend is set", token=token)
            return DONE
        try:
            self._sync(source, spec, status, confirmed, asked=asked, token=token)
        except SourceUnreadable as error:
            reason = _reason(error.reason)
            memory = self._memory.pop(source.uid, None)
            self._fail(source, reason, str(error), token, memory.head if memory is not None else "")
            pause = SOON_S if reason is SourceReason.SOURCE_CHANGING else FAILED_RETRY_S
            return RequeueAfter(min(interval, pause) * self._jitter())
        return RequeueAfter(interval * self._jitter())

    def _sync(
        self, source: Resource, spec: SourceSpec, status: SourceStatus, confirmed: dict[str, Resource],
        *, asked: bool, token: str | None,
    ) -> None:  # fmt: skip
        memory = self._memory.get(source.uid)
        if memory is None:
            known = recall(self._cache, source.uid) if is_true(status.conditions, "Ready") else None
            memory = self._memory[source.uid] = _Memory(*known) if known is not None else _Memory()
        memory.head = ""
        reader = self._reader_of(source, spec)
        reader.fetch()
        head = memory.head = reader.head()
        trust = provenance.trusted(reader, spec)
        if not asked and self._rests(memory.checked, source, status, head, confirmed, trust):
            return
        commit = head.rpartition(":")[2]
        if any(commit.startswith(q) for q in spec.quarantine):
            raise SourceUnreadable(
                f"{head} is in spec.quarantine: what was in force stays; undo it with 'remit revert {commit[:12]}'",
                reason=SourceReason.QUARANTINED,
            )
        signer = provenance.signer(reader, trust, head, self._now())
        rewritten = self._check_history(source, reader, status, head)
        # Whatever comes in between, the next pass looks at everything.
        self._memory[source.uid] = _Memory(head=head, listed=memory.listed)
        found, tree = self._changes(source, status, reader, confirmed, trust, signer, memory, asked=asked, head=head)
        said = _Said(status, token, confirmed, signer, rewritten)
        if found is not None:
            assert memory.checked is not None
            checked = Checked(head, source.generation, memory.checked.at, True, frozenset(confirmed), _digest(trust))
            with collector.paused():
                done = self._narrow(source, spec, found, reader, trust, said, checked)
            if done is not None:
                self._memory[source.uid] = _Memory(done, found.ground, listed=memory.listed)
                return
        with collector.paused():
            tree = tree if tree is not None else self._listing(source, reader, head)
            outcomes, compiled = self._units(source, spec, status, tree, reader, confirmed, trust, signer)
            ground = increment.ground(tree, compiled, reader)
            del compiled  # while the collector rests: else it looks through every declaration, and finds no garbage
        units, settled = _settled(outcomes)
        checked = Checked(
            tree.revision, source.generation, self._now(), settled, frozenset(confirmed), _digest(trust)
        )  # fmt: skip
        kept = self._memory[source.uid].listed
        self._finish(source, said, units, checked, ground, tree if kept != tree.tree_id else None)
        self._memory[source.uid] = _Memory(checked, ground, listed=tree.tree_id if settled else kept)

    def _listing(self, source: Resource, reader: SourceReader, head: str) -> Tree:
        """What the head declares: from git, or as an earlier process listed the same tree."""
        version = reader.version(head) if isinstance(reader, GitReader) else None
        known = listed.recall(self._cache, source.uid, version) if version is not None else None
        if known is None:
            return reader.read_tree(head)
        self._memory[source.uid].listed = known.tree_id
        return known

    def _changes(
        self, source: Resource, status: SourceStatus, reader: SourceReader, confirmed: dict[str, Resource],
        trust: Trust | None, signer: str, memory: _Memory, *, asked: bool, head: str,
    ) -> tuple[increment.Narrow | None, Tree | None]:  # fmt: skip
        """What the head brings, compiled, None when everything has to be looked at; and the tree, where it was
        listed."""
        known, name = memory.ground, source_id(source.key)
        before = memory.checked.head if memory.checked is not None else ""
        if asked or known is None or not self._rests(memory.checked, source, status, before, confirmed, trust):
            return None, None
        delta, tree = increment.difference(known, before, head, reader)
        if delta is None:
            return None, tree
        with self._store.snapshot() as snapshot:
            found = increment.narrow(name, known, delta, tree, reader, self._cache, snapshot, signer=signer)
            if found is None or planning.refused(snapshot, source.key, found.units):
                return None, tree
            for unit in found.units:
                if set(snapshot.units_of(unit.by_key).values()) - {unit_id(name, unit.path)}:
                    return None, tree
        if {unit.path for unit in found.units} - {unit.path for unit in status.units}:
            return None, tree
        return found, tree

    def _narrow(
        self, source: Resource, spec: SourceSpec, found: increment.Narrow, reader: SourceReader,
        trust: Trust | None, said: _Said, checked: Checked,
    ) -> Checked | None:  # fmt: skip
        """Apply only what changed since the last pass, and say so; None when everything has to be looked at. What is
        applied, the status and the record of the look are one transaction where one unit changed, as a rule: else a
        process that dies in between leaves a record that knows nothing of what was applied, so it is voided before."""
        status, tree = said.status, found.version
        outcomes = {old.path: self._unit_done(source, old, tree, Applied(), (), old.objects) for old in status.units}
        before = {unit.path: unit for unit in status.units}
        if len(found.units) > 1:
            void = record(source.uid, replace(checked, settled=False), None)
            self._cache.cache_blobs(compiler_version(), {**void, **found.fresh})
        said_of: _Outcome | None = None
        result = checked

        def finish(path: str, tx: Transaction, outcome: _Outcome | None) -> None:
            nonlocal said_of, result
            outcomes_now = outcomes | ({path: outcome} if outcome is not None else {})
            units, settled = _settled(outcomes_now.values())
            said_of, result = outcome, replace(checked, settled=settled)
            tx.cache_blobs(compiler_version(), found.fresh)
            with tx.acting(_speaker(source.key)):
                self._finish_in(tx, source, said, units, result, found.ground)

        outcome = None
        for number, unit in enumerate(found.units, 1):
            last = functools.partial(finish, unit.path) if number == len(found.units) else None
            outcome = outcomes[unit.path] = self._apply(
                source, spec, before[unit.path], tree, unit, (), reader, said.confirmed, frozenset(), trust,
                whole=False, last=last,
            )  # fmt: skip
            if outcome.status.errors:
                return None
        if outcome is None or said_of is not outcome:  # there was nothing to apply, or a transaction that was lost
            with self._writing(source.key) as tx:
                finish("", tx, None)
        return result

    def _rests(
        self, checked: Checked | None, source: Resource, status: SourceStatus, head: str, confirmed: Iterable[str],
        trust: Trust | None,
    ) -> bool:  # fmt: skip
        """Whether nothing changed since the last full comparison, and that one is not long ago."""
        now = Checked(head, source.generation, self._now(), True, frozenset(confirmed), _digest(trust))
        return checked is not None and head == status.revision and checked.stands(now, RECHECK)

    def _check_history(self, source: Resource, reader: SourceReader, status: SourceStatus, head: str) -> str:
        """A new head that shares no history with the applied one is not taken: it may be another repository. One that
        shares a part of it is; how it was rewritten comes back, to be said."""
        check = getattr(reader, "require_common_history", None)
        if check is None or not status.revision or status.revision == head:
            return ""
        if status.observed_generation != source.generation:
            return ""  # another repository was configured: its history is another one
        if provenance.follows(reader, status.revision, head):
            return ""
        check(status.revision, head)
        return provenance.rewritten(reader, status.revision, head)

    def _units(
        self, source: Resource, spec: SourceSpec, status: SourceStatus, tree: Tree, reader: SourceReader,
        confirmed: dict[str, Resource], trust: Trust | None, signer: str,
    ) -> tuple[list[_Outcome], list[tuple[UnitFiles, CompiledUnit]]]:  # fmt: skip
        files = split(tree)
        compile_ = functools.partial(
            compile_unit, source_id(source.key), tree=tree, reader=reader, cache=self._cache, signer=signer
        )
        compiled = [(f, compile_(f)) for f in files]
        left = {f.path: apart.leave_out(f, unit, compile_, waits=False)
                for f, unit in compiled if tree.apart and unit.diagnostics}  # fmt: skip
        whole = compiled
        compiled = [(left[f.path].files, left[f.path].unit) if f.path in left else (f, unit) for f, unit in compiled]
        good = [unit for _, unit in compiled if not unit.diagnostics]
        failed = [f for f, unit in compiled if unit.diagnostics]
        with self._store.snapshot() as snapshot:
            clashes = planning.refused(snapshot, source.key, good)
        before = {u.path: u for u in status.units}
        outcomes = []
        for file, unit in compiled:
            old = before.get(file.path, UnitStatus(path=file.path))
            problems = [*unit.diagnostics, *clashes.get(file.path, ())]
            without = left.get(file.path)
            if tree.apart and problems:
                without = apart.leave_out(file, replace(unit, diagnostics=tuple(problems)), compile_, without)
                file, unit, problems = without.files, without.unit, [*without.unit.diagnostics]
            if problems:
                failure = self._unit_failed(source, old, tree.revision, problems)
                failure.resting = not unit.diagnostics  # what is another's today may be nobody's at the next look
                outcomes.append(failure)
            else:
                elsewhere = frozenset(k for other in good if other is not unit for k in other.by_key)
                while True:
                    keep = elsewhere if without is None else elsewhere | without.keys
                    outcome = self._apply(source, spec, old, tree, unit, failed, reader, confirmed, keep, trust)
                    if not (tree.apart and outcome.faults):
                        break
                    without = apart.leave_out(file, replace(unit, diagnostics=outcome.faults), compile_, without)
                    if without.unit.diagnostics:
                        break
                    file, unit = without.files, without.unit
                if without is not None and not outcome.faults:
                    outcome.resting = outcome.resting or without.waits
                    said = self._unit_failed(source, old, tree.revision, without.problems).status
                    kept = {"reason": said.reason, "message": said.message, "errors": said.errors}
                    outcome.status = outcome.status.model_copy(update=kept)
                outcomes.append(outcome)
        gone = [u for path, u in before.items() if path not in {f.path for f in files} and u.objects]
        for old in gone:
            empty = CompiledUnit(old.path, (), ())
            elsewhere = frozenset(k for other in good for k in other.by_key)
            outcomes.append(self._apply(source, spec, old, tree, empty, failed, reader, confirmed, elsewhere, trust))
        paths = {f.path for f in files}
        return [o for o in outcomes if o.status.path in paths or o.status.objects], whole

    def _apply(
        self, source: Resource, spec: SourceSpec, old: UnitStatus, tree: Version, unit: CompiledUnit,
        failed: Sequence[UnitFiles], reader: SourceReader, confirmed: dict[str, Resource], elsewhere: frozenset[Key],
        trust: Trust | None, *, whole: bool = True, last: Callable[[Transaction, _Outcome], None] | None = None,
    ) -> _Outcome:  # fmt: skip
        """Plan and apply one unit that compiles; a lost race plans again. ``elsewhere`` is what other units declare:
        what moved there is theirs, not gone. ``whole`` as in plan_unit. ``last`` ends the transaction, if there is
        one."""
        name = source_id(source.key)
        follow = self._follow if last is not None else None
        then: Callable[[], object] | None = None
        for attempt in range(5):
            with self._store.snapshot() as snapshot:
                keep = elsewhere | planning.may_have_moved(snapshot, name, unit, failed, reader)
                planned = planning.plan_unit(snapshot, name, unit, tree.revision, spec, keep=keep, whole=whole)
                proven = kubernetes_acts.prove(snapshot, planned.plan, planned.declared, planned.live, self._now())
            if planned.faults:
                failure = self._unit_failed(source, old, tree.revision, planned.faults)
                failure.resting, failure.faults = True, planned.faults
                return failure
            plan = planned.plan
            blocked = plan.blocked(lambda digest: digest in confirmed) - proven.meant
            pending = [g for g in plan.guards if any(e.key in blocked for e in g.entries)]
            resting = planning.resting(planned, self._now())
            blocked |= resting | proven.withheld.keys()
            if not plan.entries and not plan.relocations:
                count = plan.inventory if whole else old.objects
                return self._unit_done(source, old, tree, Applied(), (), count)
            statuses = provenance.act_statuses(reader, trust, tree, plan, planned.declared, self._now())
            statuses |= proven.statuses
            actor = Actor(ActorKind.SYSTEM, f"source:{name}", spec.type)
            try:
                with self._store.transaction(actor) as tx:
                    applied = apply(
                        tx, plan, proven.declared, planned.live, manager=f"git/{name}", blocked=blocked,
                        statuses=statuses,
                    )  # fmt: skip
                    kubernetes_acts.refuse(tx, proven.withheld)
                    kubernetes_voices.hear(tx, plan, planned.declared, planned.live)
                    for digest in {plan.digest, *(g.digest for g in plan.guards)} & confirmed.keys():
                        confirming.use(tx, confirmed[digest])
                    if applied.total:
                        tx.event(
                            EventType.SYNCED,
                            source,
                            reason="Applied",
                            message=f"{_name(unit.path)} at {_short(tree.revision)}: {applied}",
                            data={"unit": unit.path, "revision": tree.revision, "planDigest": plan.digest},
                        )
                    for guard in pending:
                        if not _known(old, guard):
                            tx.event(EventType.GUARD_RAISED, source, reason=guard.reason, message=guard.message,
                                     data={"unit": unit.path, "planDigest": guard.digest})  # fmt: skip
                    if whole:
                        count = planning.inventory_size(tx, unit_id(name, unit.path), unit.by_key)
                    else:
                        count = old.objects + applied.created
                    outcome = self._unit_done(source, old, tree, applied, pending, count)
                    outcome.resting = bool(resting)
                    if last is not None:
                        last(tx, outcome)
                    if follow is not None and _is_all_new(plan, blocked):
                        then = _along(tx, follow, [entry.key for entry in plan.entries])
            except (Conflict, _NotAlong):
                if attempt == 4:
                    raise
                follow = then = None
                continue
            if then is not None:
                then()
            return outcome
        raise AssertionError("the last attempt returns or raises")

    def _unit_done(
        self, source: Resource, old: UnitStatus, tree: Version, applied: Applied, pending: Sequence[Guard], count: int
    ) -> _Outcome:
        since = {p.digest: p.since for p in old.pending}
        plans = tuple(
            PendingPlan(
                digest=g.digest,
                guard=g.reason,
                revision=tree.revision,
                deletes=tuple(e.key.short for e in g.entries if e.action == "delete")[:_SHOWN],
                widens=tuple(f"{e.key.short}: {t}" for e in g.entries for t in e.widens)[:_SHOWN],
                message=g.message,
                since=since.get(g.digest, self._now()),
            )
            for g in pending
        )
        reason = plans[0].guard if plans else SourceReason.SYNCED
        message = f"{plans[0].message}; release: remit confirm {plans[0].digest}" if plans else ""
        changed = applied.total > 0 or old.applied_revision is None
        status = old.model_copy(
            update={
                "revision": tree.revision,
                "applied_revision": tree.revision,
                "reason": reason,
                "message": message,
                "errors": (),
                "objects": count,
                "applied_at": self._now() if changed else old.applied_at,
                "drift_corrected": old.drift_corrected + applied.drift_corrected,
                "pending": plans,
            }
        )
        return _Outcome(status, applied)

    def _unit_failed(
        self, source: Resource, old: UnitStatus, revision: str, problems: Sequence[Diagnostic]
    ) -> _Outcome:
        errors = tuple(str(p) for p in sorted(problems))[:_SHOWN]
        kept = f"; {_short(old.applied_revision)} stays in force" if old.applied_revision else ""
        message = f"{len(problems)} error(s){kept}: {errors[0]}"
        if old.errors != errors or old.revision != revision:
            with self._store.transaction(_speaker(source.key)) as tx:
                tx.event(
                    EventType.SYNC_FAILED,
                    source,
                    reason=SourceReason.INVALID_SPEC,
                    message=f"{_name(old.path)} at {_short(revision)}: {message}",
                    data={"unit": old.path, "revision": revision, "errors": list(errors)},
                )
        return _Outcome(
            old.model_copy(
                update={
                    "revision": revision,
                    "reason": SourceReason.INVALID_SPEC,
                    "message": message,
                    "errors": errors,
                    "pending": (),
                }
            )
        )

    def _finish(
        self, source: Resource, said: _Said, units: tuple[UnitStatus, ...], checked: Checked,
        ground: increment.Ground | None, tree: Tree | None,
    ) -> None:  # fmt: skip
        with self._writing(source.key) as tx:
            self._finish_in(tx, source, said, units, checked, ground)
            if checked.settled and tree is not None:
                tx.cache_blobs(compiler_version(), listed.record(source.uid, tree))

    def _finish_in(
        self, tx: Transaction, source: Resource, said: _Said, units: tuple[UnitStatus, ...], checked: Checked,
        ground: increment.Ground | None,
    ) -> None:  # fmt: skip
        """Say how the pass went, and record the look."""
        worst = next((u for u in units if u.reason is SourceReason.INVALID_SPEC), None) or next(
            (u for u in units if u.pending), None
        )
        reason = worst.reason if worst is not None else SourceReason.SYNCED
        message = f"{_name(worst.path)}: {worst.message}" if worst is not None else ""
        ready = reason is not SourceReason.INVALID_SPEC
        new: dict[str, object] = {
            "revision": checked.head,
            "refused_revision": None,
            "signer": said.signer,
            "last_sync_time": self._now(),
            "units": units,
        }
        pending = {p.digest for u in units for p in u.pending}
        saying.write(
            tx, source.key, reason, message, ready=ready, token=said.token, fields=new,
            unknown=(said.confirmed, pending), rewritten=said.rewritten,
        )  # fmt: skip
        if checked.settled:
            tx.cache_blobs(compiler_version(), record(source.uid, checked, ground))

    def _fail(self, source: Resource, reason: SourceReason, message: str, token: str | None, head: str) -> None:
        """``head`` is the revision that was found and not taken, "" when none was found."""
        fields: dict[str, object] = {"refused_revision": head or None}
        with self._writing(source.key) as tx:
            saying.write(tx, source.key, reason, message, ready=False, token=token, fields=fields)

    def _say(
        self, source: Resource, status: SourceStatus, reason: SourceReason, message: str, *, token: str | None
    ) -> None:
        with self._writing(source.key) as tx:
            saying.write(tx, source.key, reason, message, ready=None, token=token, fields={})

    @contextmanager
    def _writing(self, key: Key) -> Iterator[Transaction]:
        try:
            with self._store.transaction(_speaker(key)) as tx:
                yield tx
        except StoreUnavailable as error:
            log.warning("status of %s could not be written: %s", key, error)
            raise


def _is_all_new(plan: Plan, blocked: Iterable[Key]) -> bool:
    return not blocked and not plan.relocations and all(entry.action is Action.CREATE for entry in plan.entries)


def _along(tx: Transaction, follow: Follow, keys: Sequence[Key]) -> Callable[[], object]:
    try:
        return follow(tx, keys)
    except StoreUnavailable:
        raise
    except Exception as error:
        log.debug("what was brought is looked at by itself: %s", error)
        raise _NotAlong from error


def _speaker(source: Key) -> Actor:
    return Actor(ActorKind.SYSTEM, f"source:{source_id(source)}", "Engine")


def _settled(outcomes: Iterable[_Outcome]) -> tuple[tuple[UnitStatus, ...], bool]:
    """The statuses of units, and whether nothing was left waiting."""
    outcomes = sorted(outcomes, key=lambda o: o.status.path)
    units = tuple(o.status for o in outcomes)
    return units, not any(u.pending for u in units) and not any(o.resting or o.applied.waiting for o in outcomes)


def _known(old: UnitStatus, guard: Guard) -> bool:
    return any(p.digest == guard.digest for p in old.pending)


def _reason(text: str) -> SourceReason:
    try:
        return SourceReason(text)
    except ValueError:
        return SourceReason.REPOSITORY_UNREACHABLE


def _name(path: str) -> str:
    return "specs" if path == "." else f"unit {path}"


def _short(revision: str | None) -> str:
    """``main@sha1:0123456789`` for people."""
    if not revision:
        return "nothing"
    name, _, rest = revision.rpartition(":")
    return f"{name.partition('@')[0]}@{rest[:10]}"


def _digest(trust: Trust | None) -> str:
    return "" if trust is None else trust.digest
