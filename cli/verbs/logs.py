"""Printing what a run's program wrote: logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common, completion
from cli.failures import Failure
from cli.output import safe
from schemas.base import DEFAULT_NAMESPACE, Key

if TYPE_CHECKING:
    from schemas.redaction import Redactor
    from schemas.resource import Resource
    from store.contract import Snapshot, Store


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("logs")(logs)


def logs(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="run/NAME, or mission/NAME for its latest run.",
            metavar="RUN|MISSION",
            autocompletion=completion.target,
        ),
    ],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="Only the last so many lines; 0 for all.")] = 0,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only its standard error.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only its standard output.")] = False,
) -> None:
    """Print what a run's program wrote, or, for a worker behind HTTP, the requests to it. Control characters are shown,
    never sent to the terminal.

    Examples:
      remit logs mission/check-links -f
      remit logs run/check-links-1 --stderr --tail 20
    """
    from controllers.runs.redaction_level import level_of
    from schemas.redaction import Redactor
    from schemas.run import ACTIVE_STATES

    project = common.project_of(context)
    with common.store_of(context, read_only=True) as store:
        with store.snapshot() as snapshot:
            run = _run(snapshot, target, namespace)
            level = level_of(snapshot, snapshot.get_by_uid(run.spec["agentUid"]))
        redactor = Redactor((), level, octets=True)
        folder = project.state / "runs" / run.uid
        names = [n for n, on in (("stdout.log", stdout or not stderr), ("stderr.log", stderr or not stdout)) if on]
        tails = [_Tail(folder / name, redactor) for name in names]
        if run.status.get("post") is not None:
            _print_requests(store, run, tail=tail, follow=follow)
            return
        if not any(t.path.exists() for t in tails) and not follow:
            raise Failure(f"{run.key.short} has no log here: it was not started, or its files were cleaned up")
        for t in tails:
            t.print(last=tail)
            if not follow:
                t.end()
        while follow:
            with store.snapshot() as snapshot:
                current = snapshot.get_by_uid(run.uid)
            ended = current is None or current.state not in ACTIVE_STATES
            for t in tails:
                t.print()
            if ended:
                for t in tails:
                    t.end()
                return
            common.pause(common.POLL_S)


def _print_requests(store: Store, run: Resource, *, tail: int, follow: bool) -> None:
    """The requests to a worker behind HTTP, from the event log, and what became of each."""
    from cli.posts import request_lines
    from schemas.run import ACTIVE_STATES

    shown = 0
    while True:
        with store.snapshot() as snapshot:
            current = snapshot.get_by_uid(run.uid)
            lines = request_lines(snapshot, run)
        for text in lines[-tail if tail and not shown else shown :]:
            sys.stdout.write(safe(text) + "\n")
        sys.stdout.flush()
        shown = len(lines)
        if not follow or current is None or current.state not in ACTIVE_STATES:
            return
        common.pause(common.POLL_S)


def _run(snapshot: Snapshot, target: str, namespace: str) -> Resource:
    key = common.key_named(target, namespace, default_kind="mission")
    found = common.object_named(snapshot, key)
    if found.kind == "Run":
        return found
    if found.kind != "Mission":
        raise Failure(f"{found.key.short} has no log: name a run or a mission", hint="remit get runs")
    name = found.status.get("currentRun") or found.status.get("lastRun")
    if not name:
        raise Failure(f"{found.key.short} has no run yet", hint=f"remit describe {found.key.short}")
    return common.object_named(snapshot, Key("Run", found.namespace, name))


class _Tail:
    """Prints a growing file from where it was left. What a worker elsewhere handed in is not trusted to be without
    credentials, so that they are looked for once more."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        from schemas.redaction_stream import StreamRedactor

        self.path = path
        self._stream = StreamRedactor(redactor)
        self._offset = 0

    def print(self, *, last: int = 0) -> None:
        from controllers.runtime.beneath import open_plain

        try:
            with os.fdopen(open_plain(self.path), "rb") as file:
                file.seek(self._offset)
                data = file.read()
                self._offset = file.tell()
        except FileNotFoundError:
            return
        if last:
            data = b"".join((self._stream.feed(data) + self._stream.finish()).splitlines(keepends=True)[-last:])
        self._show(self._stream.feed(data))

    def end(self) -> None:
        """Print what is left of the last line."""
        self._show(self._stream.finish())

    def _show(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        sys.stdout.write(safe(text, lines=True))
        sys.stdout.flush()
