"""A session that goes on: the HOME and the workspace of the run before, the arguments for it, and its cost so far."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from controllers.dispatch.executor import Resumed, RunOrder
from schemas.executor import ExecutorSpec
from schemas.run import RunReason, RunState
from tests.fakes.programs.harness import CLOCK
from tests.integration.test_command_executor import Engine, life, only_life, order

SESSION = "5e55-10"
PROGRAM = """
import json, os, pathlib, sys
home, place = pathlib.Path(os.environ["HOME"]), pathlib.Path("notes.txt")
before = (home / "session").read_text() if (home / "session").exists() else ""
(home / "session").write_text(before + "x")
place.write_text((place.read_text() if place.exists() else "") + "n")
cost = {"": 0.10, "x": 0.25}[before]
init = {"type": "system", "subtype": "init", "claude_code_version": "2.1.329"}
value = {"type": "result", "subtype": "success", "is_error": False, "session_id": "5e55-10", "total_cost_usd": cost,
    "usage": {"input_tokens": int(cost * 100), "output_tokens": 0},
    "result": json.dumps([sys.argv[1:], before, place.read_text(), sys.stdin.read() == ""])}
if sys.argv[1] == "begin":
    value |= {"stop_reason": "tool_deferred", "deferred_tool_use": {"id": "t", "name": "Bash", "input": {}}}
print(json.dumps(init))
print(json.dumps(value))
"""


def job(tmp_path: Path, run: str, resumes: Resumed | None = None) -> RunOrder:
    start = [sys.executable, "-I", "-c", PROGRAM]
    made = order(tmp_path, [*start, "begin"], run, resume=[*start, "again", "{session}"], outputFormat="ClaudeJson",
                 workingDir="workspace")  # fmt: skip
    return replace(made, resumes=resumes)


async def begun(engine: Engine, tmp_path: Path) -> None:
    await engine.executor.start(job(tmp_path, "one"))
    ended = await engine.outcome()
    assert (ended.outcome.state, ended.outcome.reason) == (RunState.FAILED, RunReason.AWAITING_APPROVAL)
    assert ended.outcome.usage is not None
    assert ended.outcome.usage.usd == Decimal("0.1")
    await engine.executor.acknowledge("one")


def said(engine: Engine) -> Any:
    outcome = engine.ended[-1].outcome
    assert outcome.result is not None
    return json.loads(outcome.result["deliverable"])


NEXT = Resumed(SESSION, "one", "one")


@pytest.mark.asyncio
async def test_it_goes_on_in_its_home_and_workspace_and_counts_what_is_new(tmp_path: Path) -> None:
    async with only_life(tmp_path) as engine:
        await begun(engine, tmp_path)
        runs = tmp_path / "state" / "runs"
        assert (runs / "one" / "home" / "session").exists(), "its HOME is kept for who goes on"
        await engine.executor.start(job(tmp_path, "two", NEXT))
        ended = await engine.outcome(2)
        assert said(engine) == [["again", SESSION], "x", "nn", True]
        assert ended.outcome.usage is not None
        assert ended.outcome.usage.usd == Decimal("0.15"), "the session's total, without what was booked before"
        await engine.executor.start(job(tmp_path, "two", NEXT))  # a delivery that comes twice
        assert not (runs / "one" / "home").exists()
        # The files of the first run stay as long as somebody works, or worked, where it began.
        assert await engine.executor.prune(CLOCK.now() + timedelta(hours=1)) == 0
        assert (tmp_path / "state" / "workspaces" / "one").is_dir()
        await engine.executor.acknowledge("two")
        assert not (runs / "two" / "home").exists()
        assert await engine.executor.prune(CLOCK.now() + timedelta(hours=1)) == 1
        assert await engine.executor.prune(CLOCK.now() + timedelta(hours=1)) == 1
        assert list(runs.iterdir()) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", ["mark", "moved"])
async def test_a_delivery_that_was_cut_off_while_it_took_the_session_over_goes_on(tmp_path: Path, cut: str) -> None:
    async with only_life(tmp_path) as engine:
        await begun(engine, tmp_path)
        runs = tmp_path / "state" / "runs"
        (runs / "two").mkdir()
        (runs / "two" / "resumes").write_text("one")
        if cut == "moved":
            (runs / "one" / "home").rename(runs / "two" / "home")
    async with life(tmp_path) as engine:
        await engine.executor.start(job(tmp_path, "two", NEXT))
        await engine.outcome()
        assert said(engine)[:2] == [["again", SESSION], "x"]


REUSED = """
import json, sys
name, cost = sys.argv[1], float(sys.argv[2])
print(json.dumps({"type": "system", "subtype": "init", "claude_code_version": "2.1.329"}))
print(json.dumps({"type": "result", "subtype": "success", "is_error": False, "session_id": name,
    "total_cost_usd": cost, "usage": {"input_tokens": int(cost * 100), "output_tokens": 0}, "result": "ok"}))
"""


@pytest.mark.asyncio
async def test_a_session_that_other_missions_go_on_with_is_paid_for_once(tmp_path: Path) -> None:
    def job(run: str, session: str, total: str) -> RunOrder:
        argv = [sys.executable, "-I", "-c", REUSED, session, total]
        made = order(tmp_path, argv, run, resumeArgs=["{session}"], outputFormat="ClaudeJson")
        return replace(made, mission={**made.mission, "session": {"id": SESSION}})

    async def paid(engine: Engine, number: int, run: str, session: str, total: str) -> Decimal | None:
        await engine.executor.start(job(run, session, total))
        ended = await engine.outcome(number)
        assert ended.outcome.usage is not None
        return ended.outcome.usage.usd

    async with life(tmp_path) as engine:
        assert await paid(engine, 1, "one", SESSION, "0.10") == Decimal("0.1")
        assert await paid(engine, 2, "two", SESSION, "0.25") == Decimal("0.15")
        await engine.executor.acknowledge("one")
        assert await engine.executor.prune(CLOCK.now() + timedelta(hours=1)) == 1
    async with only_life(tmp_path) as engine:
        ended = await engine.outcome()  # the end of the second was not taken in: it is read again, and is the same
        assert ended.outcome.usage is not None
        assert ended.outcome.usage.usd == Decimal("0.15")
        await engine.executor.acknowledge("two")
        await engine.executor.prune(CLOCK.now() + timedelta(hours=1))
        assert await paid(engine, 2, "three", SESSION, "0.40") == Decimal("0.15"), "also when their files are gone"
        assert await paid(engine, 3, "four", "another", "0.40") == Decimal("0.4"), "one that began anew is paid whole"
        assert await paid(engine, 4, "five", SESSION, "0.05") == Decimal("0.05"), "a counter that began anew"


@pytest.mark.asyncio
async def test_where_nothing_is_left_of_the_session_it_begins_anew(tmp_path: Path) -> None:
    async with only_life(tmp_path) as engine:
        await engine.executor.start(job(tmp_path, "two", Resumed(SESSION, "gone", "gone")))
        ended = await engine.outcome()
        assert ended.outcome.reason is RunReason.AWAITING_APPROVAL, "it was started as at the beginning"


def test_an_executor_that_cannot_go_on_says_so_at_once() -> None:
    good = {"argv": ["claude", "-p"], "resume": ["claude", "--resume", "{session}"], "outputFormat": "ClaudeJson"}
    ExecutorSpec.model_validate({"type": "Command", "command": {**good, "hook": "Claude"}})
    for wrong, message in (
        ({"resume": ["claude", "--resume"]}, "needs {session}"),
        ({"resume": ["{session}"]}, "starts with a program"),
        ({"outputFormat": "Text"}, "names no session"),
        ({"hook": "Claude", "resume": ["claude", "--bare", "{session}"]}, "--bare does not go with hook"),
        ({"hook": "Claude", "resume": ["other", "{session}"]}, "names no claude"),
    ):
        with pytest.raises(ValueError, match=message):
            ExecutorSpec.model_validate({"type": "Command", "command": {**good, **wrong}})
    with pytest.raises(ValueError, match="takes no resume"):
        ExecutorSpec.model_validate({"type": "Pull", "pull": {"command": good}})
