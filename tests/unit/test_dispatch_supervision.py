"""The parts of the supervisor by themselves: capture, loop, connections, records, protocol."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.dispatch.supervision import connection, records, wire
from controllers.dispatch.supervision.capture import Capture
from controllers.dispatch.supervision.connection import Connection
from controllers.dispatch.supervision.loop import READ, Loop
from controllers.dispatch.supervision.records import GAP, ExitError, ExitRecord, Layout, RunPhase, gap_line
from controllers.dispatch.supervision.wire import LineBuffer, ProtocolError, StartRequest
from schemas.redaction import Redactor


class Time:
    """Seconds that move when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def raise_error(error: BaseException) -> None:
    raise error


def capture_of(tmp_path: Path, data: bytes, cap: int, chunk: int = 4096) -> tuple[Capture, bytes]:
    """Send ``data`` through a capture; the closed capture and its log."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    capture = Capture(ours, tmp_path / "log", cap)
    for start in range(0, len(data), chunk):
        os.write(theirs, data[start : start + chunk])
        assert capture.pump()
    os.close(theirs)
    assert not capture.pump()
    capture.close()
    capture.close()
    return capture, (tmp_path / "log").read_bytes()


@given(size=st.integers(0, 5000), cap=st.integers(0, 3000), chunk=st.integers(1, 1500))
def test_a_log_holds_all_output_or_its_head_and_tail_and_the_count_of_the_rest(
    tmp_path_factory: pytest.TempPathFactory, size: int, cap: int, chunk: int
) -> None:
    data = bytes(ord("a") + n % 26 for n in range(size))
    capture, log = capture_of(tmp_path_factory.mktemp("c"), data, cap, max(chunk, 50))
    assert capture.total == size
    if size <= cap:
        assert (log, capture.dropped) == (data, 0)
    else:
        head, gap, tail = log.partition(gap_line(size - cap))
        assert gap
        assert GAP.search(log)
        assert capture.dropped == size - cap == size - len(head) - len(tail)
        assert data.startswith(head)
        assert data.endswith(tail)


def test_output_that_is_only_dropped_is_drained_at_a_bounded_rate(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    capture = Capture(ours, tmp_path / "log", 10)
    pauses = []
    for _ in range(40):
        os.write(theirs, b"x" * 65536)
        assert capture.pump()
        pauses.append(capture.pause_s(100.0))
    os.close(theirs)
    capture.close()
    assert pauses[0] == 0.0
    assert 0 < pauses[-1] < 0.0101
    assert Capture(os.dup(0), tmp_path / "log2", 10).pause_s(100.0) == 0.0


def test_a_log_on_a_full_disk_loses_output_but_keeps_counting() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    capture = Capture(ours, Path("/dev/full"), 1000)
    os.write(theirs, b"x" * 300)
    os.close(theirs)
    assert capture.pump()
    assert not capture.pump()
    capture.close()
    assert (capture.total, capture.dropped) == (300, 300)
    assert "No space" in capture.error


def test_timers_fire_in_order_once_and_not_when_canceled() -> None:
    time, seen = Time(), []
    loop = Loop(time, raise_error)
    loop.call_later(2.0, lambda: seen.append("second"))
    loop.call_later(1.0, lambda: seen.append("first"))
    canceled = loop.call_later(1.5, lambda: seen.append("canceled"))
    canceled.cancel()
    canceled.cancel()
    time.now += 5
    loop.turn()
    loop.call_later(0.0, lambda: seen.append("third"))
    loop.turn()
    loop.close()
    assert seen == ["first", "second", "third"]


def test_a_callback_that_fails_does_not_stop_the_loop() -> None:
    time, seen = Time(), []
    errors: list[BaseException] = []
    loop = Loop(time, errors.append)
    loop.call_later(0.0, lambda: raise_error(ValueError("bad")))
    loop.call_later(0.0, lambda: seen.append("next"))
    loop.turn()
    loop.close()
    assert (seen, [str(error) for error in errors]) == (["next"], ["bad"])


def test_a_descriptor_that_was_unwatched_in_the_same_turn_is_not_called() -> None:
    loop = Loop(Time(), raise_error)
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    seen = []

    def drop(name: str, other: socket.socket) -> None:
        seen.append(name)
        loop.unwatch(other.fileno())
        loop.unwatch(other.fileno())

    loop.watch(a.fileno(), READ, lambda: drop("a", c))
    loop.watch(c.fileno(), READ, lambda: drop("c", a))
    b.send(b"x")
    d.send(b"x")
    loop.turn()
    assert len(seen) == 1
    loop.close()
    for end in (a, b, c, d):
        end.close()


def test_a_client_that_does_not_read_is_dropped_and_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BACKLOG", 1_000_000)
    loop = Loop(Time(), raise_error)
    ours, theirs = socket.socketpair()
    closed = []
    client = Connection(ours, loop, lambda message: {}, closed.append)
    for _ in range(1000):
        client.send(b"x" * 10_000)
    assert closed == [client]
    client.send(b"more")
    client.close()
    assert closed == [client]
    loop.close()
    theirs.close()


def test_a_slow_client_gets_everything_in_order() -> None:
    loop = Loop(Time(), raise_error)
    ours, theirs = socket.socketpair()
    client = Connection(ours, loop, lambda message: {"echo": message["n"]}, lambda closed: None)
    sent = b"".join(b"%07d" % n for n in range(100_000))
    client.send(sent)
    received = b""
    while len(received) < len(sent):
        received += theirs.recv(65536)
        loop.call_later(0.0, lambda: None)
        loop.turn()
    assert received == sent
    theirs.send(wire.encode({"n": 1}) + wire.encode({"n": 2})[:-1])
    loop.turn()
    theirs.send(b"\n")
    loop.turn()
    assert theirs.recv(1000) == wire.encode({"echo": 1}) + wire.encode({"echo": 2})
    client.close()
    theirs.close()
    loop.close()


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.integers(1, 7))
def test_lines_come_out_whole_however_they_are_cut(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer()
    found = [line for start in range(0, len(data), size) for line in buffer.feed(data[start : start + size])]
    assert found == lines


def test_a_line_beyond_the_limit_is_refused() -> None:
    for data in (b"x" * 11, b"x" * 11 + b"\n"):
        with pytest.raises(ProtocolError):
            LineBuffer(limit=10).feed(data)
    assert LineBuffer(limit=10).feed(b"x" * 10 + b"\n") == [b"x" * 10]


def test_a_start_request_survives_the_wire() -> None:
    request = StartRequest(
        run="r-1",
        argv=["sh", "-c", "exit 0", "ü"],
        env={"A": "b=c\n"},
        cwd="/tmp",
        stdin_file="/dev/null",
        deadline_s=1.5,
        kill_grace_s=0.0,
        stdout_cap=5,
        stderr_cap=6,
        note={"k": "v"},
    )
    assert StartRequest.from_wire(wire.decode(wire.encode(request.to_wire()))) == request
    assert "b=c" not in repr(request)


def test_what_is_wrong_with_a_request_is_said_without_its_values() -> None:
    good: dict[str, Any] = StartRequest("r", ["true"], {"TOKEN": "s3cret"}, "/").to_wire()
    for field, value in (("env", {"TOKEN": 5, "OTHER": "s3cret"}), ("argv", ["s3cret\0"]), ("cwd", "s3cret")):
        with pytest.raises(ValueError, match=field) as error:
            StartRequest.from_wire({**good, field: value})
        assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("run", ["", ".", "..", "../x", "a/b", "-a", ".a", "a\0", "a b", "ä", "x" * 129, None, 5])
def test_a_name_that_could_leave_the_folder_of_runs_is_refused(tmp_path: Path, run: Any) -> None:
    with pytest.raises(ValueError, match="a run is named"):
        Layout(tmp_path).run(run)


def test_an_exit_record_survives_the_disk_and_a_newer_version(tmp_path: Path) -> None:
    record = ExitRecord("r", "a", "b", duration_ms=5, error=ExitError("Why", "how"), stdout_bytes=9, stdout_dropped=1)
    folder = Layout(tmp_path).run("r")
    folder.path.mkdir(parents=True)
    records.replace_record(folder.exit, {**record.to_wire(), "field_of_the_future": 1})
    assert records.read_exit(folder) == record
    assert records.phase_on_disk(folder) == (RunPhase.ENDED, record)
    assert [path.name for path in folder.path.iterdir()] == ["exit.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"run": "r"}', "[" * 100_000, "\xff"])
def test_a_record_that_is_not_whole_counts_as_absent(tmp_path: Path, text: str) -> None:
    folder = Layout(tmp_path).run("r")
    folder.path.mkdir(parents=True)
    folder.exit.write_text(text)
    assert records.read_exit(folder) is None


def test_a_record_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for write in (records.create_record, records.replace_record):
        with pytest.raises(OSError, match="No space"):
            write(tmp_path / "x.json", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_any_size_is_read(tmp_path: Path) -> None:
    value = {"argv": ["x" * 100_000] * 60}
    records.create_record(tmp_path / "x.json", value)
    assert records.read_record(tmp_path / "x.json") == value


def test_a_record_is_created_once(tmp_path: Path) -> None:
    records.create_record(tmp_path / "x.json", {"a": 1})
    with pytest.raises(FileExistsError):
        records.create_record(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o600


SECRET = "the-value-of-a-secret"


def redacted_log(tmp_path: Path, data: bytes, cap: int, chunk: int) -> tuple[Capture, bytes]:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    capture = Capture(ours, tmp_path / f"log-{cap}-{chunk}", cap, Redactor((SECRET,), "Standard", octets=True))
    for start in range(0, len(data), chunk):
        os.write(theirs, data[start : start + chunk])
        assert capture.pump()
    os.close(theirs)
    assert not capture.pump()
    capture.close()
    return capture, (tmp_path / f"log-{cap}-{chunk}").read_bytes()


@pytest.mark.parametrize("chunk", [5, 1000, 4096])
def test_no_part_of_a_secret_reaches_a_log_whatever_is_dropped(tmp_path: Path, chunk: int) -> None:
    lines = b"".join(f"line {n} {SECRET} end\n".encode() for n in range(1500))
    for cap in (100, 999, 5000, 30_000, 200_000):
        capture, log = redacted_log(tmp_path, lines, cap, chunk)
        assert not any(SECRET[at : at + 8].encode() in log for at in range(len(SECRET) - 8))
        assert len(log) <= cap + 100
        assert capture.total == len(lines)
        assert bool(capture.dropped) == bool(GAP.search(log))
        assert log.endswith(b"line 1499 [redacted] end\n" if cap > 500 else b" end\n")


def test_a_private_key_across_the_gap_of_a_log_is_not_shown(tmp_path: Path) -> None:
    key = b"-----BEGIN PRIVATE KEY-----\n" + b"\n".join(b"K" * 64 for _ in range(50)) + b"\n-----END PRIVATE KEY-----\n"
    for after in range(0, 8000, 700):
        data = b"head\n" * 2000 + key + b"tail line\n" * (after // 10)
        _, log = redacted_log(tmp_path, data, 4000 + after, 4096)
        assert b"KKKK" not in log


def test_a_log_is_not_written_through_a_link_or_into_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=r"symbolic links|No such device"):
            Capture(-1, tmp_path / name, 100)
    assert (tmp_path / "elsewhere").read_text() == "kept"
    (tmp_path / "record.json").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        records.read_record(tmp_path / "record.json")
    with pytest.raises(OSError, match="not a regular file"):
        records.read_record(tmp_path / "pipe")
