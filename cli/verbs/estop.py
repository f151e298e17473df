"""Stopping everything, and going on after that: estop."""

from __future__ import annotations

import queue
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common
from cli.failures import Exit, Failure
from cli.output import paint, safe
from cli.program import shown
from schemas.base import DEFAULT_NAMESPACE, is_name, is_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.project import Project
    from controllers.holds.stop_file import StopFile
    from schemas.base import Key
    from schemas.hold import Released
    from schemas.resource import Resource
    from store.contract import Snapshot

_PATIENCE_S = 1.5
"""So long the store may take before the file is written: an e-stop does not queue."""
_LATE_S = 4.0
"""So long it is waited, with the file in force, whether the store was only slow."""
_PICKED_UP_S = 2.0
_RELEASE = ("release", "clear")


# The words of the verb; `kubectl remit estop` takes the same.
Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="release: end it, or let agent/NAME, tenant/NAME work again first.", metavar="[release [PART]...]"
    ),
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; the release needs it.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Stop only this tenant; release its e-stop.")]
Percent = Annotated[
    int | None, typer.Option("--percent", min=1, max=100, help="With release: so many agents of a hundred first.")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("estop")(estop)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A Hold that stands in the store. ``running`` runs are to be stopped."""

    hold: Resource
    changed: bool
    running: int


def estop(
    context: typer.Context,
    words: Words = None,
    reason: Reason = "",
    tenant: Tenant = "",
    percent: Percent = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Stop everything now: nothing is started or allowed any more, and what runs is told to stop.

    When the store cannot be written in time, a file beside it does the same: ESTOP.

    Examples:
      remit estop --reason "it writes to customers"
      remit estop --tenant acme --reason "asked for by acme"
      remit estop release agent/links --reason "try one first"
      remit estop release --percent 25 --reason "looks good"
      remit estop release --reason "fixed in 3f2a1c"
    """
    if words and words[0] not in _RELEASE:
        raise Failure(f"remit estop knows one word, release; not {words[0][:40]!r}", hint="remit estop --help")
    _check(reason, tenant, bool(words))
    if words:
        _release(context, tenant, reason, part_of(words[1:], percent, namespace))
    elif percent is not None:
        raise Failure("--percent goes with the release: remit estop release --percent 25 --reason WHY")
    else:
        _stop(context, tenant, reason.strip() or "no reason was given")


def _check(reason: str, tenant: str, releases: bool) -> None:
    if releases and not reason.strip():
        raise Failure("the release of an e-stop needs --reason: it stands in the audit log", code=Exit.REFUSED)
    if tenant and not is_namespace(tenant):
        raise Failure(f"--tenant {tenant[:60]!r} is no name of a tenant")


def _stop(context: typer.Context, tenant: str, reason: str) -> None:
    project = common.project_of(context)
    what = f"tenant {tenant}" if tenant else "everything"
    _import()
    attempt = _Try(lambda: _place(project, reason, tenant))
    try:
        placed = attempt.within(_PATIENCE_S)
    except Exception as error:  # noqa: BLE001  whatever keeps the store from taking it, the file still may
        file = _by_file(project, what, reason, tenant, error)
        if isinstance(error, TimeoutError):
            _taken_after_all(attempt, file, tenant)
        return
    key = placed.hold.key
    if not placed.changed:
        print(f"{key.short} stands already, since {_since(placed.hold)}: {what} is stopped")
    else:
        print(paint(f"STOPPED {what}", "bad") + f": {key.short}. Nothing is started or allowed from now on")
    sys.stdout.flush()
    if placed.running:
        _stop_programs(context, project, key, placed.running, tenant)
    print(f"go on: {shown(_release_words(tenant))}")


def _release_words(tenant: str) -> str:
    return "remit estop release" + (f" --tenant {tenant}" if tenant else "") + " --reason WHY"


def _since(hold: Resource) -> str:
    from schemas.quantities import format_time

    return format_time(hold.created_at)


def _place(project: Project, reason: str, tenant: str) -> _Placed:
    from cli.project import me, opened
    from controllers.holds.estop import place
    from schemas.run import ACTIVE_STATES

    with opened(project) as store, store.transaction(me()) as tx:
        hold, changed = place(tx, reason, tenant=tenant)
        return _Placed(hold, changed, tx.count("Run", namespace=tenant or None, states=ACTIVE_STATES))


class _Try:
    """Something carried out in a thread of its own, so that nobody has to wait for its end."""

    def __init__(self, work: Callable[[], _Placed]) -> None:
        self._answers: queue.SimpleQueue[_Placed | Exception] = queue.SimpleQueue()
        self._work = work
        threading.Thread(target=self._carry_out, daemon=True, name="estop").start()

    def _carry_out(self) -> None:
        try:
            self._answers.put(self._work())
        except Exception as error:  # noqa: BLE001  handed on to who waits
            self._answers.put(error)

    def within(self, seconds: float) -> _Placed:
        """What came of it. Raises what it raised, TimeoutError when it takes longer; it goes on then."""
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"it did not answer within {seconds:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _import() -> None:
    """What the store needs, before it is given its time."""
    import controllers.holds.estop  # noqa: F401
    import store.open  # noqa: F401


def _taken_after_all(attempt: _Try, file: StopFile, tenant: str) -> None:
    """A store that was slow and has it by now needs the file no more: with it gone, one release ends the stop."""
    try:
        placed = attempt.within(_LATE_S)
        file.remove(tenant)
    except Exception:  # noqa: BLE001  the file stays, which is what was said
        return
    text = f"the store took it after all, as {placed.hold.key.short}: the file was taken away again"
    print(safe(text), file=sys.stderr)


def _by_file(project: Project, what: str, reason: str, tenant: str, error: Exception) -> StopFile:
    """Write the file, and say so."""
    from cli.moment import now
    from cli.project import me

    file = _stop_file(project)
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    try:
        path = file.write(reason, by=me().subject, at=now(), tenant=tenant)
    except OSError as fault:
        raise Failure(
            f"NOT STOPPED: neither the store nor the file {file.of(tenant)} can be written",
            f"the store: {why}",
            f"the file: {(fault.strerror or str(fault)).lower()}",
            "make that file by any means (its content does not matter), or end the engine and its programs",
            hint=f"touch {file.of(tenant)}",
        ) from error
    for line in (
        f"the store cannot be written: {why}",
        f"STOPPED {what} by file: {path}",
        "this engine starts and allows nothing while the file is there, whatever its store does, and stops what runs;"
        " as soon as the store answers, a Hold is made of it, which stays",
        "engines with another ESTOP file learn of it through the store only: run this there, too",
    ):
        print(safe(line), file=sys.stderr)
    told = _programs(project, tenant)
    if told:
        print(f"{told} program(s) of this machine were told to stop", file=sys.stderr)
    return file


def _stop_programs(context: typer.Context, project: Project, key: Key, count: int, tenant: str) -> None:
    """See that the engine stops what runs; where none does, tell the programs of this machine."""
    with common.store_of(context, read_only=True) as store:
        if common.wait_until(store, _PICKED_UP_S, lambda snapshot: _seen(snapshot, key)):
            print(f"{count} run(s) are told to stop")
            return
    told = _programs(project, tenant)
    print(f"no engine took it up within {_PICKED_UP_S:g} s; {told} program(s) of this machine were told to stop")


def _seen(snapshot: Snapshot, key: Key) -> bool:
    found = snapshot.get(key)
    return found is None or found.status.get("observedGeneration") == found.generation


def _programs(project: Project, tenant: str) -> int:
    """Tell the programs that the supervisor of this project holds to stop, without an engine."""
    import asyncio

    from controllers.dispatch.command import CommandExecutor
    from controllers.dispatch.environment import LocalSecrets
    from controllers.runtime.blocking import InlineBlocking
    from controllers.runtime.clock import SystemClock
    from schemas.errors import RemitError

    async def tell() -> int:
        executor = CommandExecutor(project.state, SystemClock(), InlineBlocking(), secrets=LocalSecrets(variables={}))
        try:
            return await executor.stop_all(frozenset({tenant}) if tenant else None)
        finally:
            await executor.close()

    try:
        return asyncio.run(tell()) if project.state.is_dir() else 0
    except (RemitError, OSError) as error:
        print(safe(f"programs of this machine cannot be told: {error}"), file=sys.stderr)
        return 0


def _stop_file(project: Project) -> StopFile:
    from controllers.holds.stop_file import of_project

    return of_project(project.config, project.root, project.state)


def _release(context: typer.Context, tenant: str, reason: str, part: Released | None) -> None:
    """End an e-stop, or a part of it."""
    from cli.project import me
    from controllers.holds import effective
    from controllers.holds import estop as rules
    from controllers.holds.stops import Stops

    file = _stop_file(common.project_of(context))
    lines: list[str] = []
    missing = 0
    with common.store_of(context) as store, store.transaction(me()) as tx:
        effective.adopt(tx, Stops(file).of_files())
        found = rules.standing(tx, tenant)
        placed = [hold for hold in found if not hold.unit]
        if not placed:
            raise _nothing(tx, tenant, found, rules.standing(tx))
        _known(tx, part)
        for hold in placed:
            answer = rules.release(tx, hold, reason, part)
            missing = max(missing, answer.missing)
            lines += _told(answer, part, file)
        if not missing:
            # Before the Hold is gone for others: an engine that still saw the file would make it anew.
            file.remove(tenant)
        lines += [f"{hold.key.short} still stands: {_place_of(hold)} declares it" for hold in found if hold.unit]
    for line in lines:
        print(safe(line))
    if missing:
        raise Failure(
            f"recorded, but {missing} more person(s) have to ask for the same", code=Exit.REFUSED,
            hint="as another user: the same command",
        )  # fmt: skip


def _known(snapshot: Snapshot, part: Released | None) -> None:
    """A misspelt agent would stay stopped, while people believe that it works again. Raises Failure."""
    from schemas.base import Key

    for agent in part.agents if part is not None else ():
        if snapshot.get(Key("Agent", agent.namespace or DEFAULT_NAMESPACE, agent.name)) is None:
            raise Failure(f"there is no agent {agent.name!r}; nothing was released", hint="remit get agents -A")


def _told(answer: Any, part: Released | None, file: StopFile) -> list[str]:
    from controllers.holds.effective import facts_of

    hold = answer.hold
    facts = facts_of(hold)
    if answer.missing:
        return [f"{hold.key.short}: asked for by {answer.quorum - answer.missing} of {answer.quorum}"]
    lines = [f"{hold.key.short} released" if part is None else f"{hold.key.short}: {_rest(hold)}"]
    if facts.file and facts.file not in (file.place(), file.place(hold.namespace)):
        lines.append(f"it was made from {facts.file}: while that file is there, the engine beside it stops again")
    return lines


def _rest(hold: Resource) -> str:
    from controllers.holds.estop import describe
    from schemas.hold import HoldSpec

    spec = HoldSpec.model_validate(hold.spec)
    assert spec.released is not None
    return f"{describe(spec.released, hold.namespace)}; the rest stays stopped"


def _place_of(hold: Resource) -> str:
    return hold.provenance.place if hold.provenance is not None else "a source"


def _nothing(snapshot: Snapshot, tenant: str, declared: list[Resource], everywhere: list[Resource]) -> Failure:
    if declared:
        return Failure(
            f"{declared[0].key.short} is declared at {_place_of(declared[0])}: take it out there, by a commit",
            code=Exit.REFUSED,
        )
    if tenant and everywhere:
        return Failure(
            f"no e-stop of tenant {tenant} stands, but one over everything",
            hint=f"remit estop release tenant/{tenant} --reason WHY",
        )
    return Failure(f"no e-stop{f' of tenant {tenant}' if tenant else ''} stands", hint="remit get holds -A")


def part_of(targets: list[str], percent: int | None, namespace: str) -> Released | None:
    """What the words name; None for all of it."""
    from schemas.base import ObjectRef
    from schemas.hold import Released

    tenants, agents = [], []
    for target in targets:
        kind, _, name = target.partition("/")
        if kind in ("tenant", "tenants") and is_namespace(name):
            tenants.append(name)
        elif kind in ("agent", "agents", "ag") and is_name(name):
            agents.append(ObjectRef(name=name, namespace=namespace))
        else:
            raise Failure(f"{target[:60]!r}: write agent/NAME or tenant/NAME")
    if not tenants and not agents and percent is None:
        return None
    return Released(tenants=tuple(sorted(set(tenants))), agents=tuple(agents), percent=percent or 0)
