"""Looking at all that a project needs: doctor."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import typer

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from cli.project import Project


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor")(doctor)


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
    from store.location import shown

    try:
        project = common.project_of(context)
    except (Failure, RemitError) as error:
        return [(False, "project", str(error).splitlines()[0])]
    rows = [(True, f"project {project.root}", "")]
    try:
        with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
            agents, missions = snapshot.count("Agent"), snapshot.count("Mission")
            rows.append((True, f"store {shown(project.config.store)}: {agents} agents, {missions} missions", ""))
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
        rows.append((False, f"store {shown(project.config.store)}", str(error)))
    return [*rows, _port(project)]


def _port(project: Project) -> tuple[bool, str, str]:
    host, _, port = project.config.agent_listen.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(0.5)
        taken = probe.connect_ex((host.strip("[]") or "127.0.0.1", int(port))) == 0
    state = "answers (an engine runs)" if taken else "is free (no engine runs)"
    return True, f"agent port {project.config.agent_listen} {state}", ""
