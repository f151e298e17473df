"""Looking at all that a project needs: doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli import common, health, held
from cli.failures import Exit, Failure
from cli.health import Finding
from cli.output import safe

if TYPE_CHECKING:
    from cli.project import Project
    from schemas.resource import Resource
    from store.contract import Snapshot


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor")(doctor)


def doctor(context: typer.Context) -> None:
    """Look at everything that a project needs, and say what to do about what is missing. Exit 1 when something is.

    Examples:
      remit doctor
      remit -C ~/fleet doctor
    """
    bad = 0
    for finding in [health.python(), health.git(), *_project(context)]:
        advice = "" if finding.ok else f": {finding.advice}"
        print(safe(f"{'ok  ' if finding.ok else 'BAD '} {finding.what}{advice}"))
        bad += not finding.ok
    if bad:
        raise typer.Exit(int(Exit.DIFFERENT))


def _project(context: typer.Context) -> list[Finding]:
    from schemas.errors import RemitError

    try:
        project = common.project_of(context)
    except (Failure, RemitError) as error:
        hint = f"; try: {error.hint}" if isinstance(error, Failure) and error.hint else ""
        return [Finding(False, "project", str(error).splitlines()[0] + hint)]
    spec = project.config.source.to_spec()
    return [
        Finding(True, f"project {project.root}"),
        *health.signatures(spec.verify if spec is not None else None, project.root),
        *health.keys(project.state),
        *_estop_files(project),
        *_store(context, project),
        *health.ports(project.config),
    ]


def _estop_files(project: Project) -> list[Finding]:
    """The files that stop everything, or a tenant, while they are there."""
    stops = held.stops_of(project)
    found = [
        Finding(False, f"ESTOP {facts.file} stops all, by {facts.placed_by}: {facts.spec.reason}", facts.remedy)
        for facts in stops.of_files()
    ]
    place = stops.file.path if stops.file is not None else ""
    return found or [Finding(True, f"no file {place}: nothing is stopped by it")]


def _stopped(snapshot: Snapshot) -> list[Finding]:
    """E-stops and quarantines that stand."""
    from cli.moment import now
    from controllers.holds.effective import holds
    from decisions.holds import held_by

    standing = [h for h in holds(snapshot) if h.in_force(now()) and (h.spec.is_estop or h.spec.quarantine)]
    return [Finding(False, h.key.short, held_by(h).hint) for h in standing]


def _store(context: typer.Context, project: Project) -> list[Finding]:
    """The store, and what it says of the source, executors and agents."""
    from schemas.errors import RemitError
    from store.location import shown

    try:
        with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
            agents, missions = snapshot.count("Agent"), snapshot.count("Mission")
            found = [Finding(True, f"store {shown(project.config.store)}: {agents} agents, {missions} missions")]
            found += [_source(source) for source in snapshot.objects("Source")]
            return found + _stopped(snapshot) + _unready(snapshot)
    except RemitError as error:
        return [Finding(False, f"store {shown(project.config.store)}", str(error))]


def _source(source: Resource) -> Finding:
    ready = next((c for c in source.status.get("conditions", ()) if c["type"] == "Ready"), None)
    ok = ready is not None and ready["status"] == "True"
    why = f"{ready['reason']}: {ready['message']}" if ready is not None else "not looked at yet: remit run"
    return Finding(ok, f"source {source.spec.get('url')}", why)


def _unready(snapshot: Snapshot) -> list[Finding]:
    found = []
    for kind in ("Executor", "Agent"):
        for item in snapshot.objects(kind):
            ready = next((c for c in item.status.get("conditions", ()) if c["type"] == "Ready"), None)
            if ready is not None and ready["status"] == "False":
                found.append(Finding(False, item.key.short, f"{ready['reason']}: {ready['message']}"))
    return found
