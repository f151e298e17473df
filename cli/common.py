"""What verbs share: options, the way from ``kind/name`` to an object, following the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completion
from cli.failures import Failure
from cli.output import Format
from schemas.identity import DEFAULT_NAMESPACE, Key, is_name

if TYPE_CHECKING:
    from cli.project import Project
    from schemas.kind import KindInfo
    from schemas.resource import Resource
    from store.contract import Snapshot, Store

Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        help="Namespace (tenant) to look in.",
        envvar="REMIT_NAMESPACE",
        autocompletion=completion.namespaces,
    ),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Every namespace.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on printing what changes, until Ctrl-C.")]
Timeout = Annotated[str, typer.Option("--timeout", help="Longest wait, such as 30s or 5m.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the audit log.")]
Context = typer.Context

POLL_S = 0.1
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def is_given(context: typer.Context, option: str) -> bool:
    """Whether the command line itself says it: not a default, and not a variable of the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def project_of(context: typer.Context) -> Project:
    """The project that the command line names."""
    from cli.project import locate

    return locate(context.find_root().obj)


@contextmanager
def store_of(context: typer.Context, *, read_only: bool = False) -> Iterator[Store]:
    """The store of that project. A store that does not exist yet is a project whose engine never ran."""
    from cli.project import opened

    with opened(project_of(context), read_only=read_only) as store:
        yield store


def kind_named(text: str) -> KindInfo:
    """A kind by any of its names. Raises Failure with the nearest one."""
    from schemas import registry
    from schemas.errors import UnknownName

    try:
        return registry.by_name(text)
    except UnknownName as error:
        raise Failure(str(error), hint="remit explain") from None


def key_named(text: str, namespace: str, *, default_kind: str | None = None) -> Key:
    """``mission/audit-links`` (or a bare name, where ``default_kind`` is given) as an identity."""
    kind, slash, name = text.partition("/")
    if not slash:
        if default_kind is None:
            raise Failure(f"write KIND/NAME, such as mission/{text[:60]}")
        kind, name = default_kind, text
    info = kind_named(kind)
    if not is_name(name):
        raise Failure(f"{name[:60]!r} is no name: lower-case letters, digits, '-' and '.', at most 253 characters")
    return Key(info.kind, namespace if info.namespaced else "", name)


def object_named(snapshot: Snapshot, key: Key) -> Resource:
    """The object. Raises Failure with the nearest names."""
    from difflib import get_close_matches

    found = snapshot.get(key)
    if found is not None:
        return found
    names = [r.name for r in snapshot.objects(key.kind)]
    near = get_close_matches(key.name, names, n=3)
    elsewhere = [r.namespace for r in snapshot.objects(key.kind) if r.name == key.name]
    details = [f"did you mean {' or '.join(near)}?"] if near else []
    details += [f"there is one in namespace {', '.join(elsewhere)}: add -n {elsewhere[0]}"] if elsewhere else []
    where = "" if key.namespace in ("", DEFAULT_NAMESPACE) else f" in namespace {key.namespace}"
    raise Failure(
        f"there is no {key.kind.lower()} {key.name!r}{where}", *details, hint=f"remit get {key.kind.lower()}s -A"
    )


def follow(store: Store, *, stop: Callable[[], bool] = lambda: False) -> Iterator[int]:
    """The store's cursor, now and after each change, whoever made it."""
    last = -1
    while not stop():
        cursor = store.cursor()
        if cursor != last:
            last = cursor
            yield cursor
        else:
            pause(POLL_S)


def pause(seconds: float) -> None:
    """Wait in a command: people's time, not the engine's."""
    time.sleep(seconds)  # noqa: TID251  a verb of the command line waits in real time


def wait_until(store: Store, seconds: float, ready: Callable[[Snapshot], Any]) -> Any:
    """The first truthy answer of ``ready``, asked after each change; None when ``seconds`` are over."""
    ends = time.monotonic() + seconds
    for _ in follow(store, stop=lambda: time.monotonic() >= ends):
        with store.snapshot() as snapshot:
            answer = ready(snapshot)
        if answer:
            return answer
    return None


def seconds_of(text: str, option: str = "--timeout") -> float:
    """A duration in seconds, as it was given for ``option``."""
    from schemas.quantities import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Failure(f"{option} {text[:40]!r}: {error}") from None


def seconds_ahead(text: str, option: str) -> float:
    """As ``seconds_of``, and longer than nothing: what would end at once is a mistake."""
    seconds = seconds_of(text, option)
    if seconds <= 0:
        raise Failure(f"{option} {text[:40]!r}: it would be over at once; write 30m, 8h or 7d")
    return seconds


def labels_of(text: str | None) -> dict[str, str]:
    """``-l a=b,c=d`` as pairs."""
    pairs: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, value = part.strip().replace("==", "=").partition("=")
        if not equals or not name:
            raise Failure(f"--selector {part[:60]!r}: write label=value, several with commas")
        pairs[name.strip()] = value.strip()
    return pairs
