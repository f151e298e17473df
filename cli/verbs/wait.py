"""Waiting for objects: wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, output, settling
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE, Key

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Snapshot


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("wait")(wait)


def wait(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            help="KIND/NAME, or a kind with --all.", metavar="KIND/NAME...", autocompletion=completion.target
        ),
    ],
    condition: Annotated[
        str,
        typer.Option(
            "--for",
            help="condition=Ready, condition=Succeeded=False, state=Done, or delete.",
            autocompletion=completion.conditions,
        ),
    ],
    everything: Annotated[bool, typer.Option("--all", help="Every object of the kind.")] = False,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    timeout: common.Timeout = "30s",
) -> None:
    """Wait until objects come to a condition or a state; exit 1 when the time is over. What was asked
    before, such as an answer or a changed spec, is handled first: an old state never counts.

    Examples:
      remit wait mission/check-links --for condition=Succeeded --timeout 2m
      remit wait missions --all --for state=Done
      remit wait mission/old --for delete
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
                if key not in done and goal.met(snapshot, snapshot.get(key)):
                    done.add(key)
                    print(f"{key.short} {goal.text}", flush=True)
            return len(done) == len(keys)

        if common.wait_until(store, common.seconds_of(timeout), ready) is None:
            with store.snapshot() as snapshot:
                left = [f"{k.short}: {_where(snapshot, snapshot.get(k))}" for k in keys if k not in done]
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

    def met(self, snapshot: Snapshot, resource: Resource | None) -> bool:
        if resource is None or self.deletion:
            return resource is None and self.deletion
        if settling.unhandled(snapshot, resource):
            return False
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


def _where(snapshot: Snapshot, resource: Resource | None) -> str:
    """What a person learns of an object that did not come to it."""
    if resource is None:
        return "it does not exist"
    waits = output.value_at(resource.to_wire(), "status.blockedOn[0].hint")
    text = resource.state or output.value_at(resource.to_wire(), "status.conditions[Ready].reason") or "no status yet"
    late = settling.unhandled(snapshot, resource)
    more = f"{late}: does the engine run?" if late else waits
    return output.safe(f"{text}; {more}" if more else str(text))
