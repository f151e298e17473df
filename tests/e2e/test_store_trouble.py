"""The store fails under a running engine, or before it: plain words, nothing lost, and on it goes when it can."""

from __future__ import annotations

import resource
import signal
import sqlite3
import sys

import pytest

from tests.e2e.fleet import mission, workers
from tests.fakes.engine_process import SLOW, Project, pause, until


def missions(project: Project, count: int, prefix: str = "m", **more: object) -> dict[str, str]:
    return {
        f"{prefix}{n}.yaml": mission(f"{prefix}{n}", "worker", project.effects, **more)  # type: ignore[arg-type]
        for n in range(count)
    }


def open_effects(project: Project) -> list[str]:
    """What was ordered and is not booked yet: a booking that failed follows, at the latest when its claim runs out."""
    with project.look() as snapshot:
        return [e.key for e in snapshot.effects(limit=100_000) if e.state in ("Pending", "Claimed")]


def test_a_full_disk_stops_nothing_for_good_and_starts_nothing_twice(project: Project) -> None:
    project.commit({"fleet.yaml": workers(places=3), **missions(project, 6, seconds=0.5)})
    engine = project.engine()
    until(lambda: project.states()["Done"] >= 2, "the first missions")
    # No file of the engine may grow any more: the same as a full disk, to the engine alone.
    wal = project.database.with_name("state.db-wal")
    _, hard = resource.prlimit(engine.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))
    project.commit(missions(project, 6, "late"))
    until(lambda: "free space" in engine.err, lambda: f"a word about the disk in {engine.err!r}")
    pause(2)
    assert engine.alive
    assert project.good("get", "missions")
    resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (hard, hard))
    until(lambda: project.states() == {"Done": 12}, lambda: f"the end of {project.states()}")
    assert len(engine.err.splitlines()) < 200, "the log grows without bound"
    until(lambda: not open_effects(project), lambda: f"the booking of {open_effects(project)}")
    project.ends_well(engine)
    uids = {m.name: m.uid for m in project.objects("Mission")}
    assert project.lines() == {f"{uids[r.spec['missionRef']['name']]}.1": [r.uid] for r in project.objects("Run")}


def test_an_engine_on_a_full_disk_still_ends_when_told_to(project: Project) -> None:
    go = project.folder / "go"
    project.commit({"fleet.yaml": workers(places=3), **missions(project, 3, until=go)})
    engine = project.engine()
    until(lambda: len(project.agents()) == 3, "the programs")
    wal = project.database.with_name("state.db-wal")
    _, hard = resource.prlimit(engine.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))
    go.touch()
    until(lambda: not project.agents(), "the end of the programs, which cannot be recorded")
    pause(1.5)
    assert engine.stop() in (0, 2)
    engine = project.engine()
    until(lambda: project.states() == {"Done": 3}, lambda: f"the end of {project.states()}")
    project.ends_well(engine)


def test_a_store_that_is_locked_by_another_program_for_a_while_is_waited_for(project: Project) -> None:
    project.commit({"fleet.yaml": workers(places=3), **missions(project, 9, seconds=0.2)})
    engine = project.engine()
    until(lambda: project.states()["Done"] >= 1, "the first mission")
    other = sqlite3.connect(project.database, isolation_level=None, timeout=SLOW)
    other.execute("BEGIN IMMEDIATE")
    pause(12)  # longer than SQLite is waited for
    other.execute("ROLLBACK")
    other.close()
    until(lambda: project.states() == {"Done": 9}, lambda: f"the end of {project.states()}")
    assert engine.alive
    project.ends_well(engine)


def test_a_store_that_is_deleted_under_a_running_engine_ends_it_with_a_word(project: Project) -> None:
    project.commit({"fleet.yaml": workers(), **missions(project, 1)})
    engine = project.engine()
    project.comes_to("m0", "Done")
    for path in project.database.parent.glob("state.db*"):
        path.unlink()
    assert engine.ends() == 2
    assert str(project.database) in engine.err
    assert "removed" in engine.err
    assert "Traceback" not in engine.err


def test_an_engine_whose_disk_does_not_confirm_a_write_ends_and_the_next_one_goes_on(project: Project) -> None:
    go = project.folder / "go"
    project.commit({"fleet.yaml": workers(places=2), **missions(project, 2, until=go)})
    engine = project.engine(remit=[sys.executable, "-P", "-m", "tests.fakes.failing_sync"])
    until(lambda: len(project.lines()) == 2, "both programs at work")
    engine.send(signal.SIGUSR2)
    project.commit(missions(project, 1, "late"))
    assert engine.ends() == 2
    assert "did not confirm a write" in engine.err
    assert str(project.database) in engine.err
    assert "Traceback" not in engine.err
    go.touch()  # its programs are not its children: they go on, and their ends are there for the next one
    after = project.engine()
    until(lambda: project.states() == {"Done": 3}, lambda: f"the end of {project.states()}")
    uids = {m.name: m.uid for m in project.objects("Mission")}
    assert project.lines() == {f"{uids[r.spec['missionRef']['name']]}.1": [r.uid] for r in project.objects("Run")}
    project.ends_well(after)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_store_that_is_no_store_is_refused_in_one_line(project: Project, content: bytes) -> None:
    project.commit({"fleet.yaml": workers(), **missions(project, 1)})
    project.database.parent.mkdir()
    project.database.write_bytes(content)
    engine = project.engine(ready=not content)
    if not content:  # an empty file is a store that is made now
        project.comes_to("m0", "Done")
        assert engine.stop() == 0
        return
    assert engine.ends() == 2
    first = engine.err.splitlines()[0]
    assert first.startswith("error: ")
    assert str(project.database) in first
    assert "Traceback" not in engine.err


def test_a_store_where_no_file_can_be_made_is_refused_in_one_line(project: Project) -> None:
    (project.root / ".remit").write_text("a file where the folder should be")
    engine = project.engine(ready=False)
    assert engine.ends() == 2
    assert engine.err.startswith("error: ")
    assert ".remit" in engine.err.splitlines()[0]
    assert "Traceback" not in engine.err
