"""The life of the supervisor itself: found or started, shared, killed, stopped, idle, and started anew."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controllers.dispatch import supervisor
from controllers.dispatch.supervision import address, wire
from controllers.dispatch.supervision.records import ExitRecord, Layout, RunPhase, read_exit
from schemas.errors import Refused, Retry, Terminal
from tests.fakes.programs.harness import (
    CLOCK,
    DEAF,
    GRACE_S,
    gone,
    is_alive,
    is_held,
    marked,
    new_client,
    numbers_in,
    parent_of,
    python,
    request,
    supervised,
    until,
)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.mark.asyncio
async def test_five_engines_at_once_share_one_supervisor(tmp_path: Path) -> None:
    ends: list[str] = []
    clients = [new_client(tmp_path, on_exit=lambda record: ends.append(record.run)) for _ in range(4)]
    async with supervised(tmp_path, on_exit=lambda record: ends.append(record.run)) as client:
        pings = await asyncio.gather(*(c.ping() for c in (client, *clients)))
        assert len({ping["pid"] for ping in pings}) == 1
        order = request("r1", ["sh", "-c", "sleep 0.2; exit 4"])
        await asyncio.gather(*(c.start(order) for c in (client, *clients)))
        records = await asyncio.gather(*(c.wait_exit("r1") for c in (client, *clients)))
        assert {record.exit_code for record in records} == {4}
        assert ends == ["r1"] * 5
        assert (await client.ping())["spawned"] == 1
        await asyncio.gather(*(c.close() for c in clients))


@pytest.mark.asyncio
async def test_supervisors_of_two_directories_know_nothing_of_each_other(tmp_path: Path) -> None:
    async with supervised(tmp_path / "a") as a, supervised(tmp_path / "b") as b:
        assert (await a.ping())["pid"] != (await b.ping())["pid"]
        await a.start(request("r1", ["true"]))
        await a.wait_exit("r1")
        assert (await b.status("r1")).phase is RunPhase.UNKNOWN


@linux_only
@pytest.mark.asyncio
async def test_a_killed_supervisor_takes_its_programs_along_and_they_are_lost(tmp_path: Path) -> None:
    ends: list[ExitRecord] = []
    folder = tmp_path / "pids"
    folder.mkdir()
    script = ["sh", "-c", 'exec "$@" & sleep 60', "sh"]
    daemon = request("r1", [*script, *python("brood.py", folder, 2, "nameless")])
    async with supervised(tmp_path / "state", on_exit=ends.append) as client:
        started = await client.start(daemon)
        client.watch("r1")
        await until(lambda: len(numbers_in(folder)) == 2, "the daemons")
        killed = (await client.ping())["pid"]
        os.kill(killed, signal.SIGKILL)
        record = await client.wait_exit("r1")
        assert record.lost
        assert not record.may_be_running
        assert ends == [record]
        assert started.pid is not None
        assert not is_alive(started.pid)
        assert not [pid for pid in numbers_in(folder) if is_alive(pid)]
        # It stays lost: a successor does not start it again.
        again = await client.start(daemon)
        assert (again.phase, again.exit) == (RunPhase.ENDED, record)
        assert (await client.ping())["pid"] != killed


@linux_only
@pytest.mark.asyncio
async def test_when_the_guardian_is_killed_too_the_next_supervisor_cleans_up_its_own(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    script = ["sh", "-c", 'exec "$@" & sleep 60', "sh"]
    async with supervised(tmp_path / "other") as other, supervised(tmp_path / "state") as client:
        # A run of the same name under another supervisor, as a copy of a state directory would have.
        stay = [*script, *python("brood.py", theirs, 1, "daemon")]
        await other.start(request("r1", stay, env=marked(other, "r1")))
        leave = [*script, *python("brood.py", ours, 3, "daemon")]
        started = await client.start(request("r1", leave, env=marked(client, "r1")))
        # No mark in its environment: known by its pid and start time alone.
        plain = await client.start(request("r2", ["sleep", "60"]))
        await until(lambda: len(numbers_in(ours)) == 3 and len(numbers_in(theirs)) == 1, "the daemons")
        await until(client.layout.run("r2").process.exists, "the note of the process")
        pid = (await client.ping())["pid"]
        os.kill(parent_of(pid), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        assert (await client.wait_exit("r1")).lost
        assert (await client.wait_exit("r2")).lost
        left = [p for p in (*numbers_in(ours), started.pid, plain.pid) if p is not None and is_alive(p)]
        assert left == []
        assert is_alive(numbers_in(theirs)[0])
        assert (await other.status("r1")).phase is RunPhase.RUNNING


@linux_only
@pytest.mark.asyncio
async def test_a_killed_guardian_is_not_missed(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("polite.py", tmp_path / "pid")))
        await until((tmp_path / "pid").exists, "the program to be ready")
        pid = (await client.ping())["pid"]
        os.kill(parent_of(pid), signal.SIGKILL)
        await until(lambda: parent_of(pid) != pid, "the guardian to be gone")
        await client.cancel("r1", GRACE_S)
        assert (await client.wait_exit("r1")).exit_code == 7
        assert (await client.ping())["pid"] == pid


@pytest.mark.asyncio
async def test_a_terminated_supervisor_ends_its_programs_in_order(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("polite.py", tmp_path / "pid")))
        await until((tmp_path / "pid").exists, "the program to be ready")
        first = (await client.ping())["pid"]
        os.kill(first, signal.SIGTERM)
        await gone(tmp_path / "state")
        record = read_exit(client.layout.run("r1"))
        assert record is not None
        assert (record.stopped, record.canceled, record.lost, record.exit_code) == (True, False, False, 7)
        assert (await client.wait_exit("r1")) == record
        assert (await client.ping())["pid"] != first


@pytest.mark.asyncio
async def test_stopping_is_refused_while_programs_run_unless_forced(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("stubborn.py", tmp_path / "pid"), kill_grace_s=GRACE_S))
        await until((tmp_path / "pid").exists, "the program to be ready")
        with pytest.raises(Refused, match="1 runs are active"):
            await client.stop()
        with pytest.raises(Refused, match="has not ended"):
            await client.forget("r1")
        await client.stop(force=True)
        assert is_alive(int((tmp_path / "pid").read_text()))
        await client.stop(force=True)
        await gone(tmp_path / "state")
        record = read_exit(client.layout.run("r1"))
        assert record is not None
        assert (record.stopped, record.signal) == (True, signal.SIGKILL)


@pytest.mark.asyncio
async def test_a_start_that_meets_a_stopping_supervisor_is_taken_by_the_next(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        await client.start(request("r1", python("stubborn.py", tmp_path / "pid"), kill_grace_s=0.3))
        await until((tmp_path / "pid").exists, "the program to be ready")
        await client.stop(force=True)
        await client.start(request("r2", ["true"]))
        assert (await client.wait_exit("r2")).exit_code == 0
        assert (await client.wait_exit("r1")).stopped


@pytest.mark.asyncio
async def test_an_idle_supervisor_leaves(tmp_path: Path) -> None:
    client = new_client(tmp_path, idle_exit_s=0.1)
    pid = (await client.ping())["pid"]
    await CLOCK.sleep(0.3)
    assert (await client.ping())["pid"] == pid, "it left although a client was connected"
    await client.close()
    await gone(tmp_path)
    assert not client.layout.socket.exists()
    assert not is_alive(pid)


@pytest.mark.asyncio
async def test_a_run_is_held_to_its_deadline_while_no_engine_is_there(tmp_path: Path) -> None:
    first = new_client(tmp_path, idle_exit_s=0.1)
    await first.start(request("r1", DEAF, deadline_s=0.8, kill_grace_s=0.2))
    await first.close()
    await gone(tmp_path)
    record = read_exit(first.layout.run("r1"))
    assert record is not None
    assert (record.timed_out, record.signal) == (True, signal.SIGKILL)
    async with supervised(tmp_path) as second:
        assert await second.wait_exit("r1") == record


@pytest.mark.asyncio
async def test_stale_files_of_a_dead_supervisor_do_not_matter(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(layout.socket))
    stale.close()
    layout.lock.write_text("4711")
    layout.pointer.write_text("/no/such/place/socket")
    (layout.runs / "not a run!").mkdir()
    (layout.runs / "empty").mkdir()
    (layout.runs / "file").write_text("x")
    async with supervised(tmp_path) as client:
        await client.start(request("r1", ["true"]))
        assert (await client.wait_exit("r1")).exit_code == 0
        assert not layout.pointer.exists()


@pytest.mark.asyncio
async def test_a_state_directory_may_have_a_long_path(tmp_path: Path) -> None:
    state = tmp_path / ("d" * 100) / ("e" * 100)
    async with supervised(state) as client:
        await client.start(request("r1", ["true"]))
        assert (await client.wait_exit("r1")).exit_code == 0
        place = address.socket_path(client.layout)
        assert len(str(place)) < 100
        assert place.parent.stat().st_mode & 0o777 == 0o700
    assert not place.parent.exists()
    assert not client.layout.pointer.exists()


@pytest.mark.asyncio
async def test_a_socket_in_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    state, trap = tmp_path / "state", tmp_path / "trap"
    layout = Layout(state)
    layout.make()
    trap.mkdir()
    trap.chmod(0o777)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(trap / "socket"))
    listener.listen()
    listener.setblocking(False)
    layout.pointer.write_text(str(trap / "socket"))
    async with supervised(state) as client:
        await client.start(request("r1", ["true"], env={"TOKEN": "x", "PATH": "/usr/bin:/bin"}))
        assert (await client.wait_exit("r1")).exit_code == 0
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


@pytest.mark.asyncio
async def test_a_start_that_was_cut_off_before_it_counted_is_made_good(tmp_path: Path) -> None:
    """started.json is complete and durable before anything is spawned; half of one proves that nothing was."""
    layout = Layout(tmp_path / "state")
    layout.make()
    layout.run("r1").path.mkdir()
    layout.run("r1").started.write_text('{"run": "r1", "ar')
    async with supervised(tmp_path / "state") as client:
        assert (await client.status("r1")).phase is RunPhase.UNKNOWN
        await client.start(request("r1", python("append.py", tmp_path / "spawned", "r1")))
        assert (await client.wait_exit("r1")).exit_code == 0
    assert (tmp_path / "spawned").read_text() == "r1\n"


@pytest.mark.asyncio
async def test_a_start_that_counted_but_has_no_end_is_lost(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.make()
    layout.run("r1").path.mkdir()
    layout.run("r1").started.write_text(json.dumps({"run": "r1", "started_at": "2026-11-21T00:00:00.000Z"}))
    async with supervised(tmp_path / "state") as client:
        status = await client.start(request("r1", python("append.py", tmp_path / "spawned", "r1")))
        assert status.exit is not None
        assert status.exit.lost
    assert not (tmp_path / "spawned").exists()


@pytest.mark.asyncio
async def test_a_sealed_run_is_never_started(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        sealed = await client.seal("r1", "Canceled", "canceled before it was started", canceled=True)
        assert sealed.exit is not None
        assert sealed.exit.canceled
        started = await client.start(request("r1", python("append.py", tmp_path / "spawned", "r1")))
        assert started.exit == sealed.exit
        await client.start(request("r2", ["true"]))
        record = await client.wait_exit("r2")
        assert (await client.seal("r2", "Canceled", "too late", canceled=True)).exit == record
    assert not (tmp_path / "spawned").exists()


@pytest.mark.asyncio
async def test_a_forgotten_run_leaves_no_trace(tmp_path: Path) -> None:
    async with supervised(tmp_path) as client:
        await client.start(request("r1", ["true"]))
        await client.wait_exit("r1")
        await client.forget("r1")
        await client.forget("r1")
        assert (await client.status("r1")).phase is RunPhase.UNKNOWN
        assert list(client.layout.runs.iterdir()) == []
        assert not client.layout.trash.exists()


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe\n", b"[]\n", b"[" * 200_000 + b"\n", b"x" * (wire.MAX_LINE + 70_000), b"GET / HTTP/1.1\r\n\r\n"],
    ids=["binary", "list", "nested", "endless", "http"],
)
@pytest.mark.asyncio
async def test_a_client_that_speaks_something_else_is_dropped(tmp_path: Path, data: bytes) -> None:
    async with supervised(tmp_path) as client:
        pid = (await client.ping())["pid"]
        reader, writer = await asyncio.open_unix_connection(str(client.layout.socket))
        writer.write(data)
        assert await reader.read() == b""
        writer.close()
        assert (await client.ping())["pid"] == pid


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"op": "fly"}, "UnknownOperation"),
        ({}, "UnknownOperation"),
        ({"op": "start", "run": "../x", "argv": ["true"], "env": {}, "cwd": "/"}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": [], "env": {}, "cwd": "/"}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["a\0b"], "env": {}, "cwd": "/"}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["true"], "env": {"A=B": "x"}, "cwd": "/"}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["true"], "env": {"A": 1}, "cwd": "/"}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["true"], "env": {}, "cwd": "here"}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["true"], "env": {}, "cwd": "/", "deadline_s": -1}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["true"], "env": {}, "cwd": "/", "stdout_cap": 1.5}, "InvalidRequest"),
        ({"op": "start", "run": "r", "argv": ["true"], "env": {}, "cwd": "/", "note": {"a": 1}}, "InvalidRequest"),
        ({"op": "cancel", "run": "r" * 200}, "InvalidRequest"),
        ({"op": "status", "run": 5}, "InvalidRequest"),
        ({"op": "forget", "run": ".."}, "InvalidRequest"),
    ],
)
@pytest.mark.asyncio
async def test_a_wrong_request_is_refused_and_changes_nothing(
    tmp_path: Path, message: dict[str, object], reason: str
) -> None:
    async with supervised(tmp_path) as client:
        await client.ping()
        reader, writer = await asyncio.open_unix_connection(str(client.layout.socket))
        writer.write(wire.encode({**message, "id": 1}))
        answer = wire.decode(await reader.readline())
        writer.close()
        assert answer["ok"] is False
        assert answer["error"]["reason"] == reason
        assert list(client.layout.runs.iterdir()) == []


@pytest.mark.asyncio
async def test_a_directory_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    client = new_client(tmp_path / "file" / "state")
    with pytest.raises(Retry, match="does not start: failed"):
        await client.ping()
    await client.close()
    with pytest.raises(Terminal, match="closed"):
        await client.ping()


@linux_only
@pytest.mark.asyncio
async def test_nothing_stays_behind_when_the_state_directory_is_deleted(tmp_path: Path) -> None:
    state = tmp_path / "state"
    client = new_client(state, idle_exit_s=0.1)
    await client.start(request("r1", python("polite.py", tmp_path / "pid")))
    await until((tmp_path / "pid").exists, "the program to be ready")
    pid = (await client.ping())["pid"]
    guardian = parent_of(pid)
    await client.close()
    shutil.rmtree(state)
    await until(lambda: not is_alive(int((tmp_path / "pid").read_text())), "the program to be ended")
    await until(lambda: not is_alive(pid) and not is_alive(guardian), "the supervisor to leave")
    assert not state.exists()


@pytest.mark.asyncio
async def test_a_run_whose_folder_was_deleted_does_not_hold_the_supervisor(tmp_path: Path) -> None:
    client = new_client(tmp_path / "state", idle_exit_s=0.1)
    await client.start(request("r1", python("polite.py", tmp_path / "pid")))
    await until((tmp_path / "pid").exists, "the program to be ready")
    shutil.rmtree(client.layout.runs)
    await client.cancel("r1", GRACE_S)
    assert (await client.wait_exit("r1")).exit_code == 7
    await client.close()
    await gone(tmp_path / "state")


@linux_only
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.asyncio
async def test_the_supervisor_of_a_deleted_directory_leaves_its_successor_alone(
    tmp_path: Path, end: signal.Signals
) -> None:
    state = tmp_path / "state"
    first = new_client(state)
    old = (await first.ping())["pid"]
    guardian = parent_of(old)
    shutil.rmtree(state)
    async with supervised(state) as client:
        started = await client.start(request("r1", ["sleep", "60"]))
        assert (await client.ping())["pid"] != old
        os.kill(old, end)
        await until(lambda: not is_alive(old) and not is_alive(guardian), "the first supervisor to leave")
        assert client.layout.socket.exists()
        assert started.pid is not None
        assert is_alive(started.pid)
        assert (await client.status("r1")).phase is RunPhase.RUNNING
        await first.close()


@pytest.mark.asyncio
async def test_stopping_a_supervisor_that_is_not_there_starts_none(tmp_path: Path) -> None:
    client = new_client(tmp_path / "state")
    await client.stop(force=True)
    await client.close()
    assert not (tmp_path / "state").exists()


def test_the_supervisor_imports_the_standard_library_and_its_own_package_only() -> None:
    """And three modules that import the standard library only, as it does."""
    plain = {"schemas", "schemas.redaction", "schemas.redaction_stream", "controllers.runtime"}
    plain.add("controllers.runtime.beneath")
    program = (
        "import runpy, sys\n"
        f"runpy.run_path({str(supervisor.__file__)!r}, run_name='loaded')\n"
        "print(*sorted(n for n in sys.modules if n.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    foreign = [
        name
        for name in done.stdout.split()
        if name not in ("controllers", "controllers.dispatch", "__main__", *plain)
        and not name.startswith("controllers.dispatch.supervision")
    ]
    assert foreign == []


def start_supervisor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(supervisor.__file__), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.asyncio
async def test_a_second_supervisor_says_that_the_directory_is_taken(tmp_path: Path) -> None:
    async with supervised(tmp_path):
        first = await asyncio.to_thread(start_supervisor, str(tmp_path), "60")
        second = await asyncio.to_thread(start_supervisor, str(tmp_path), "60")
        assert (first.stdout, second.stdout) == ("ready\n", "taken\n")
        assert (first.returncode, second.returncode) == (0, 0)
        assert is_held(tmp_path)


def test_a_supervisor_without_a_directory_says_what_is_wrong() -> None:
    wrong = start_supervisor()
    assert (wrong.returncode, wrong.stdout.split()[0]) == (1, "failed")


@pytest.mark.asyncio
async def test_a_silent_supervisor_is_an_error_and_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with supervised(tmp_path) as client:
        pid = (await client.ping())["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            with monkeypatch.context() as patch:
                patch.setattr("controllers.dispatch.supervisor_link.CALL_TIMEOUT_S", 0.05)
                patch.setattr("controllers.dispatch.supervisor_client._ATTEMPTS", 3)
                with pytest.raises(Retry, match="does not answer"):
                    await client.ping()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await client.ping())["pid"] == pid
