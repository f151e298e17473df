"""Reading objects: get, describe, tree, wait."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, output
from cli.failures import Exit, Failure
from cli.output import Format
from schemas.base import DEFAULT_NAMESPACE, Key

if TYPE_CHECKING:
    from schemas.kind import KindInfo
    from schemas.resource import Resource
    from store.contract import Snapshot, Store


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("get")(get)
    app.command("describe")(describe)
    app.command("tree")(tree)
    app.command("wait")(wait)


def now() -> datetime:
    """The wall time that ages are counted from."""
    from controllers.runtime.clock import SystemClock

    return SystemClock().now()


def get(
    context: typer.Context,
    kinds: Annotated[str, typer.Argument(help="Kind, several with commas, KIND/NAME, or all.", metavar="KIND[/NAME]")],
    names: Annotated[list[str] | None, typer.Argument(help="Names; none for all.")] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    selector: Annotated[str | None, typer.Option("--selector", "-l", help="Labels: team=platform,tier=gold.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only these states: Blocked,Review.")] = None,
    form: common.Output = Format.TABLE,
    watch: common.Watch = False,
) -> None:
    """List objects, or show some of them.

    Examples: remit get missions; remit get mi audit-links -o yaml; remit get agents,executors -A;
    remit get missions -l team=docs --state Blocked -w; remit get all.
    """
    wanted = _wanted(kinds, names or [])
    query = _Query(None if all_namespaces else namespace, common.labels_of(selector), _states(state))
    with common.store_of(context, read_only=True) as store:
        if not watch:
            with store.snapshot() as snapshot:
                found = [(info, query.of(snapshot, info, only)) for info, only in wanted]
            _print(found, form, namespaces=all_namespaces)
            _missing(found, wanted, namespace)
            return
        _watch(store, wanted, query, form, namespaces=all_namespaces)


class _Query:
    def __init__(self, namespace: str | None, labels: dict[str, str], states: list[str] | None) -> None:
        self.namespace = namespace
        self.labels = labels
        self.states = states

    def of(self, snapshot: Snapshot, info: KindInfo, names: list[str]) -> list[Resource]:
        namespace = self.namespace if info.namespaced else None
        if info.kind == "Event":
            raise Failure("events have a verb of their own", hint="remit events")
        found = snapshot.objects(info.kind, namespace=namespace, labels=self.labels or None, states=self.states)
        return [r for r in found if not names or r.name in names]


def _states(text: str | None) -> list[str] | None:
    return [s.strip() for s in text.split(",") if s.strip()] if text else None


def _wanted(kinds: str, names: list[str]) -> list[tuple[KindInfo, list[str]]]:
    from schemas import registry
    from schemas.kind import ObjectClass

    if kinds == "all":
        return [(k, []) for k in registry.KINDS if k.object_class is ObjectClass.INTENT or k.kind in ("Run", "Hold")]
    if "/" in kinds:
        found: dict[str, list[str]] = {}
        for item in [kinds, *names]:
            key = common.key_named(item, DEFAULT_NAMESPACE)
            found.setdefault(key.kind, []).append(key.name)
        return [(common.kind_named(kind), only) for kind, only in found.items()]
    infos = [common.kind_named(k) for k in kinds.split(",") if k]
    if len(infos) > 1 and names:
        raise Failure("several kinds take no names: write KIND/NAME instead")
    return [(info, names) for info in infos]


def _print(found: list[tuple[KindInfo, list[Resource]]], form: Format, *, namespaces: bool) -> None:
    if form in (Format.JSON, Format.YAML):
        resources = [r for _, items in found for r in items]
        documents = [r.to_wire() for r in resources]
        single = len(found) == 1 and len(documents) == 1
        value = documents[0] if single else output.as_list(documents)
        print(output.dump_json(value) if form is Format.JSON else output.dump_yaml(value))
        return
    if form is Format.NAME:
        for info, items in found:
            for r in items:
                print(f"{info.singular}/{r.name}")
        return
    filled = [(info, items) for info, items in found if items]
    for position, (info, items) in enumerate(filled):
        if position:
            print()
        header, body = output.rows(info, items, now(), wide=form is Format.WIDE, namespaces=namespaces)
        if len(found) > 1:
            for row in body:
                name = 1 if namespaces else 0
                row[name] = f"{info.singular}/{row[name]}"
        print(output.table(body, header))


def _missing(
    found: list[tuple[KindInfo, list[Resource]]], wanted: list[tuple[KindInfo, list[str]]], namespace: str
) -> None:
    """Names that were asked for and are not there are an error; an empty list is said on stderr, as kubectl does."""
    gone = [
        f"{info.singular}/{name}"
        for (info, items), (_, names) in zip(found, wanted, strict=True)
        for name in names
        if name not in {r.name for r in items}
    ]
    if gone:
        raise Failure(f"not found: {', '.join(gone)}", hint=f"remit get {wanted[0][0].plural} -A")
    if not any(items for _, items in found):
        kinds = ", ".join(info.plural for info, _ in wanted) if len(wanted) < 4 else "objects"
        typer.echo(f"no {kinds} in namespace {namespace}", err=True)


def _watch(
    store: Store, wanted: list[tuple[KindInfo, list[str]]], query: _Query, form: Format, *, namespaces: bool
) -> None:
    """Print what is there, then each object again when it changes. A table keeps the widths of its first printing."""
    seen: dict[str, int] = {}
    widths: dict[str, list[int]] = {}
    for _ in common.follow(store):
        with store.snapshot() as snapshot:
            found = [(info, query.of(snapshot, info, only)) for info, only in wanted]
        present = {r.uid for _, items in found for r in items}
        for info, items in found:
            fresh = [r for r in items if seen.get(r.uid) != r.resource_version]
            if not fresh:
                continue
            if form in (Format.TABLE, Format.WIDE):
                _watch_rows(info, fresh, widths, form, namespaces=namespaces)
            else:
                for r in fresh:
                    _print([(info, [r])], form, namespaces=namespaces)
        seen = {r.uid: r.resource_version for _, items in found for r in items if r.uid in present}


def _watch_rows(
    info: KindInfo, fresh: list[Resource], widths: dict[str, list[int]], form: Format, *, namespaces: bool
) -> None:
    header, body = output.rows(info, fresh, now(), wide=form is Format.WIDE, namespaces=namespaces)
    first = info.kind not in widths
    known = widths.setdefault(info.kind, [len(h) for h in header])
    for row in body:
        for i, text in enumerate(row):
            known[i] = max(known[i], len(text))
    for row in [header, *body] if first else body:
        print("  ".join(text.ljust(width) for text, width in zip(row, known, strict=True)).rstrip(), flush=True)


def describe(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="KIND/NAME, or a kind followed by a name.", metavar="KIND/NAME")],
    name: Annotated[str | None, typer.Argument(help="Name, when the kind stands alone.")] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Tell everything about one object: what is declared, what is true, why it waits, what happened last."""
    from cli.description import describe_object

    key = common.key_named(f"{target}/{name}" if name else target, namespace)
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        resource = common.object_named(snapshot, key)
        print(describe_object(snapshot, resource, now()))


def tree(
    context: typer.Context,
    target: Annotated[str | None, typer.Argument(help="KIND/NAME to start from; everything by default.")] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
) -> None:
    """Show what belongs to what: goal or agent, its missions, their runs and questions."""
    from cli.trees import render

    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        root = common.object_named(snapshot, common.key_named(target, namespace)) if target else None
        print("\n".join(render(snapshot, root, None if all_namespaces else namespace)))


def wait(
    context: typer.Context,
    targets: Annotated[list[str], typer.Argument(help="KIND/NAME, or a kind with --all.", metavar="KIND/NAME...")],
    condition: Annotated[
        str, typer.Option("--for", help="condition=Ready, condition=Succeeded=False, state=Done, or delete.")
    ],
    everything: Annotated[bool, typer.Option("--all", help="Every object of the kind.")] = False,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    timeout: common.Timeout = "30s",
) -> None:
    """Wait until objects come to a condition or a state; exit 1 when the time is over.

    Example: remit wait mission/check-links --for condition=Succeeded --timeout 2m
    """
    goal = _Goal(condition)
    with common.store_of(context, read_only=True) as store:
        with store.snapshot() as snapshot:
            keys = _wait_keys(snapshot, targets, namespace, everything=everything)
            if not goal.deletion:
                for key in keys:
                    common.object_named(snapshot, key)
        done: set[Key] = set()

        def ready(snapshot: Snapshot) -> bool:
            for key in keys:
                if key not in done and goal.met(snapshot.get(key)):
                    done.add(key)
                    print(f"{key.short} {goal.text}", flush=True)
            return len(done) == len(keys)

        if common.wait_until(store, common.seconds_of(timeout), ready) is None:
            with store.snapshot() as snapshot:
                left = [f"{k.short}: {_where(snapshot.get(k))}" for k in keys if k not in done]
            raise Failure(f"not {goal.text} after {timeout}", *left, code=Exit.DIFFERENT)


class _Goal:
    def __init__(self, text: str) -> None:
        self.text = text
        self.deletion = text == "delete"
        word, _, rest = text.partition("=")
        self.name, _, value = rest.partition("=")
        self.value = value or "True"
        self.by_state = word == "state"
        if not self.deletion and (word not in ("condition", "state") or not self.name):
            raise Failure(
                f"--for {text[:60]!r}: write condition=Ready, condition=Succeeded=False, state=Done or delete"
            )

    def met(self, resource: Resource | None) -> bool:
        if resource is None or self.deletion:
            return resource is None and self.deletion
        if self.by_state:
            return resource.state.lower() == self.name.lower()
        conditions: list[dict[str, Any]] = resource.status.get("conditions", [])
        found = next((c for c in conditions if c["type"].lower() == self.name.lower()), None)
        if found is None or found.get("observedGeneration", 0) < resource.generation:
            return False
        return str(found["status"]).lower() == self.value.lower()


def _wait_keys(snapshot: Snapshot, targets: list[str], namespace: str, *, everything: bool) -> list[Key]:
    if everything:
        info = common.kind_named(targets[0])
        return [r.key for r in snapshot.objects(info.kind, namespace=namespace if info.namespaced else None)]
    return [common.key_named(t, namespace) for t in targets]


def _where(resource: Resource | None) -> str:
    """What a person learns of an object that did not come to it."""
    if resource is None:
        return "it does not exist"
    waits = output.value_at(resource.to_wire(), "status.blockedOn[0].hint")
    text = resource.state or output.value_at(resource.to_wire(), "status.conditions[Ready].reason") or "no status yet"
    return output.safe(f"{text}; {waits}" if waits else str(text))
