"""Benches of ways that lead through the whole engine, as processes: from a commit to a child, from a kill to work. And
of status on its way back to git."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from controllers.sources.compile import compile_blob
from controllers.sources.git_status import StatusBranch
from tests.bench.measure import Measured, ms, percentile, processor_seconds, seconds, sized
from tests.fakes import world
from tests.fakes.engine_process import SLOW, Project, until
from tests.fakes.repos import ENVIRONMENT, Repo

CHILD = "date +%s%N >> {}; echo done"
AGENT = world.agent(maxConcurrentMissions=5)


def _executor(starts: Path) -> str:
    return world.EXECUTOR.replace('"true"', f"'{CHILD.format(starts)}'")


def _started(starts: Path) -> list[float]:
    """When children began, in seconds since 1970."""
    return [int(line) / 1e9 for line in starts.read_text().split()] if starts.exists() else []


@contextmanager
def _project() -> Iterator[tuple[Project, Path]]:
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        project = Project(Path(folder), plain=True)
        said, sys.stdout = sys.stdout, nowhere  # what engines said is of interest to tests only
        try:
            yield project, project.effects / "starts"
        finally:
            with suppress(OSError):
                project.close()
            sys.stdout = said


def _move(repo: Repo, commit: str) -> float:
    """Move the branch as git does, by renaming a file; the moment before."""
    ref = repo.git_dir / "refs" / "heads" / repo.branch
    ref.parent.mkdir(parents=True, exist_ok=True)
    aside = repo.git_dir / "aside"
    aside.write_text(commit + "\n")
    before = time.time()  # noqa: TID251 - compared with what another process writes
    aside.replace(ref)
    return before


def _next(repo: Repo, name: str) -> str:
    """A commit on top of the branch that brings one mission; the branch does not move."""
    repo.git("update-ref", "refs/heads/next", repo.head)
    return repo.commit({f"{name}.yaml": world.mission(name)}, branch="next", checkout=False)


def commit_to_child(scale: float) -> Measured:
    """p50 of the whole way, in an engine that has started a child before; the p99 stands in the note."""
    rounds = sized(40, scale, 2)
    ours: list[float] = []
    with _project() as (project, starts):
        project.repo.commit({"e.yaml": _executor(starts), "a.yaml": AGENT}, checkout=False)
        engine = project.engine()
        for number in range(rounds + 1):
            name = f"job-{number}"
            commit = _next(project.repo, name)
            before = _move(project.repo, commit)
            until(lambda n=number: len(_started(starts)) > n, "the child")  # type: ignore[misc]
            ours.append(_started(starts)[number] - before)
            project.comes_to(name, "Done")
        engine.stop()
    ours, floor = ours[1:], _raw_starts(rounds + 1)[1:]
    a, b = statistics.median(ours), statistics.median(floor)
    tail = percentile(ours, 0.99) / percentile(floor, 0.99)
    return Measured(a / b, ms(a), ms(b), f"{rounds} commits; p99 {tail:.1f}x, which may be 4x")


def _raw_starts(rounds: int) -> list[float]:
    """The floor: in one process that waits for nothing, diff and read with git kept open, parse and check, a durable
    row, the child, and a durable row."""
    with tempfile.TemporaryDirectory() as folder:
        starts, repo = Path(folder, "starts"), Repo(Path(folder, "specs"))
        repo.commit({"e.yaml": _executor(starts), "a.yaml": AGENT}, checkout=False)
        plumbing = [
            subprocess.Popen(["git", *command], cwd=repo.path, env=ENVIRONMENT, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
            for command in (("diff-tree", "--stdin", "-r", "-m", "--root"), ("cat-file", "--batch"))
        ]  # fmt: skip
        found = []
        with closing(sqlite3.connect(Path(folder, "raw.db"), isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text)")
            for number in range(rounds):
                commit = _next(repo, f"job-{number}")
                before = _move(repo, commit)
                data = _read_change(plumbing[0], plumbing[1], commit)
                for declared, _ in compile_blob(data, "a.yaml").declared:
                    connection.execute("INSERT INTO rows (text) VALUES (?)", (json.dumps(declared.spec),))
                child = os.posix_spawn("/bin/sh", ["sh", "-c", CHILD.format(starts)], dict(os.environ))
                connection.execute("INSERT INTO rows (text) VALUES (?)", ("started",))
                os.waitpid(child, 0)
                found.append(_started(starts)[number] - before)
        for process in plumbing:
            process.communicate()
    return found


def _read_change(differ: subprocess.Popen[bytes], reader: subprocess.Popen[bytes], commit: str) -> bytes:
    """The content of the one file that a commit brings."""
    assert differ.stdin and differ.stdout and reader.stdin and reader.stdout  # noqa: PT018 - for the type checker
    differ.stdin.write(commit.encode() + b"\n")
    differ.stdin.flush()
    differ.stdout.readline()
    blob = differ.stdout.readline().split()[3]
    reader.stdin.write(blob + b"\n")
    reader.stdin.flush()
    size = int(reader.stdout.readline().split()[2])
    return reader.stdout.read(size + 1)[:-1]


def kill_to_dispatch(scale: float) -> Measured:
    """``kill -9``, a commit that brings a mission meanwhile, and how long the next engine takes to its child."""
    count, rounds = sized(10_000, scale), 1 if scale < 0.5 else 3
    ours: list[float] = []
    floor: list[float] = []
    with _project() as (project, starts):
        idle = {f"ns-{n // 100:04d}/m-{n:06d}.yaml": world.mission(f"m-{n:06d}", agent=None) for n in range(count)}
        project.repo.commit({"e.yaml": _executor(starts), "a.yaml": AGENT, **idle}, checkout=False)
        engine = project.engine()
        until(lambda: project.states()["Inbox"] >= count, "all missions to be there", 20 * SLOW)
        until(lambda: _at_rest(project, count), "all missions to be looked at", 20 * SLOW)
        for number in range(rounds):
            engine.kill()
            name = f"job-{number}"
            _move(project.repo, _next(project.repo, name))
            before = time.time()  # noqa: TID251 - compared with what another process writes
            engine = project.engine(ready=False)
            until(lambda n=number: len(_started(starts)) > n, "the child", 4 * SLOW)  # type: ignore[misc]
            ours.append(_started(starts)[number] - before)
            project.comes_to(name, "Done")
            floor.append(seconds(lambda: _imports_and_cache(project)))
        engine.stop()
    a, b = statistics.median(ours), statistics.median(floor)
    return Measured(a / b, ms(a), ms(b), f"{count:,} missions at rest; until the child of a new one runs")


def _at_rest(project: Project, count: int) -> bool:
    return sum(bool(m.status.get("conditions")) for m in project.objects("Mission")) >= count


FLOOR = """
import typer, yaml, fastapi, uvicorn, sqlalchemy, git, json, sys
from pydantic import BaseModel
import sqlite3
rows = sqlite3.connect(sys.argv[1]).execute("SELECT blob, compiled FROM compile_cache").fetchall()
assert [json.loads(form) for _, form in rows]
"""


def _imports_and_cache(project: Project) -> None:
    subprocess.run([sys.executable, "-c", FLOOR, str(project.database)], env=project.environment, check=True)


def status_write(scale: float) -> Measured:
    """100 files as one commit on a branch of either size; the worse ratio counts."""
    rounds = 1 if scale < 0.5 else 9
    found = [_status_of(sized(size, scale, 5), rounds) for size in (1_000, 10_000)]
    a, b = max(found, key=lambda pair: pair[0] / pair[1])
    sizes = " and ".join(f"{a / b:.2f}x" for a, b in found)
    return Measured(a / b, ms(a), ms(b), f"branches of 1,000 and 10,000 files: {sizes}")


def _status_of(size: int, rounds: int) -> tuple[float, float]:
    """Median processor time of ours and of git fast-import."""
    count = min(100, size)

    def files(number: int) -> dict[str, bytes]:
        text = "state: InProgress\nround: %d\n" + "condition: on its way\n" * 20
        step = size // count
        return {f"Mission/default/m-{n * step:06d}.yaml": (text % number).encode() for n in range(count)}

    with tempfile.TemporaryDirectory() as folder:
        repo = Repo(Path(folder))
        repo.commit({"a.yaml": AGENT}, checkout=False)
        whole = {f"Mission/default/m-{n:06d}.yaml": b"state: Inbox\n" * 20 for n in range(size)}
        repo.commit(dict(whole), branch="raw", orphan=True, checkout=False)
        branch = StatusBranch(repo.git_dir, "remit/status", marker=b"ours\n")
        now = datetime(2026, 1, 1, tzinfo=UTC)
        branch.read()
        branch.commit(dict(whole), "first", now)
        numbers = iter(range(10**6))
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            number = next(numbers)
            times[0].append(_timed_commit(branch, files(number), now))
            stream = _stream(files(number), number)
            times[1].append(processor_seconds(lambda s=stream: repo.git("fast-import", "--quiet", stdin=s)))  # type: ignore[misc]
        branch.close()
    return statistics.median(times[0]), statistics.median(times[1])


def _timed_commit(branch: StatusBranch, files: dict[str, bytes], now: datetime) -> float:
    """Processor time of a commit as the writer makes it."""

    def work() -> None:
        if not branch.is_current:
            branch.read()
        assert branch.commit(dict(files), "status", now) is not None

    return processor_seconds(work)


def _stream(files: dict[str, bytes], number: int) -> bytes:
    head = b"commit refs/heads/raw\ncommitter Ada <a@example.org> %d +0000\ndata 6\nstatus\nfrom refs/heads/raw^0\n"
    parts = [head % (1_800_000_000 + number)]
    parts += [b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data) for path, data in files.items()]
    return b"".join(parts)
