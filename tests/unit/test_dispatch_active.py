"""One run as the supervisor holds it, with real programs and a clock that jumps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from controllers.dispatch.supervision import active
from controllers.dispatch.supervision.active import ActiveRun, Surroundings
from controllers.dispatch.supervision.capture import Capture
from controllers.dispatch.supervision.loop import Loop
from controllers.dispatch.supervision.records import ExitRecord, RunFolder
from controllers.dispatch.supervision.wire import StartRequest


def raise_error(error: BaseException) -> None:
    raise error


def capture_into(path: Path) -> tuple[Capture, int]:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return Capture(ours, path, 1_000_000), theirs


def test_what_a_program_printed_is_kept_by_a_loop_that_was_held_up_for_longer_than_output_is_waited_for(
    tmp_path: Path,
) -> None:
    now = 0.0
    loop = Loop(lambda: now, raise_error)
    records: list[ExitRecord] = []
    out, out_end = capture_into(tmp_path / "stdout.log")
    err, err_end = capture_into(tmp_path / "stderr.log")
    program = [sys.executable, "-I", "-S", "-c", "print('what it came to')"]
    child = subprocess.Popen(program, stdout=out_end, stderr=err_end)
    os.close(out_end)
    os.close(err_end)
    around = Surroundings(loop, lambda: "2026-11-21T00:00:00Z", lambda run: [], lambda run, r: records.append(r))
    request = StartRequest(run="r", argv=program, env={}, cwd="/")
    run = ActiveRun(request, RunFolder(tmp_path), child.pid, (out, err), "2026-11-21T00:00:00Z", around)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    run.check_exit()
    # A slow disk under another run: the loop comes back when the wait is long over, its timers first.
    now += 2 * active.OUTPUT_WAIT_S
    due = run._next_look  # what the loop would call first
    assert due is not None
    assert due.callback is not None
    due.callback()
    assert (tmp_path / "stdout.log").read_text() == "what it came to\n"
    assert [(r.exit_code, r.stdout_bytes) for r in records] == [(0, 16)]
    child.returncode = 0
    loop.close()


def test_a_stranger_that_holds_the_pipe_and_never_stops_writing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    capture, theirs = capture_into(tmp_path / "log")
    flood = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import os\nwhile True: os.write(1, b'x' * 65536)"], stdout=theirs
    )
    os.close(theirs)
    capture.drain()
    capture.close()
    flood.kill()
    flood.wait()
    assert capture.total <= 32 * 65536
