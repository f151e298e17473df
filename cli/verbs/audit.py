"""The audit log: audit verify."""

from __future__ import annotations

import sys

import typer

from cli import common
from cli.failures import Failure

audit = typer.Typer(help="The audit log.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs of this word."""
    app.add_typer(audit, name="audit")


@audit.command("verify")
def verify(context: typer.Context, quiet: common.Quiet = False) -> None:
    """Walk the hash chain of the event log; names the first row that was changed, removed or moved."""
    show = sys.stderr.isatty() and not quiet

    def progress(count: int) -> None:
        if show:
            print(f"\r{count} events", end="", file=sys.stderr, flush=True)

    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        report = snapshot.verify_events(progress=progress)
    if show:
        print(file=sys.stderr)
    if report.broken_seq or report.problem:
        raise Failure(
            f"the log is broken at event {report.broken_seq}: {report.problem}",
            f"{report.count} events before it hold",
            "keep the file as it is and restore a backup",
            hint="remit db check",
        )
    if not quiet:
        print(f"{report.count} events, the chain holds; head {report.head[:16]}")
