"""The first signal drains, the second leaves: in this process with a stand-in for the exit, and in a real one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from controllers.runtime.signals import drain_on_signal

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains_and_the_second_leaves_with_the_code_of_the_shell(number: int) -> None:
    stop = asyncio.Event()
    left: list[int] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    with drain_on_signal(stop, leave=left.append) as received:
        signal.raise_signal(number)
        await asyncio.wait_for(stop.wait(), 60)
        assert left == []
        signal.raise_signal(number)
        assert left == [128 + number]
        assert received.numbers == [number, number]
    assert {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)} == before


@pytest.mark.asyncio
async def test_the_second_signal_may_be_the_other_one_and_needs_no_turn_of_the_loop() -> None:
    left: list[int] = []
    with drain_on_signal(asyncio.Event(), leave=left.append):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # the loop has not had a turn since the first
        assert left == [130]


@pytest.mark.asyncio
async def test_outside_the_main_thread_it_is_refused_and_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def enter() -> None:
        async def inside() -> None:
            with drain_on_signal(asyncio.Event()):
                raise AssertionError("entered")

        asyncio.run(inside())

    with pytest.raises(ValueError, match="main thread"):
        await asyncio.get_running_loop().run_in_executor(None, enter)
    assert signal.getsignal(signal.SIGTERM) is before


PROGRAM = textwrap.dedent(
    """
    import asyncio, random, sys, time
    from controllers.runtime.clock import SystemClock
    from controllers.runtime.controller import Controller
    from controllers.runtime.manager import Manager
    from controllers.runtime.result import DONE
    from controllers.runtime.signals import drain_on_signal
    from controllers.runtime.workqueue import WorkQueue

    async def main(how: str) -> int:
        clock = SystemClock()
        queue = WorkQueue(clock, random.Random(0))
        release = asyncio.Event()

        async def reconcile(key: str):
            print("pass began", flush=True)
            if how == "hangs":
                while True:      # blocks the loop: no task ever runs again
                    pass
            if how == "drains":
                await clock.sleep(0.2)
            else:
                await asyncio.Event().wait()
            print("pass finished", flush=True)
            return DONE

        controller = Controller("subject", reconcile, queue=queue, clock=clock)
        manager = Manager(clock, random.Random(0))
        manager.add("subject", controller.run)
        queue.add("key")
        stop = asyncio.Event()
        with drain_on_signal(stop):
            report = await manager.run(stop)
        print("clean" if report.clean else "cancelled", flush=True)
        return 0

    sys.exit(asyncio.run(main(sys.argv[1])))
    """
)


def start(how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, how], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "pass began\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_finishes_its_pass_after_the_first_signal(number: int) -> None:
    with start("drains") as process:
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        assert (process.returncode, output) == (0, "pass finished\nclean\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("how", ["waits", "hangs"])
def test_a_process_leaves_at_the_second_signal_even_while_its_loop_hangs(how: str, number: int, code: int) -> None:
    with start(how) as process:
        process.send_signal(number)
        # The same signal sent twice before it is seen counts once, so the second is repeated until it works.
        while process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == code
