"""What the dashboard is told of this engine: how commands are written here, what is configured, and the logs of runs on
this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.dashboard.commands import Commands
from api.dashboard.facts.view import Log, Setting, Site
from api.dashboard.text import LINES
from api.read.engine import Health
from cli.program import program
from controllers.runs.redaction_level import level_of
from controllers.runtime.beneath import open_plain
from schemas.redaction import Redactor
from schemas.redaction_stream import SLACK, clean_end

if TYPE_CHECKING:
    from cli.project import Project
    from schemas.config import Config
    from schemas.resource import Resource
    from store.contract import Snapshot

_USER = re.compile(r"//[^/@\s]+@")
TAIL = 256 * 1024
"""Bytes of each log that are looked at."""
DOWNLOAD = 4 * 1024 * 1024
"""Bytes of each log that are given as a file."""


def site_of(
    project: Project,
    environment: Mapping[str, str],
    version: str,
    health: Callable[[], Sequence[Health]],
    figures: Callable[[], dict[str, float]] = dict,
) -> Site:
    """All of it."""
    return Site(
        environment=project.root.name,
        version=version,
        commands=_commands(project),
        settings=tuple(_settings(project, environment)),
        log_of=_logs(project.state),
        log_file=_log_files(project.state),
        health=health,
        figures=figures,
    )


def _commands(project: Project) -> Commands:
    host, _, port = project.config.listen.rpartition(":")
    there = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    try:
        return Commands(program(), server=f"http://{there}:{port}")
    except ValueError:  # it was called by a path that is no plain line: people know where it is
        return Commands()


def _settings(project: Project, environment: Mapping[str, str]) -> Iterator[Setting]:
    """Every key of the configuration but secrets, which are named there and never held."""
    from cli import project as projects
    from store.location import shown

    given = {".".join(keys): name for name, keys in projects._ENVIRONMENT.items() if environment.get(name)}
    where = f"{project.path.name} or a flag" if project.path is not None else ""
    default = _flat(_defaults().to_wire())
    for key, value in _flat(project.config.to_wire()):
        text = shown(value) if key == "store" else _USER.sub("//***@", value)
        same = (key, value) in default
        origin = given.get(key) or ("default" if same else where or "flag")
        yield Setting(key, text, origin)


def _defaults() -> Config:
    from schemas.config import Config

    return Config()


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [row for k, v in value.items() for row in _flat(v, f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(value, list):
        return [(prefix, ", ".join(str(v) for v in value))]
    return [(prefix, "" if value is None else str(value))]


def _log_files(state: Path) -> Callable[[Snapshot, Resource], bytes | None]:
    def log_file(snapshot: Snapshot, run: Resource) -> bytes | None:
        folder = state / "runs" / run.uid
        redactor = Redactor((), level_of(snapshot, snapshot.get_by_uid(str(run.spec["agentUid"]))), octets=True)
        ends = [_end(folder / name, redactor, DOWNLOAD) for name in ("stdout.log", "stderr.log")]
        there = [end for end in ends if end is not None]
        return "".join(f"{line}\n" for found, _ in there for line in found).encode() if there else None

    return log_file


def _logs(state: Path) -> Callable[[Snapshot, Resource], Log | None]:
    def log_of(snapshot: Snapshot, run: Resource) -> Log | None:
        folder = state / "runs" / run.uid
        redactor = Redactor((), level_of(snapshot, snapshot.get_by_uid(str(run.spec["agentUid"]))), octets=True)
        ends = [_end(folder / name, redactor) for name in ("stdout.log", "stderr.log")]
        there = [end for end in ends if end is not None]
        if not there:
            return None
        lines = [line for found, _ in there for line in found]
        return Log(tuple(lines[-LINES:]), len(lines) > LINES or any(cut for _, cut in there))

    return log_of


def _end(path: Path, redactor: Redactor, most: int = TAIL) -> tuple[list[str], bool] | None:
    """The last lines of a file without credentials, and whether there is more before them; None without a file."""
    with suppress(OSError), os.fdopen(open_plain(path), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - most - SLACK)
        file.seek(begin)
        data, _ = clean_end(redactor, file.read(most + SLACK), SLACK if begin else 0)
        return data.decode("utf-8", "replace").splitlines(), begin > 0
    return None
