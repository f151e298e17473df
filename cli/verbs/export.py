"""Taking records along: export audit, export tenant, export jobs, export verify, export import."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli import common, moment, output
from cli.failures import Failure
from cli.output import safe

export = typer.Typer(help="Records as files.", no_args_is_help=True, rich_markup_mode=None)


class AuditFormat(StrEnum):
    """Values of ``-o`` of audit."""

    JSON = "json"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the verbs of this word."""
    app.add_typer(export, name="export")


@export.command("audit")
def audit(
    context: typer.Context,
    form: Annotated[
        AuditFormat, typer.Option("--output", "-o", help="One JSON object a line, or CSV.")
    ] = AuditFormat.JSON,
    types: Annotated[str | None, typer.Option("--types", help="Only these: Created,RunFinished.")] = None,
    kinds: Annotated[str | None, typer.Option("--kinds", help="Only about objects of these: Mission,Run.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this one.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="A time, or a while such as 24h.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="A time, or a while such as 1h.")] = None,
) -> None:
    """Write the event log to standard output, with everything that its hashes cover, oldest first.

    Examples:
      remit export audit > log.jsonl
      remit export audit -o csv --since 7d --kinds Mission,Run
    """
    from api.problems import Problem
    from api.read import audit as rows
    from api.read import log

    given = {"types": types, "kinds": kinds, "namespace": namespace, "since": since, "until": until}
    try:
        query = log.query_of_words(given, moment.now())
    except Problem as problem:
        raise Failure(problem.detail) from None
    with common.store_of(context, read_only=True) as store:
        asked, header = rows.following(query, None), True
        while asked is not None:
            with store.snapshot() as snapshot:
                found = log.page(snapshot, asked)
            if form is AuditFormat.CSV:
                sys.stdout.write(rows.csv_lines(found.events, header=header))
            else:
                sys.stdout.write(rows.json_lines(found.events))
            header = False
            asked = rows.following(query, found)


@export.command("tenant")
def tenant(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The tenant: a namespace.")],
    to: Annotated[Path | None, typer.Option("--to", help="Make it here and now, into this file.")] = None,
    keep: Annotated[str, typer.Option("--keep", help="How long the engine keeps the file.")] = "24h",
) -> None:
    """Take everything of a tenant along: objects, what they were, its rows of the log and of the ledger.

    The engine makes the file under .remit/exports and reads it back to prove it whole; `remit export jobs` tells how
    far it is. With --to this command makes the file itself. It can be read by its owner only.

    Examples:
      remit export tenant acme
      remit export tenant acme --to acme.jsonl.gz
    """
    from random import SystemRandom

    from controllers.effects import exports
    from controllers.runtime.ids import IdMint
    from schemas.base import is_namespace
    from schemas.quantities import parse_duration

    if not is_namespace(name):
        raise Failure(f"{name[:80]!r} cannot be the name of a tenant", hint="remit get tenants")
    try:
        kept = parse_duration(keep)
    except ValueError as error:
        raise Failure(f"--keep: {error}") from None
    if not kept or kept > exports.LONGEST_KEEP:
        raise Failure(f"--keep is at most {exports.LONGEST_KEEP.days}d")
    mint = IdMint(moment.now, SystemRandom())
    if to is not None:
        with common.store_of(context, read_only=True) as store:
            exports.write_archive(store, name, to, at=moment.now(), progress=_progress)
        _report(exports.verified(to, now=moment.now, new_id=mint.new), to)
        return
    from cli.project import me

    job = f"{name}-{mint.new().lower()}"
    with common.store_of(context) as store, store.transaction(me()) as tx:
        exports.request(tx, name, job, kept)
    print(f"job {job}: the engine makes it; see remit export jobs")


def _progress(what: str, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {count}", end="", file=sys.stderr, flush=True)


def _report(contents: object, path: Path) -> None:
    from store.archive import Contents

    assert isinstance(contents, Contents)
    if contents.problems:
        raise Failure(f"{path} is not whole: {'; '.join(contents.problems)}")
    counts = ", ".join(f"{count} {what}" for what, count in contents.counts.items() if what != "header")
    print(f"{safe(contents.tenant)}: {counts or 'nothing'}; read back whole")


@export.command("jobs")
def jobs(context: typer.Context) -> None:
    """List the exports of tenants that were asked for, how far they are and until when they are kept.

    Examples:
      remit export jobs
    """
    from controllers.effects import exports

    project = common.project_of(context)
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        asked = snapshot.effects(type=exports.EXPORT, limit=100)
    known = {job["job"]: job for job in exports.jobs(project.state)}
    rows = []
    for effect in asked:
        job = known.get(effect.payload["job"], {})
        progress = ", ".join(f"{count} {what}" for what, count in job.get("progress", {}).items())
        state = job.get("state", "Expired" if effect.done_at else effect.state.value)
        path = exports.paths(project.state, effect.payload["job"])[0]
        shown = str(path) if state == "Done" else effect.last_error or "-"
        rows.append([effect.payload["job"], state, progress or "-", job.get("expiresAt", "-"), safe(shown)])
    if not rows:
        typer.echo("no exports were asked for", err=True)
        return
    print(output.table(rows, ["JOB", "STATE", "LINES", "EXPIRES", "FILE"]))


@export.command("verify")
def verify(file: Annotated[Path, typer.Argument(help="An archive of a tenant.")]) -> None:
    """Read an archive back into an empty store of its own, and compare every line.

    Examples:
      remit export verify acme.jsonl.gz
    """
    from random import SystemRandom

    from controllers.effects import exports
    from controllers.runtime.ids import IdMint

    mint = IdMint(moment.now, SystemRandom())
    _report(exports.verified(_there(file), now=moment.now, new_id=mint.new), file)


@export.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An archive of a tenant.")],
    store: Annotated[str, typer.Option("--into", help="A new, empty store: sqlite:///PATH or postgresql://HOST/NAME")],
) -> None:
    """Bring an archive into an empty store: uids, owners, times and texts stay what they are.

    Examples:
      remit export import acme.jsonl.gz --into sqlite:///acme.db
    """
    from random import SystemRandom

    from controllers.effects import exports
    from controllers.runtime.ids import IdMint
    from schemas.errors import Refused
    from store import archive, open_store
    from store.location import from_project

    mint = IdMint(moment.now, SystemRandom())
    empty = open_store(from_project(store, Path.cwd()), now=moment.now, new_id=mint.new, create=True)
    try:
        _report(archive.load(empty, exports.read_lines(_there(file))), file)
    except Refused as error:
        raise Failure(str(error)) from None
    finally:
        empty.close()


def _there(file: Path) -> Path:
    if not file.is_file():
        raise Failure(f"there is no file {file}")
    return file
