"""The store's database: db."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common
from cli.failures import Failure

if TYPE_CHECKING:
    from cli.project import Project


db = typer.Typer(help="The store's database.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs of this word."""
    app.add_typer(db, name="db")


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
