"""The journal of starts: what a loss of power leaves of a start, and what a start waits for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from controllers.dispatch.supervision import records, starts
from controllers.dispatch.supervision.records import Layout, RunPhase
from controllers.dispatch.supervision.starts import Starts
from tests.fakes.programs.harness import python, request, supervised, until

STARTED = {"run": "r1", "started_at": "2026-11-21T00:00:00.000Z", "note": {"run_name": "job-1"}}


def journal(layout: Layout, text: str) -> None:
    """What a supervisor left whose machine stopped."""
    layout.make()
    layout.starts.write_text(text)


@pytest.mark.parametrize("left", ["no folder", "an empty folder", "half a record"])
@pytest.mark.asyncio
async def test_a_start_of_which_only_the_journal_is_left_is_lost_and_not_made_again(tmp_path: Path, left: str) -> None:
    layout = Layout(tmp_path / "state")
    journal(layout, json.dumps(STARTED) + "\n")
    if left != "no folder":
        layout.run("r1").path.mkdir()
    if left == "half a record":
        layout.run("r1").started.write_text("")
    async with supervised(tmp_path / "state") as client:
        status = await client.start(request("r1", python("append.py", tmp_path / "spawned", "r1")))
        assert status.exit is not None
        assert status.exit.lost
        assert (records.read_record(layout.run("r1").started) or {})["note"] == STARTED["note"]
    assert not (tmp_path / "spawned").exists()


@pytest.mark.asyncio
async def test_a_line_that_was_cut_off_never_counted(tmp_path: Path) -> None:
    journal(Layout(tmp_path / "state"), json.dumps(STARTED)[:-9])
    async with supervised(tmp_path / "state") as client:
        assert (await client.status("r1")).phase is RunPhase.UNKNOWN
        await client.start(request("r1", python("append.py", tmp_path / "spawned", "r1")))
        assert (await client.wait_exit("r1")).exit_code == 0
    assert (tmp_path / "spawned").read_text() == "r1\n"


@pytest.mark.asyncio
async def test_a_program_finds_its_start_in_the_journal_until_the_files_are_durable(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", ["cp", str(client.layout.starts), str(tmp_path / "seen")]))
        assert (await client.wait_exit("r1")).exit_code == 0
        assert json.loads((tmp_path / "seen").read_text())["run"] == "r1"
        await until(lambda: not starts.counted(client.layout), "the journal to be empty")
        assert records.read_record(client.layout.run("r1").started) is not None


@pytest.mark.asyncio
async def test_a_run_that_was_forgotten_is_not_brought_back_by_the_journal(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", ["true"]))
        await client.wait_exit("r1")
        await client.forget("r1")
        assert starts.counted(client.layout) == set()


def test_a_start_costs_one_fsync_and_the_files_get_theirs_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.make()
    kept = Starts(layout)
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda fd, real=real: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))
        )
    layout.run("r1").path.mkdir()
    records.create_record(layout.run("r1").started, STARTED, durable=False)
    kept.add("r1", STARTED)
    assert synced == [str(layout.starts)]
    kept.settle()
    assert synced[1:] == [str(layout.run("r1").started), str(layout.run("r1").path), str(layout.runs)]
    kept.settle()
    assert len(synced) == 4
    assert layout.starts.read_bytes() == b""
    kept.close()


def test_a_start_that_the_disk_does_not_take_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    layout.make()
    kept = Starts(layout)
    kept.add("r1", STARTED)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="No space left"):
            kept.add("r2", {**STARTED, "run": "r2"})
    assert starts.counted(layout) == {"r1"}
    kept.add("r3", {**STARTED, "run": "r3"})
    assert starts.counted(layout) == {"r1", "r3"}
    kept.close()


def test_what_was_deleted_meanwhile_is_restored_as_far_as_the_journal_says_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    journal(layout, json.dumps(STARTED) + "\n" + json.dumps({**STARTED, "run": "../x"}) + "\n")
    starts.restore(layout)
    starts.restore(layout)
    assert records.phase_on_disk(layout.run("r1")) == (RunPhase.LOST, None)
    assert not layout.starts.exists()
    assert [path.name for path in layout.runs.iterdir()] == ["r1"]
