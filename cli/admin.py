"""Looking after the store and the set-up: audit verify, db, doctor."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from cli.project import Project

audit = typer.Typer(help="The audit log.", no_args_is_help=True, rich_markup_mode=None)
db = typer.Typer(help="The store's database.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.add_typer(audit, name="audit")
    app.add_typer(db, name="db")
    app.command("doctor")(doctor)


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


def _url(project: Project) -> str:
    from store.location import from_project

    return from_project(project.config.store, project.root)


@db.command("upgrade")
def upgrade(context: typer.Context, to: Annotated[str, typer.Option(help="Revision.")] = "head") -> None:
    """Bring the tables to this version."""
    from controllers.runtime.clock import SystemClock
    from store import migrate

    print(f"at revision {migrate.upgrade(_url(common.project_of(context)), to, now=SystemClock().now)}")


@db.command("downgrade")
def downgrade(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="Revision, or base to remove every table.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; data of newer tables is lost.")] = False,
) -> None:
    """Bring the tables back to an older version."""
    from controllers.runtime.clock import SystemClock
    from store import migrate

    if not yes:
        raise Failure(
            "a downgrade drops data of newer tables: make a backup, then add --yes", hint="remit db backup FILE"
        )
    print(f"at revision {migrate.downgrade(_url(common.project_of(context)), to, now=SystemClock().now)}")


@db.command("status")
def status(context: typer.Context) -> None:
    """Say which revision the tables have, and which this version knows."""
    from store import migrate

    here = migrate.current(_url(common.project_of(context)))
    print(f"at revision {here or '(empty)'}")
    for step in migrate.history():
        print(f"  {step}")


@db.command("backup")
def backup(context: typer.Context, target: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Copy the database to a file, also while the engine runs."""
    from store import maintenance

    size = maintenance.backup(_url(common.project_of(context)), target)
    print(f"wrote {target} ({size} bytes)")


@db.command("check")
def check(context: typer.Context) -> None:
    """Check the file, the event chain and the ledger."""
    from store import maintenance

    report = maintenance.check(_url(common.project_of(context)))
    if report.problems:
        raise Failure(f"{len(report.problems)} problem(s)", *report.problems)
    print(f"sound: {report.chain.count} events, the chain holds")


def doctor(context: typer.Context) -> None:
    """Look at everything that a project needs, and say what to do about what is missing."""
    rows = [*_machine(), *_project(context)]
    bad = 0
    for ok, what, advice in rows:
        print(f"{'ok  ' if ok else 'BAD '} {what}" + ("" if ok else f": {advice}"))
        bad += not ok
    if bad:
        raise typer.Exit(int(Exit.DIFFERENT))


def _machine() -> list[tuple[bool, str, str]]:
    version = sys.version_info
    rows = [(version >= (3, 11), f"Python {version.major}.{version.minor}.{version.micro}", "3.11 or newer is needed")]
    git = shutil.which("git")
    if git is None:
        return [*rows, (False, "git", "install it (Debian: apt-get install git)")]
    text = subprocess.run([git, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    return [*rows, (True, text, "")]


def _project(context: typer.Context) -> list[tuple[bool, str, str]]:
    from schemas.errors import RemitError

    try:
        project = common.project_of(context)
    except (Failure, RemitError) as error:
        return [(False, "project", str(error).splitlines()[0])]
    rows = [(True, f"project {project.root}", "")]
    try:
        with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
            agents, missions = snapshot.count("Agent"), snapshot.count("Mission")
            rows.append((True, f"store {project.config.store}: {agents} agents, {missions} missions", ""))
            for source in snapshot.objects("Source"):
                ready = next((c for c in source.status.get("conditions", ()) if c["type"] == "Ready"), None)
                ok = ready is not None and ready["status"] == "True"
                why = f"{ready['reason']}: {ready['message']}" if ready is not None else "not looked at yet: remit run"
                rows.append((ok, f"source {source.spec.get('url')}", why))
            for kind in ("Executor", "Agent"):
                for item in snapshot.objects(kind):
                    ready = next((c for c in item.status.get("conditions", ()) if c["type"] == "Ready"), None)
                    if ready is not None and ready["status"] == "False":
                        rows.append((False, item.key.short, f"{ready['reason']}: {ready['message']}"))
    except RemitError as error:
        rows.append((False, f"store {project.config.store}", str(error)))
    return [*rows, _port(project)]


def _port(project: Project) -> tuple[bool, str, str]:
    host, _, port = project.config.agent_listen.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(0.5)
        taken = probe.connect_ex((host.strip("[]") or "127.0.0.1", int(port))) == 0
    state = "answers (an engine runs)" if taken else "is free (no engine runs)"
    return True, f"agent port {project.config.agent_listen} {state}", ""
