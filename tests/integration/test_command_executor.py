"""The Command executor with real programs and a real supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.environment import LocalSecrets
from controllers.dispatch.executor import EndedRun, RunOrder
from controllers.dispatch.supervision.records import Layout
from controllers.dispatch.usage import UsageSource
from controllers.runtime.blocking import ThreadBlocking
from schemas.errors import Retry
from schemas.executor import ExecutorSpec
from schemas.run import RunReason, RunState
from tests.fakes.programs.harness import CLOCK, GRACE_S, new_client, python, supervised, until
from tests.fakes.secrets import private

MISSION = {"title": "Check every link", "input": {"paths": ["docs/**"]}, "note": "ü"}


def order(tmp_path: Path, argv: list[str], run: str = "uid-1", *, timeout: str = "1m", **command: Any) -> RunOrder:
    (tmp_path / "project").mkdir(exist_ok=True)
    declared = {"type": "Command", "command": {"argv": argv, **command}, "timeout": timeout}
    return RunOrder(
        run_uid=run,
        run_name="audit-links-1",
        namespace="default",
        attempt=2,
        executor_spec=ExecutorSpec.model_validate(declared).to_wire(),
        mission=MISSION,
        agent="auditor",
        token="rmt_run_t0ken",
        agent_url="http://127.0.0.1:8421",
        project_root=tmp_path / "project",
    )


class Engine:
    """One life of an engine: an executor and the outcomes that it reported."""

    def __init__(self, state_dir: Path, variables: dict[str, str] | None = None) -> None:
        self.executor = CommandExecutor(
            state_dir,
            CLOCK,
            ThreadBlocking(8),
            secrets=LocalSecrets(variables or {}),
            client=new_client(state_dir),
        )
        self.ended: list[EndedRun] = []

    async def collect(self) -> None:
        async for ended in self.executor.outcomes():
            self.ended.append(ended)

    async def outcome(self, count: int = 1) -> EndedRun:
        """The last of ``count`` outcomes."""
        await until(lambda: len(self.ended) >= count, f"{count} outcomes")
        return self.ended[-1]


@contextlib.asynccontextmanager
async def life(tmp_path: Path, variables: dict[str, str] | None = None) -> AsyncIterator[Engine]:
    """One life of an engine on the state directory of a test. The supervisor stays."""
    engine = Engine(tmp_path / "state", variables)
    await engine.executor.open()
    collecting = asyncio.ensure_future(engine.collect())
    try:
        yield engine
    finally:
        collecting.cancel()
        await asyncio.wait([collecting])
        await engine.executor.close()


@contextlib.asynccontextmanager
async def only_life(tmp_path: Path, variables: dict[str, str] | None = None) -> AsyncIterator[Engine]:
    """One life of an engine, and of its supervisor."""
    async with supervised(tmp_path / "state"), life(tmp_path, variables) as engine:
        yield engine


def mark(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def text_of_all_files(folder: Path, *, but: tuple[str, ...] = ()) -> str:
    return "".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the program reads /proc")
@pytest.mark.asyncio
async def test_an_agent_gets_its_mission_its_variables_and_private_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_ONLY", "hunter2")
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "API_KEY", "valueFrom": {"env": "KEY_OF_ENGINE"}},
        {"name": "FILE_KEY", "valueFrom": {"file": "key"}},
    ]
    job = order(tmp_path, python("describe.py", "$(PLAIN)"), workingDir="workspace", env=env, outputFormat="Text")
    private(tmp_path / "project" / "key", "k3y-from-file\n")
    async with only_life(tmp_path, {"KEY_OF_ENGINE": "k3y-from-env"}) as engine:
        await engine.executor.start(job)
        ended = await engine.outcome()
        assert ended.outcome.state is RunState.SUCCEEDED
        assert ended.outcome.result is not None
        seen = json.loads(ended.outcome.result["deliverable"])
        folder = tmp_path / "state" / "runs" / "uid-1"
        assert json.loads(seen["stdin"]) == MISSION
        assert json.loads((folder / "mission.json").read_text()) == MISSION
        given = seen["env"]
        assert given["REMIT_MISSION_FILE"] == str(folder / "mission.json")
        assert (given["REMIT_RUN"], seen["marks"].get(mark("rmt_run_t0ken"))) == ("uid-1", "REMIT_TOKEN")
        assert given["REMIT_URL"] == "http://127.0.0.1:8421"
        assert (given["HOME"], given["TMPDIR"]) == (str(folder / "home"), str(folder / "tmp"))
        assert (seen["home_exists"], seen["tmp_exists"]) == (True, True)
        assert given["PLAIN"] == "x"
        found = [seen["marks"].get(mark(value)) for value in ("k3y-from-env", "k3y-from-file")]
        assert found == ["API_KEY", "FILE_KEY"]
        assert {given[name] for name in ("API_KEY", "FILE_KEY", "REMIT_TOKEN")} == {"[redacted]"}
        assert (given["TZ"], given["LANG"], given["LC_ALL"]) == ("UTC", "C.UTF-8", "C.UTF-8")
        assert given["PATH"].split(":")[0] == str(Path(sys.executable).parent)
        assert set(given) - {"LC_CTYPE"} == {
            *("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "PLAIN", "API_KEY", "FILE_KEY"),
            *("REMIT_URL", "REMIT_RUN", "REMIT_TOKEN", "REMIT_MISSION_FILE", "REMIT_WORKSPACE"),
            "REMIT_IDEMPOTENCY_KEY",
        }
        assert seen["argv"] == ["$(PLAIN)"], "no shell, no expansion"
        assert seen["cwd"] == str(tmp_path / "state" / "workspaces" / "uid-1")
        stored = text_of_all_files(tmp_path / "state")
        for secret in ("k3y-from", "rmt_run_t0ken", "hunter2"):
            assert secret not in stored


@pytest.mark.asyncio
async def test_an_outcome_carries_who_and_what(tmp_path: Path) -> None:
    async with only_life(tmp_path) as engine:
        await engine.executor.start(
            order(tmp_path, ["sh", "-c", "echo report; echo oops >&2; exit 4"], outputFormat="Text")
        )
        ended = await engine.outcome()
    assert (ended.run_uid, ended.run_name, ended.namespace, ended.attempt) == ("uid-1", "audit-links-1", "default", 2)
    outcome = ended.outcome
    assert (outcome.state, outcome.reason, outcome.exit_code) == (RunState.FAILED, RunReason.NON_ZERO_EXIT, 4)
    assert outcome.message == "the program ended with exit code 4: oops"
    assert outcome.log_bytes == len("report\noops\n")
    assert outcome.started_at is not None
    assert outcome.ended_at is not None
    assert outcome.started_at <= outcome.ended_at


@pytest.mark.asyncio
async def test_the_output_of_a_coding_agent_is_read_in_its_format(tmp_path: Path) -> None:
    result = {"type": "result", "subtype": "success", "result": "ok", "session_id": "s-1", "total_cost_usd": 0.25}
    script = f"echo noise; echo '{json.dumps(result)}'"
    async with only_life(tmp_path) as engine:
        await engine.executor.start(order(tmp_path, ["sh", "-c", script], outputFormat="ClaudeJson"))
        outcome = (await engine.outcome()).outcome
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.result == {"sessionId": "s-1", "deliverable": "ok"}
    assert outcome.usage is not None
    assert (str(outcome.usage.usd), outcome.usage.source) == ("0.250000", UsageSource.REPORTED)


@pytest.mark.asyncio
async def test_a_run_starts_once_and_its_outcome_comes_again_until_it_is_acknowledged(tmp_path: Path) -> None:
    job = order(tmp_path, python("append.py", tmp_path / "spawned", "x", 0.2), outputFormat="Text")
    async with supervised(tmp_path / "state"):
        async with life(tmp_path) as first:
            await asyncio.gather(*(first.executor.start(job) for _ in range(12)))
        async with life(tmp_path) as second:
            await second.executor.start(job)
            ended = await second.outcome()
            assert ended.run_name == "audit-links-1"
        async with life(tmp_path) as third:
            assert await third.outcome() == ended
            await third.executor.acknowledge("uid-1")
            await third.executor.acknowledge("uid-1")
            await third.executor.start(job)
            await third.executor.cancel("uid-1", 1.0)
        async with life(tmp_path) as fourth:
            await fourth.executor.start(replace(job, run_uid="uid-2"))
            await fourth.outcome()
            assert [e.run_uid for e in third.ended] == ["uid-1"]
            assert [e.run_uid for e in fourth.ended] == ["uid-2"]
    assert (tmp_path / "spawned").read_text() == "x\n" * 2


@pytest.mark.asyncio
async def test_a_cancel_stops_a_run(tmp_path: Path) -> None:
    async with only_life(tmp_path) as engine:
        await engine.executor.start(order(tmp_path, python("polite.py", tmp_path / "pid"), outputFormat="Text"))
        await until((tmp_path / "pid").exists, "the program to be ready")
        await asyncio.gather(*(engine.executor.cancel("uid-1", GRACE_S) for _ in range(3)))
        outcome = (await engine.outcome()).outcome
        assert (outcome.state, outcome.reason, outcome.exit_code) == (RunState.CANCELED, RunReason.CANCELED, 7)
        assert len(engine.ended) == 1


@pytest.mark.asyncio
async def test_a_cancel_that_overtakes_its_start_wins(tmp_path: Path) -> None:
    job = order(tmp_path, python("append.py", tmp_path / "spawned", "x"))
    async with only_life(tmp_path) as engine:
        await engine.executor.cancel("uid-1", 5.0)
        await engine.executor.start(job)
        outcome = (await engine.outcome()).outcome
        assert (outcome.state, outcome.message) == (RunState.CANCELED, "canceled before it was started")
    assert not (tmp_path / "spawned").exists()


@pytest.mark.parametrize(("timeout", "deadline_s"), [("100ms", None), ("1m", 0.1), ("100ms", 60.0)])
@pytest.mark.asyncio
async def test_the_shorter_of_timeout_and_deadline_ends_a_run(
    tmp_path: Path, timeout: str, deadline_s: float | None
) -> None:
    job = order(tmp_path, ["sleep", "60"], timeout=timeout)
    async with only_life(tmp_path) as engine:
        await engine.executor.start(replace(job, deadline_s=deadline_s))
        outcome = (await engine.outcome()).outcome
    assert (outcome.state, outcome.reason) == (RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED)
    assert outcome.message.startswith("stopped at its deadline after ")
    assert float(outcome.message.split()[5]) < 30, "not the longer one"


@pytest.mark.asyncio
async def test_a_run_whose_supervisor_was_killed_is_lost(tmp_path: Path) -> None:
    async with supervised(tmp_path / "state") as client:
        async with life(tmp_path) as engine:
            await engine.executor.start(order(tmp_path, ["sleep", "60"]))
            os.kill((await client.ping())["pid"], signal.SIGKILL)
            outcome = (await engine.outcome()).outcome
        assert (outcome.state, outcome.reason, outcome.retryable) == (RunState.LOST, RunReason.WORKER_LOST, True)


@pytest.mark.parametrize(
    ("working_dir", "said"),
    [
        ("not-there", "does not exist"),
        ("../outside", "leads out of the project"),
        ("..", "leads out of the project"),
        ("link-out", "leads out of the project"),
        ("inner/../../outside", "leads out of the project"),
        ("file", "is not a directory"),
        ("loop", "does not exist"),
        ("a\0b", "does not exist"),
    ],
)
@pytest.mark.asyncio
async def test_a_working_directory_stays_inside_the_project(tmp_path: Path, working_dir: str, said: str) -> None:
    job = order(tmp_path, python("append.py", tmp_path / "spawned", "x"), workingDir=working_dir)
    (tmp_path / "outside").mkdir()
    project = tmp_path / "project"
    (project / "inner").mkdir()
    (project / "file").write_text("x")
    (project / "link-out").symlink_to(tmp_path / "outside")
    (project / "loop").symlink_to(project / "loop")
    async with only_life(tmp_path) as engine:
        await engine.executor.start(job)
        outcome = (await engine.outcome()).outcome
        assert (outcome.state, outcome.reason, outcome.retryable) == (RunState.FAILED, RunReason.START_FAILED, False)
        assert said in outcome.message
        problem = engine.executor.problem(job.executor_spec, project)
        assert problem is not None
        assert said in str(problem)
    assert not (tmp_path / "spawned").exists()


@pytest.mark.asyncio
async def test_working_directories_that_are_fine(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "project" / "inner" / "deep").mkdir(parents=True)
    (tmp_path / "project" / "link-in").symlink_to("inner/deep")
    cases = {
        ".": tmp_path / "project",
        "inner": tmp_path / "project" / "inner",
        "link-in": tmp_path / "project" / "inner" / "deep",
        str(tmp_path / "outside"): tmp_path / "outside",
        "workspace": tmp_path / "state" / "workspaces" / "uid-4",
    }
    async with only_life(tmp_path) as engine:
        for number, (declared, expected) in enumerate(cases.items()):
            job = order(tmp_path, ["pwd", "-P"], f"uid-{number}", workingDir=declared, outputFormat="Text")
            assert engine.executor.problem(job.executor_spec, job.project_root) is None
            await engine.executor.start(job)
            result = (await engine.outcome(number + 1)).outcome.result
            assert result == {"deliverable": str(expected)}


@pytest.mark.asyncio
async def test_a_missing_secret_fails_the_run_and_names_the_reference(tmp_path: Path) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"env": "NOT_THERE"}}]
    job = order(tmp_path, python("append.py", tmp_path / "spawned", "x"), env=env)
    async with only_life(tmp_path) as engine:
        await engine.executor.start(job)
        ended = await engine.outcome()
        problem = engine.executor.problem(job.executor_spec, job.project_root)
    assert (ended.run_name, ended.outcome.reason) == ("audit-links-1", RunReason.SECRET_NOT_FOUND)
    assert ended.outcome.message == (
        "the variable TOKEN has no value: the engine has no environment variable NOT_THERE"
    )
    assert problem is not None
    assert problem.reason is RunReason.SECRET_NOT_FOUND
    assert not (tmp_path / "spawned").exists()


@pytest.mark.asyncio
async def test_a_missing_program_fails_the_run(tmp_path: Path) -> None:
    job = order(tmp_path, ["no-such-agent"])
    async with only_life(tmp_path) as engine:
        await engine.executor.start(job)
        outcome = (await engine.outcome()).outcome
        problem = engine.executor.problem(job.executor_spec, job.project_root)
    assert (outcome.reason, outcome.retryable) == (RunReason.PROGRAM_NOT_FOUND, False)
    assert "no-such-agent" in outcome.message
    assert problem is not None
    assert problem.reason is RunReason.PROGRAM_NOT_FOUND


@pytest.mark.parametrize("spec", [{"type": "Pull"}, {"type": "Command"}, {}, {"type": "Teleport"}])
@pytest.mark.asyncio
async def test_a_spec_that_is_no_command_fails_the_run(tmp_path: Path, spec: dict[str, Any]) -> None:
    async with only_life(tmp_path) as engine:
        await engine.executor.start(replace(order(tmp_path, ["true"]), executor_spec=spec))
        outcome = (await engine.outcome()).outcome
    assert (outcome.state, outcome.reason) == (RunState.FAILED, RunReason.EXECUTOR_UNSUPPORTED)


@pytest.mark.asyncio
async def test_a_request_that_is_too_large_fails_the_run(tmp_path: Path) -> None:
    env = [{"name": f"V{n}", "value": "x" * 32_768} for n in range(300)]
    async with only_life(tmp_path) as engine:
        await engine.executor.start(order(tmp_path, ["true"], env=env))
        outcome = (await engine.outcome()).outcome
    assert (outcome.state, outcome.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert "more than the supervisor takes" in outcome.message


@pytest.mark.asyncio
async def test_a_state_directory_that_cannot_be_written_is_a_passing_fault(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    async with life(tmp_path) as engine:
        with pytest.raises(Retry, match="audit-links-1"):
            await engine.executor.start(order(tmp_path, ["true"]))


@pytest.mark.asyncio
async def test_acknowledging_keeps_the_log_and_drops_private_folders(tmp_path: Path) -> None:
    script = "echo log; echo x > $HOME/a; echo y > $TMPDIR/b"
    folder = tmp_path / "state" / "runs" / "uid-1"
    async with only_life(tmp_path) as engine:
        await engine.executor.acknowledge("never-heard-of")
        await engine.executor.start(order(tmp_path, ["sh", "-c", script], workingDir="workspace"))
        await engine.outcome()
        assert (folder / "home" / "a").exists()
        await engine.executor.acknowledge("uid-1")
        assert not (folder / "home").exists()
        assert not (folder / "tmp").exists()
        assert (folder / "stdout.log").read_text() == "log\n"


@pytest.mark.asyncio
async def test_old_acknowledged_runs_are_pruned_and_no_others(tmp_path: Path) -> None:
    runs = tmp_path / "state" / "runs"
    async with only_life(tmp_path) as engine:
        for run in ("old", "unseen"):
            await engine.executor.start(order(tmp_path, ["true"], run, workingDir="workspace"))
        await engine.outcome(2)
        await engine.executor.acknowledge("old")
        (runs / "never-started").mkdir()
        assert await engine.executor.prune(CLOCK.now() - timedelta(hours=1)) == 0
        assert await engine.executor.prune(CLOCK.now() + timedelta(hours=1)) == 2
        assert sorted(path.name for path in runs.iterdir()) == ["unseen"]
        assert sorted(path.name for path in (tmp_path / "state" / "workspaces").iterdir()) == ["unseen"]


@pytest.mark.asyncio
async def test_capabilities_follow_from_the_output_format(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "state")
    for output_format, reports in (("ClaudeJson", True), ("Remit", True), ("CodexJsonl", False), ("Text", False)):
        spec = order(tmp_path, ["x"], outputFormat=output_format).executor_spec
        capabilities = engine.executor.capabilities(spec)
        assert capabilities.cost_reporting is reports
        assert (capabilities.cancel, capabilities.streaming) == (True, True)
        assert (capabilities.resume, capabilities.approvals) == (False, False)
    await engine.executor.close()


@pytest.mark.asyncio
async def test_what_was_made_ready_is_what_starts_and_only_for_that_very_order(tmp_path: Path) -> None:
    async with only_life(tmp_path) as engine:
        first = order(tmp_path, python("append.py", tmp_path / "spawned", "first"))
        engine.executor.make_ready(first)
        assert not (tmp_path / "spawned").exists(), "nothing is started yet"
        await engine.executor.start(first)
        await engine.outcome()
        other = order(tmp_path, python("append.py", tmp_path / "spawned", "old"), run="uid-2")
        engine.executor.make_ready(other)
        await engine.executor.start(order(tmp_path, python("append.py", tmp_path / "spawned", "new"), run="uid-2"))
        await engine.outcome(2)
        assert (tmp_path / "spawned").read_text().split() == ["first", "new"]


@pytest.mark.asyncio
async def test_a_secret_is_looked_up_by_the_start_and_not_ahead_of_it(tmp_path: Path) -> None:
    variable = {"name": "KEY", "valueFrom": {"env": "KEY"}}
    async with only_life(tmp_path) as engine:
        made = order(tmp_path, ["true"], env=[variable])
        engine.executor.make_ready(made)
        await engine.executor.start(made)
        ended = await engine.outcome()
        assert ended.outcome.reason == RunReason.SECRET_NOT_FOUND


@pytest.mark.asyncio
async def test_a_start_of_which_the_machine_kept_only_the_journal_was_made_and_ends_lost(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.make()
    note = {"run_name": "audit-links-1", "namespace": "default", "attempt": "2"}
    line = {"run": "uid-1", "started_at": "2026-11-21T00:00:00.000Z", "note": note}
    layout.starts.write_text(json.dumps(line) + "\n")
    engine = Engine(tmp_path / "state")
    assert engine.executor.started("uid-1"), "a worker does not give it back"
    assert engine.executor.knows("uid-1")
    await engine.executor.close()
    async with only_life(tmp_path) as engine:
        ended = await engine.outcome()
        assert (ended.run_name, ended.outcome.state) == ("audit-links-1", RunState.LOST)
