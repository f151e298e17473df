"""Benches of the way from files to objects: first sync, restart, one changed file."""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from controllers.sources import collector, git, yaml
from controllers.sources.compile import compiler_version
from controllers.sources.git import GitReader
from controllers.sources.readers import Readers
from controllers.sources.sync import SourceSync
from controllers.sources.tree import Entry
from controllers.wiring import DEFAULT_SOURCE
from schemas import registry
from schemas.base import DEFAULT_NAMESPACE
from schemas.resource import Declared
from store import open_store
from store.contract import Store
from tests.bench.measure import Measured, by_turns, ms, processor_seconds, seconds, sized
from tests.fakes import world
from tests.fakes.repos import ENVIRONMENT
from tests.fakes.world import World


def manifest(number: int, text: str = "") -> str:
    """A mission of about 470 bytes."""
    title = f'"mission {number} {text}"'
    note = "\n".join(f"    line {i} of what mission {number} has to deliver, in words" for i in range(4))
    return world.mission(f"m-{number:06d}", title=title, labels="team: docs") + f"  description: |\n{note}\n"


def files(count: int) -> dict[str, str]:
    """``count`` files: missions in folders of 100, and the agent and executor that they name."""
    made = {f"ns-{n // 100:04d}/m-{n:06d}.yaml": manifest(n) for n in range(count - 2)}
    return {"executor.yaml": world.executor(), "agent.yaml": world.agent(), **made}


def filled(folder: Path, count: int) -> World:
    """An engine whose repository holds ``count`` missions that were not looked at yet."""
    folder.mkdir(parents=True, exist_ok=True)
    made = World(folder)
    made.repo.commit(files(count), checkout=False)
    return made


def a_pass(made: World) -> None:
    """One look at the source. The unit must come out whole."""
    made.sync_now(DEFAULT_SOURCE)
    came_out(made)


def came_out(made: World) -> None:
    """The last look took in the head, and nothing was wrong with it."""
    head = made.repo.head
    assert str(made.source.revision).endswith(head), made.source
    assert not any(unit.errors for unit in made.source.units), made.source.units[0].errors[:3]


def raw_sync(repository: Path, target: Path) -> int:
    """The floor of a first sync: read every blob, parse and check it with the same code, insert one row each."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "HEAD"], cwd=repository, env=ENVIRONMENT, capture_output=True, check=True
    ).stdout.splitlines()
    ids = [line.split()[2] for line in listed]
    out = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=repository, env=ENVIRONMENT, input=b"\n".join(ids) + b"\n",
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    rows, at = [], 0
    for _ in ids:
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[2])
        for document in yaml.load(out[end + 1 : end + 1 + size], path="a.yaml").documents:
            declared = registry.check_document(document.value, default_namespace=DEFAULT_NAMESPACE)
            assert isinstance(declared, Declared)
            rows.append((declared.kind, declared.namespace, declared.name, json.dumps(declared.spec)))
        at = end + 2 + size
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE objects (kind, namespace, name, spec, PRIMARY KEY (kind, namespace, name))")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO objects VALUES (?,?,?,?)", rows)
        connection.execute("COMMIT")
    return len(rows)


def cold_sync(scale: float) -> Measured:
    count, rounds = sized(10_000, scale), 1 if scale < 0.5 else 3
    ours, floor = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            made = filled(Path(folder), count)
            ours.append(processor_seconds(lambda made=made: (a_pass(made), made.readers.close())))  # type: ignore[misc]
            target = Path(folder, "raw.db")
            with collector.paused():  # as ours is: else the floor would be the slower for it
                floor.append(processor_seconds(lambda m=made, t=target: raw_sync(m.repo.git_dir, t)))  # type: ignore[misc]
            made.harness.close()
    a, b = statistics.median(ours), statistics.median(floor)
    return Measured(a / b, ms(a), ms(b), f"{count:,} resources")


def warm_restart(scale: float) -> Measured:
    """Soon after the last full look, as after a crash: it is recalled, and the objects are not compared again."""
    return _restart(scale, later_s=0, what="open, sync of an unchanged commit soon after")


def full_restart(scale: float) -> Measured:
    """When the last full look is long ago: every object is compared with its declaration."""
    return _restart(scale, later_s=3600, what="open, sync and compare all an hour later")


def _restart(scale: float, *, later_s: float, what: str) -> Measured:
    count, rounds = sized(10_000, scale), 1 if scale < 0.5 else 3
    with tempfile.TemporaryDirectory() as folder:
        made = filled(Path(folder), count)
        a_pass(made)
        reader = GitReader(str(made.repo.path))
        blobs = [entry.blob for entry in reader.read_tree().entries]
        reader.close()

        def opened() -> Store:
            return open_store(made.harness.url, now=made.clock, new_id=iter(map(str, range(10**6))).__next__)

        def ours() -> None:
            made.clock.tick(later_s)
            store, readers = opened(), Readers(made.folder, made.folder / "mirrors")
            SourceSync(store, readers, cache=store, now=made.clock, jitter=lambda: 1.0)(DEFAULT_SOURCE)
            readers.close()
            store.close()

        def floor() -> None:
            store = opened()
            assert len([json.loads(form) for _, form in store.cached_blobs(compiler_version(), blobs)]) == len(blobs)
            store.close()

        a, b = by_turns(ours, floor, rounds, processor_seconds)
        made.readers.close()
        made.harness.close()
    return Measured(a / b, ms(a), ms(b), f"{count:,} resources; {what}")


@contextmanager
def counted() -> Iterator[list[str]]:
    """The paths of the blobs that are read meanwhile."""
    read: list[str] = []
    plain = git.GitReader.read_blobs

    def noted(self: GitReader, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        for entry, data in plain(self, entries):
            read.append(entry.path)
            yield entry, data

    git.GitReader.read_blobs = noted  # type: ignore[method-assign]
    try:
        yield read
    finally:
        git.GitReader.read_blobs = plain  # type: ignore[method-assign]


class Changing:
    """A repository in which one file changes at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self.world = filled(folder, count)
        self.reader = GitReader(str(self.world.repo.path))
        listed = self.reader.read_tree(self.reader.head())
        assert listed.extent is not None
        self._revision, self._extent = listed.revision, listed.extent
        self._round = 0

    def change(self) -> None:
        self._round += 1
        self.world.repo.commit({"ns-0000/m-000001.yaml": manifest(1, f"round {self._round}")}, checkout=False)

    def read(self) -> None:
        """Find what the head brings, and read it."""
        head = self.reader.head()
        delta = self.reader.delta(self._revision, head, self._extent)
        assert delta is not None
        assert delta.extent is not None
        assert len(list(self.reader.read_blobs([changed.entry for changed in delta.changed]))) == 1
        self._revision, self._extent = head, delta.extent

    def close(self) -> None:
        self.reader.close()
        self.world.readers.close()
        self.world.harness.close()


def changed_file_read(scale: float) -> Measured:
    """Commit, then compare and read with the product's reader, by turns in the large repository and the small one."""
    large, small, rounds = sized(100_000, scale, 20), sized(1_000, scale, 5), 3 if scale < 0.5 else 15
    with tempfile.TemporaryDirectory() as folder:
        pair = Changing(Path(folder, "large"), large), Changing(Path(folder, "small"), small)
        times: tuple[list[float], list[float]] = ([], [])
        for one in pair:
            one.change()
            one.read()  # the first exchange with git opens its process
        for _ in range(rounds):
            for one, spent in zip(pair, times, strict=True):
                one.change()
                spent.append(seconds(one.read))
        for one in pair:
            one.close()
    a, b = (statistics.median(t) for t in times)
    return Measured(a / b, ms(a), ms(b), f"{large:,} and {small:,} files; compare, then read the one that changed")


def changed_file_sync(scale: float) -> Measured:
    """The whole pass of the source: read, compile, plan, apply, status."""
    large, small, rounds = sized(100_000, scale, 20), sized(1_000, scale, 5), 1 if scale < 0.5 else 21
    with counted() as read, tempfile.TemporaryDirectory() as folder:
        pair = filled(Path(folder, "large"), large), filled(Path(folder, "small"), small)
        times: tuple[list[float], list[float]] = ([], [])
        for one in pair:
            a_pass(one)
        for number in range(rounds):
            for one, spent in zip(pair, times, strict=True):
                one.repo.commit({"ns-0000/m-000001.yaml": manifest(1, f"round {number}")}, checkout=False)
                read.clear()
                with collector.paused():  # what a collection costs follows what this process holds, engine or not
                    spent.append(seconds(lambda one=one: one.sync_now(DEFAULT_SOURCE)))  # type: ignore[misc]
                came_out(one)
                assert read == ["ns-0000/m-000001.yaml"], "blobs read, and blobs changed"
        for one in pair:
            one.readers.close()
            one.harness.close()
    a, b = (statistics.median(t) for t in times)
    return Measured(a / b, ms(a), ms(b), f"{large:,} and {small:,} files in one unit; 1 blob changed, 1 read")
