"""The supervisor holding real programs: start, output, environment, deadlines, cancel, leftovers."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from controllers.dispatch.supervision.records import GAP, RunPhase, read_exit
from controllers.dispatch.supervisor_link import CALL_TIMEOUT_S
from schemas.errors import Retry
from tests.fakes.programs.harness import (
    CLOCK,
    DEAF,
    GRACE_S,
    environment_of,
    is_alive,
    marked,
    numbers_in,
    python,
    request,
    supervised,
    until,
)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.mark.asyncio
async def test_a_program_runs_and_its_output_and_exit_code_are_recorded(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        status = await client.start(request("r1", ["sh", "-c", "echo out; echo err >&2; exit 3"]))
        record = await client.wait_exit("r1")
        folder = client.layout.run("r1")
        assert status.phase is RunPhase.RUNNING
        assert (record.exit_code, record.signal, record.truncated) == (3, None, False)
        assert (record.stdout_bytes, record.stderr_bytes) == (4, 4)
        assert folder.stdout.read_bytes() == b"out\n"
        assert folder.stderr.read_bytes() == b"err\n"
        assert read_exit(folder) == record
        assert (await client.status("r1")).exit == record


@pytest.mark.asyncio
async def test_a_second_start_of_a_run_never_spawns(tmp_path: Path) -> None:
    log = tmp_path / "spawned"
    order = request("r1", python("append.py", log, "r1", 0.3))
    async with supervised(tmp_path / "state") as client:
        statuses = await asyncio.gather(*(client.start(order) for _ in range(20)))
        assert {status.phase for status in statuses} <= {RunPhase.RUNNING, RunPhase.ENDED}
        record = await client.wait_exit("r1")
        again = await client.start(order)
        assert (again.phase, again.exit) == (RunPhase.ENDED, record)
        assert (await client.ping())["spawned"] == 1
    async with supervised(tmp_path / "state") as client:
        assert (await client.start(order)).exit == record
        assert (await client.ping())["spawned"] == 0
    assert log.read_text() == "r1\n"


@pytest.mark.parametrize(
    ("argv", "fields", "reason"),
    [
        (["no-such-program"], {}, "ProgramNotFound"),
        (["/no/such/program"], {}, "ProgramNotFound"),
        (["sh"], {"env": {"PATH": ""}}, "ProgramNotFound"),
        (["./plain"], {}, "ProgramNotExecutable"),
        (["./folder"], {}, "ProgramNotExecutable"),
        (["./shapeless"], {}, "ProgramNotExecutable"),
        (["./orphan"], {}, "ProgramNotFound"),
        (["true"], {"cwd": "/no/such/folder"}, "WorkingDirNotFound"),
        (["true"], {"cwd": "plain"}, "WorkingDirNotFound"),
        (["true"], {"stdin_file": "/no/such/file"}, "InputNotFound"),
        (["true", "x" * 4_000_000], {}, "ArgumentsTooLong"),
        (["true", "\ud800"], {}, "SpawnFailed"),
    ],
)
@pytest.mark.asyncio
async def test_a_program_that_cannot_be_started_is_a_clear_error_record(
    tmp_path: Path, argv: list[str], fields: dict[str, str], reason: str
) -> None:
    (tmp_path / "plain").write_text("text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "shapeless").write_text("no first line")
    (tmp_path / "shapeless").chmod(0o755)
    (tmp_path / "orphan").write_text("#!/no/such/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)
    if fields.get("cwd") == "plain":
        fields = {"cwd": str(tmp_path / "plain")}
    async with supervised(tmp_path / "state") as client:
        status = await client.start(request("r1", argv, **{"cwd": str(tmp_path), **fields}))
        assert status.phase is RunPhase.ENDED
        assert status.exit is not None
        assert status.exit.error is not None
        assert status.exit.error.reason == reason
        assert status.exit.error.message
        assert (await client.wait_exit("r1")).exit_code is None
        # The supervisor is fine.
        await client.start(request("r2", ["true"]))
        assert (await client.wait_exit("r2")).exit_code == 0


@linux_only
@pytest.mark.asyncio
async def test_a_program_gets_what_was_ordered_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_SECRET", "hunter2-of-the-engine")
    leaked = os.open(tmp_path / "leak", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(leaked, True)
    (tmp_path / "mission").write_text('{"do": "it"}')
    env = {"PATH": "/usr/bin:/bin", "MY_TOKEN": "s3cret-value", "EMPTY": ""}
    async with supervised(tmp_path / "state") as client:
        supervisor = (await client.ping())["pid"]
        await client.start(
            request(
                "r1",
                python("describe.py", "a b", "$HOME"),
                env=env,
                cwd=str(tmp_path),
                stdin_file=str(tmp_path / "mission"),
                redaction="Off",
            )
        )
        assert (await client.wait_exit("r1")).exit_code == 0
        folder = client.layout.run("r1")
        seen = json.loads(folder.stdout.read_text())
        environ = environment_of(supervisor)
    os.close(leaked)
    # The interpreter itself adds LC_CTYPE in the C locale.
    assert {k: v for k, v in seen["env"].items() if k != "LC_CTYPE"} == env
    assert seen["argv"] == ["a b", "$HOME"]
    assert (seen["cwd"], seen["stdin"]) == (str(tmp_path), '{"do": "it"}')
    assert seen["descriptors"] == [0, 1, 2]
    assert (seen["session_leader"], seen["umask"]) == (True, 0o077)
    assert (seen["ignored"], seen["blocked"]) == ([], [])
    assert b"hunter2" not in environ
    for path in folder.path.rglob("*"):
        if path.is_file() and path != folder.stdout:
            assert b"s3cret-value" not in path.read_bytes(), f"{path.name} holds a value of the environment"
    assert "MY_TOKEN" in json.loads(folder.started.read_text())["env_names"]


@linux_only
@pytest.mark.asyncio
async def test_signals_have_their_default_action_in_a_program(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        await client.start(request("r1", ["cat", "/proc/self/status"]))
        await client.wait_exit("r1")
        status = dict(
            line.split(":", 1) for line in client.layout.run("r1").stdout.read_text().splitlines() if ":" in line
        )
    # The C library keeps signals 32 and 33 for itself.
    assert int(status["SigIgn"], 16) & 0x7FFFFFFF == 0
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigCgt"], 16) == 0


@pytest.mark.asyncio
async def test_without_an_input_file_a_program_reads_nothing(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        await client.start(request("r1", ["cat"]))
        assert (await client.wait_exit("r1")).exit_code == 0


@pytest.mark.asyncio
async def test_files_of_a_run_are_private(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", ["echo", "x"]))
        await client.wait_exit("r1")
        for path in (client.layout.run("r1").path, *client.layout.run("r1").path.iterdir(), client.layout.home):
            assert path.stat().st_mode & 0o077 == 0, path.name


@pytest.mark.asyncio
async def test_binary_output_is_kept_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3000
    (tmp_path / "data").write_bytes(data)
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", ["cat", str(tmp_path / "data")]))
        record = await client.wait_exit("r1")
        assert client.layout.run("r1").stdout.read_bytes() == data
        assert (record.stdout_bytes, record.stdout_dropped) == (len(data), 0)


@pytest.mark.asyncio
async def test_a_flood_of_100_mb_is_cut_counted_and_hurts_nobody(tmp_path: Path) -> None:
    cap = 1_000_000
    async with supervised(tmp_path) as client:
        await client.start(request("flood", python("flood.py", 100), stdout_cap=cap))
        slowest = 0.0
        ended = asyncio.ensure_future(client.wait_exit("flood"))
        while not ended.done():
            before = CLOCK.monotonic()
            await client.ping()
            slowest = max(slowest, CLOCK.monotonic() - before)
            await CLOCK.sleep(0.01)
        record = await ended
        log = client.layout.run("flood").stdout.read_bytes()
    assert record.exit_code == 0
    assert record.stdout_bytes == 100 * 1024 * 1024 + len("first line\nlast line\n")
    assert record.truncated
    assert len(log) <= cap + 100
    assert log.startswith(b"first line\n")
    assert log.endswith(b"\nlast line\n")
    assert GAP.search(log)
    missing = GAP.search(log)
    assert missing is not None
    assert record.stdout_bytes - record.stdout_dropped == len(log) - len(missing.group()) - 2
    assert slowest < CALL_TIMEOUT_S / 2, "nobody who asked came near to giving up"


@pytest.mark.asyncio
async def test_an_endless_flood_ends_at_its_deadline(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        await client.start(request("r1", ["yes"], stdout_cap=10_000, deadline_s=0.3))
        record = await client.wait_exit("r1")
        assert (record.timed_out, record.signal) == (True, signal.SIGTERM)
        assert client.layout.run("r1").stdout.stat().st_size < 11_000


@pytest.mark.asyncio
async def test_a_program_that_ignores_the_request_to_end_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        await client.start(request("r1", DEAF, deadline_s=0.8, kill_grace_s=0.3))
        record = await client.wait_exit("r1")
    assert (record.timed_out, record.canceled, record.signal) == (True, False, signal.SIGKILL)
    assert record.duration_ms >= 1050, "it got its grace"


@pytest.mark.asyncio
async def test_a_program_may_end_in_its_own_way_when_asked_to(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("polite.py", tmp_path / "pid")))
        await until((tmp_path / "pid").exists, "the program to be ready")
        status = await client.cancel("r1", GRACE_S)
        record = await client.wait_exit("r1")
        assert status.phase is RunPhase.RUNNING
        assert (record.canceled, record.exit_code) == (True, 7)
        assert client.layout.run("r1").stdout.read_text() == "goodbye\n"


@pytest.mark.asyncio
async def test_cancel_is_idempotent_and_a_shorter_grace_counts(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("stubborn.py", tmp_path / "pid")))
        await until((tmp_path / "pid").exists, "the program to be ready")
        await asyncio.gather(*(client.cancel("r1", 600.0) for _ in range(5)))
        assert is_alive(int((tmp_path / "pid").read_text()))
        await client.cancel("r1", 0.05)
        record = await client.wait_exit("r1")
        assert (record.canceled, record.signal) == (True, signal.SIGKILL)
        after = await client.cancel("r1", 1.0)
        assert (after.phase, after.exit) == (RunPhase.ENDED, record)
        assert (await client.cancel("never-started", 1.0)).phase is RunPhase.UNKNOWN


@pytest.mark.asyncio
async def test_a_cancel_after_the_end_does_not_change_the_record(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        await client.start(request("r1", ["true"]))
        record = await client.wait_exit("r1")
        assert (await client.cancel("r1", 0.0)).exit == record
        assert not record.canceled


@linux_only
@pytest.mark.asyncio
async def test_a_stopped_program_can_be_canceled(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("polite.py", tmp_path / "pid")))
        await until((tmp_path / "pid").exists, "the program to be ready")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGSTOP)
        await client.cancel("r1", GRACE_S)
        assert (await client.wait_exit("r1")).exit_code == 7


@linux_only
@pytest.mark.parametrize("mode", ["child", "group", "daemon", "nameless", "stubborn"])
@pytest.mark.asyncio
async def test_what_a_program_leaves_behind_is_ended(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("brood.py", folder, 5, mode)))
        record = await client.wait_exit("r1")
        pids = numbers_in(folder)
        assert len(pids) == 5
        assert not [pid for pid in pids if is_alive(pid)]
        assert (record.exit_code, record.leftovers, record.may_be_running) == (0, 5, False)
        assert client.layout.run("r1").stdout.read_text() == "gone\n"


@linux_only
@pytest.mark.asyncio
async def test_many_grandchildren_are_ended_with_a_canceled_program(tmp_path: Path) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    script = (
        "import os, sys, time\n"
        "for _ in range(6): os.fork()\n"
        "open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n"
        "time.sleep(60)"
    )
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", [sys.executable, "-I", "-S", "-c", script, str(folder)]))
        await until(lambda: len(numbers_in(folder)) == 64, "64 processes")
        await client.cancel("r1", 5.0)
        record = await client.wait_exit("r1")
        assert record.canceled
        assert not [pid for pid in numbers_in(folder) if is_alive(pid)]


@linux_only
@pytest.mark.asyncio
async def test_the_end_of_one_run_leaves_the_processes_of_another_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    stay = ["sh", "-c", 'exec "$@" & sleep 60', "sh", *python("brood.py", theirs, 1, "daemon")]
    async with supervised(tmp_path / "state") as client:
        await client.start(request("theirs", stay, env=marked(client, "theirs")))
        await until(lambda: len(numbers_in(theirs)) == 1, "the daemon of the other run")
        await client.start(request("ours", python("brood.py", ours, 2, "daemon"), env=marked(client, "ours")))
        record = await client.wait_exit("ours")
        assert record.leftovers == 2
        assert is_alive(numbers_in(theirs)[0])
        await client.cancel("theirs", 5.0)
        await client.wait_exit("theirs")
        assert not is_alive(numbers_in(theirs)[0])


@linux_only
@pytest.mark.parametrize("mode", ["child", "group"])
@pytest.mark.asyncio
async def test_what_stays_in_the_session_of_a_run_is_known_without_a_mark(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    async with supervised(tmp_path / "state") as client:
        await client.start(request("other", ["sleep", "60"]))
        await client.start(request("r1", python("brood.py", folder, 3, mode)))
        assert (await client.wait_exit("r1")).leftovers == 3
        assert (await client.status("other")).phase is RunPhase.RUNNING


@linux_only
@pytest.mark.asyncio
async def test_a_process_that_could_be_of_several_runs_ends_with_the_last_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    async with supervised(tmp_path / "state") as client:
        await client.start(request("other", ["sleep", "60"]))
        await client.start(request("r1", python("brood.py", folder, 2, "nameless")))
        assert (await client.wait_exit("r1")).leftovers == 0
        (one, two) = numbers_in(folder)
        assert is_alive(one)
        assert is_alive(two)
        await client.cancel("other", 5.0)
        assert (await client.wait_exit("other")).leftovers == 2
        assert not is_alive(one)
        assert not is_alive(two)


@linux_only
@pytest.mark.asyncio
async def test_a_log_that_cannot_be_written_harms_neither_program_nor_supervisor(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        supervisor = (await client.ping())["pid"]
        limits = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (20_000, limits[1]))
        await client.start(request("r1", python("flood.py", 3)))
        record = await client.wait_exit("r1")
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, limits)
        assert record.exit_code == 0
        assert record.stdout_bytes > 3_000_000
        assert record.stdout_dropped >= record.stdout_bytes - 20_000
        assert record.log_error
        assert client.layout.run("r1").stdout.stat().st_size == 20_000


@linux_only
@pytest.mark.asyncio
async def test_while_the_disk_is_full_no_end_is_lost_and_nothing_is_started(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        supervisor = (await client.ping())["pid"]
        limits = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
        await client.start(request("r1", python("polite.py", tmp_path / "pid")))
        await until((tmp_path / "pid").exists, "the program to be ready")
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (0, limits[1]))
        with pytest.raises(Retry, match="r2"):
            await client.start(request("r2", python("append.py", tmp_path / "spawned", "r2")))
        assert not client.layout.run("r2").started.exists()
        await client.cancel("r1", GRACE_S)
        record = await client.wait_exit("r1")
        assert record.exit_code == 7
        assert not client.layout.run("r1").exit.exists()
        assert (await client.status("r1")).exit == record
        resource.prlimit(supervisor, resource.RLIMIT_FSIZE, limits)
        await until(client.layout.run("r1").exit.exists, "the exit record to be written after all")
        assert read_exit(client.layout.run("r1")) == record
        await client.start(request("r2", python("append.py", tmp_path / "spawned", "r2")))
        await client.wait_exit("r2")
    assert (tmp_path / "spawned").read_text() == "r2\n"


@pytest.mark.asyncio
async def test_many_runs_at_once_each_keep_their_own_output(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        names = [f"r{n}" for n in range(40)]
        await asyncio.gather(*(client.start(request(n, ["sh", "-c", f"echo {n}; exit {n[1:]}"])) for n in names))
        records = await asyncio.gather(*(client.wait_exit(n) for n in names))
        assert [record.exit_code for record in records] == list(range(40))
        assert all(client.layout.run(n).stdout.read_text() == f"{n}\n" for n in names)
        assert await client.running() == ()
