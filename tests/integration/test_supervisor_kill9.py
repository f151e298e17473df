"""The engine is killed at random moments around start and end: no run is spawned twice, no end is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from controllers.dispatch.supervision.records import read_exit
from tests.fakes.programs.harness import CLOCK, PROGRAMS, python, request, supervised, until

KILLS = 120
MOST_ENGINES = 1000
_LONGEST_S = 0.06
SURELY_LOST = (1, 13)
"""Numbers of runs that are still at work when their supervisor is killed, however slow the machine is."""


@pytest.mark.asyncio
async def test_an_engine_killed_over_and_over_starts_each_run_once_and_loses_no_end(tmp_path: Path) -> None:
    seed = 20261121
    chance = random.Random(seed)
    state, log = tmp_path / "state", tmp_path / "spawned"
    log.touch()
    runs: dict[str, list[str]] = {}
    async with supervised(state) as client:
        # Our own client stays away meanwhile: the engines have to start the supervisor themselves.
        zygote = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAMS / "engine.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        killed, run = 0, ""
        for number in range(MOST_ENGINES):
            if killed == KILLS:
                break
            # A restarted engine orders the same run again; now and then there is a new one.
            if not run or chance.random() < 0.4:
                run = f"r{number}"
                runs[run] = python("append.py", log, run, round(chance.random() * 0.02, 4), number % 100)
            order = {"state_dir": str(state), "run": run, "argv": runs[run], "seconds": chance.random() * _LONGEST_S}
            zygote.stdin.write(json.dumps(order).encode() + b"\n")
            killed += int(await zygote.stdout.readline()) == signal.SIGKILL
        # At least one lives to see an end, however long that takes here.
        life_s = _LONGEST_S
        while not (state / "seen").exists() and life_s < 60:
            life_s *= 2
            order = {"state_dir": str(state), "run": run, "argv": runs[run], "seconds": life_s}
            zygote.stdin.write(json.dumps(order).encode() + b"\n")
            await zygote.stdout.readline()
        zygote.stdin.close()
        assert await zygote.wait() == 0
        assert killed == KILLS, "too few engines were killed for the test to mean anything"
        # The last engine: every run that counts as started has an end, and starting it again spawns nothing.
        for name, argv in runs.items():
            await client.start(request(name, argv))
        records = {name: await client.wait_exit(name) for name in runs}
        spawned = Counter(log.read_text().split())
        assert set(spawned) == set(runs), f"seed {seed}"
        assert set(spawned.values()) == {1}, f"seed {seed}: spawned more than once"
        for name, argv in runs.items():
            assert records[name].exit_code == int(argv[-1]), f"seed {seed}"
            assert read_exit(client.layout.run(name)) == records[name]
    seen = [line.split() for line in (state / "seen").read_text().splitlines()] if (state / "seen").exists() else []
    for name, code in seen:
        assert records[name].exit_code == int(code)
    assert seen, "no engine saw an end"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.asyncio
async def test_a_supervisor_killed_over_and_over_never_repeats_a_run_and_every_run_has_one_end(tmp_path: Path) -> None:
    seed = 11
    chance = random.Random(seed)
    log = tmp_path / "spawned"
    log.touch()
    lost = 0
    async with supervised(tmp_path / "state") as client:

        async def around_the_start(run: str) -> None:
            await CLOCK.sleep(chance.random() * 0.01)

        async def around_the_end(run: str) -> None:
            await until(lambda: run in log.read_text().split(), "the program to run")
            await CLOCK.sleep(chance.random() * 0.05)

        async def after_the_end(run: str) -> None:
            await until(client.layout.run(run).exit.exists, "the exit record")

        moments = (around_the_start, around_the_end, after_the_end)
        for number in range(27):
            run = f"r{number}"
            seconds = 60 if number in SURELY_LOST else round(chance.random() * 0.03, 4)
            order = request(run, python("append.py", log, run, seconds, number))
            pid = (await client.ping())["pid"]
            starting = asyncio.ensure_future(client.start(order))
            await moments[number % 3](run)
            os.kill(pid, signal.SIGKILL)
            await starting
            record = await client.wait_exit(run)
            assert record.lost != (record.exit_code == number), f"seed {seed}: {record}"
            lost += record.lost
            assert (await client.start(order)).exit == record
    spawned = Counter(log.read_text().split())
    assert not [run for run, times in spawned.items() if times > 1], f"seed {seed}"
    assert 0 < lost <= 18, "the kills never came while a run was active, or an end was lost after it was recorded"
