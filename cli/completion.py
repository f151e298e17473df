"""What a shell completes: kinds, names from the store, namespaces, fields.

A shell asks while somebody types: every answer is read-only and bounded, and where none can be given (no project, a
store in use or of another version, a line that makes no sense) there is silence, never an error in the prompt.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from schemas.identity import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from store.contract import Snapshot

VARIABLE = "_REMIT_COMPLETE"
MOST = 200
"""Words that are offered at most."""

LONGEST_S = 2.0
"""How long a shell is let wait, for a database that does not answer."""

Completer = Callable[[typer.Context, str], list[str]]


def asked_for() -> bool:
    """Whether a shell asks, rather than a person calls."""
    return VARIABLE in os.environ


def silently(command: Callable[[], int]) -> int:
    """Answer a shell. Whatever goes wrong goes unsaid; installing and showing the script is no asking, and not here."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        try:
            return command()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        except Exception:  # noqa: BLE001  a shell asks: no answer is the answer
            return 0
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()


def _bounded(completer: Callable[[typer.Context, str], Iterator[str]]) -> Completer:
    """The words that begin as what was typed, each once, at most MOST; none when they cannot be had."""

    @functools.wraps(completer)
    def words(context: typer.Context, incomplete: str) -> list[str]:
        found: dict[str, None] = {}
        try:
            for word in completer(context, incomplete):
                if word.startswith(incomplete):
                    found[word] = None
                if len(found) >= MOST:
                    break
        except Exception:  # noqa: BLE001  a shell asks: no answer is the answer
            return list(found)
        return list(found)

    # typer picks what it passes by these; text annotations of another module would not be found.
    words.__annotations__ = {"context": typer.Context, "incomplete": str, "return": list[str]}
    del words.__wrapped__
    return words


@contextmanager
def _snapshot(context: typer.Context) -> Iterator[Snapshot]:
    from cli.project import locate, opened

    # The callback that keeps -C does not run while a shell asks.
    folder = context.find_root().params.get("project")
    project = locate(Path(folder) if folder is not None else None)
    if project.config.store.startswith("postgresql"):  # over a network, which may never answer
        given_up = threading.Timer(LONGEST_S, os._exit, (0,))
        given_up.daemon = True
        given_up.start()
    with opened(project, read_only=True) as store, store.snapshot() as snapshot:
        yield snapshot


def _namespace(context: typer.Context) -> str | None:
    if context.params.get("all_namespaces"):
        return None
    return str(context.params.get("namespace") or os.environ.get("REMIT_NAMESPACE") or DEFAULT_NAMESPACE)


def _names(context: typer.Context, kind: str) -> Iterator[str]:
    from schemas import registry

    info = registry.by_name(kind)
    namespace = _namespace(context) if info.namespaced else None
    with _snapshot(context) as snapshot:
        found = [r.name for r in snapshot.objects(info.kind, namespace=namespace, limit=10 * MOST)]
    yield from found


def _given(context: typer.Context, *parameters: str) -> set[str]:
    """Words that stand on the line already."""
    found: set[str] = set()
    for name in parameters:
        value = context.params.get(name)
        found |= set(value) if isinstance(value, list | tuple) else {value} if isinstance(value, str) else set()
    return found


def _kinds() -> Iterator[str]:
    from schemas import registry

    for name in registry.NAMES:
        yield name.plural


@_bounded
def kind(context: typer.Context, incomplete: str) -> Iterator[str]:
    """A kind."""
    from schemas import registry

    for name in registry.NAMES:
        yield name.singular


@_bounded
def kinds(context: typer.Context, incomplete: str) -> Iterator[str]:
    """What ``get`` takes: kinds with commas, or KIND/NAME."""
    if "/" in incomplete:
        word = incomplete.partition("/")[0]
        for name in _names(context, word):
            yield f"{word}/{name}"
        return
    before, comma, _ = incomplete.rpartition(",")
    chosen = before.split(",")
    for plural in _kinds():
        if plural not in chosen:
            yield f"{before}{comma}{plural}"
    if not comma:
        yield "all"


@_bounded
def names_of_kind(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Names behind a kind, or more of KIND/NAME."""
    given = _given(context, "kinds", "target", "names")
    first = str(context.params.get("kinds") or context.params.get("target") or "")
    if "/" in first:
        word = incomplete.partition("/")[0] if "/" in incomplete else first.partition("/")[0]
        yield from (f"{word}/{name}" for name in _names(context, word) if f"{word}/{name}" not in given)
        return
    if "," not in first:
        yield from (name for name in _names(context, first) if name not in given)


@_bounded
def target(context: typer.Context, incomplete: str) -> Iterator[str]:
    """KIND/NAME; without a slash, of every kind that is declared and of runs."""
    from schemas import registry

    given = _given(context, "targets", "target")
    word, slash, _ = incomplete.partition("/")
    if slash:
        yield from (f"{word}/{name}" for name in _names(context, word) if f"{word}/{name}" not in given)
        return
    namespace = _namespace(context)
    with _snapshot(context) as snapshot:
        for info in (n for n in registry.NAMES if n.kind in (*registry.INTENTS, "Run")):
            if info.singular.startswith(incomplete):
                of = namespace if registry.by_kind(info.kind).namespaced else None
                for found in snapshot.objects(info.kind, namespace=of, limit=MOST):
                    if f"{info.singular}/{found.name}" not in given:
                        yield f"{info.singular}/{found.name}"


def of(kind: str) -> Completer:
    """Completes names of one kind, with and without ``kind/`` before them."""

    def named(context: typer.Context, incomplete: str) -> Iterator[str]:
        word, slash, _ = incomplete.partition("/")
        given = _given(context, "names", "targets")
        for name in _names(context, word if slash else kind):
            if name not in given:
                yield f"{word}/{name}" if slash else name

    return _bounded(named)


@_bounded
def waiting(context: typer.Context, incomplete: str) -> Iterator[str]:
    """What waits for an answer."""
    with _snapshot(context) as snapshot:
        found = snapshot.objects("ApprovalRequest", namespace=_namespace(context), states=["Pending"], limit=MOST)
        owners = [(r.name, snapshot.get_by_uid(r.owner_uid)) for r in found]
    for name, owner in owners:
        yield owner.key.short if owner is not None else name
        yield name


@_bounded
def namespaces(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Namespaces that something is in."""
    with _snapshot(context) as snapshot:
        found = {r.namespace for k in ("Agent", "Mission") for r in snapshot.objects(k, limit=10 * MOST)}
    yield from sorted({*found, DEFAULT_NAMESPACE} - {""})


@_bounded
def plans(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Digests of plans that wait for `confirm`."""
    with _snapshot(context) as snapshot:
        sources = snapshot.objects("Source", limit=MOST)
    for source in sources:
        for unit in source.status.get("units", ()):
            for plan in unit.get("pending", ()):
                yield str(plan["digest"])[7:19]


@_bounded
def fields(context: typer.Context, incomplete: str) -> Iterator[str]:
    """A kind, or a field of it: the fields of the level that is typed."""
    from schemas import explain, registry

    parent, dot, _ = incomplete.rpartition(".")
    if not dot:
        yield from (name.singular for name in registry.NAMES)
        return
    found: Any = explain.explain(parent).field
    yield from (f"{parent}.{child.name}" for child in found.fields)


@_bounded
def event_types(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Types of events, with commas."""
    from schemas.event import EventType

    before, comma, _ = incomplete.rpartition(",")
    yield from (f"{before}{comma}{kind.value}" for kind in EventType)


@_bounded
def conditions(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Goals of ``wait --for``."""
    from schemas.mission import MissionState

    yield "delete"
    yield from (f"condition={name}" for name in ("Ready", "Succeeded"))
    yield from (f"state={state.value}" for state in MissionState)


@_bounded
def modes(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Modes of a Hold."""
    from schemas.hold import HoldMode

    yield from (mode.value for mode in HoldMode)
