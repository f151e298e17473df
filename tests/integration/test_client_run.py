"""The client against a real server on a port: ordinary runs, cancel, messages, and how a block ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from remit_client import (
    Assignment,
    AsyncRun,
    Canceled,
    Conflict,
    Failure,
    NotInScope,
    Rejected,
    RetryPolicy,
    Run,
    RunOver,
    Usage,
)

from tests.fakes.agent_server import RUN, TOKEN, AgentServer, Fault

QUICK = RetryPolicy(window_s=60, first_s=0.01, longest_s=0.05)


LONG_S = 120.0


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with AgentServer() as server:
        yield server


def assignment(server: AgentServer, **mission: Any) -> Assignment:
    return Assignment(server.url, RUN, TOKEN, mission)


@contextmanager
def opened(server: AgentServer, **options: Any) -> Iterator[Run]:
    with Run(assignment(server), **{"policy": QUICK, **options}) as run:
        yield run


@asynccontextmanager
async def opened_async(server: AgentServer, **options: Any) -> AsyncIterator[AsyncRun]:
    async with AsyncRun(assignment(server), **{"policy": QUICK, **options}) as run:
        yield run


def test_a_whole_run_reports_everything_once(server: AgentServer) -> None:
    with Run(assignment(server, title="Check"), policy=QUICK) as run:
        assert run.mission["title"] == "Check"
        assert run.id == RUN
        run.progress("reading", percent=10, work_plan="Read, then write.")
        run.usage(usd="0.01", input_tokens=5, output_tokens=7, model="m")
        run.artifact("log.txt", "line")
        run.artifact("raw", b"\x00\xff")
        run.complete("# Done", self_review="read twice", evidence=["log.txt"], usage=Usage(usd=0))
        assert run.ended
    assert server.done("progress") == [{"message": "reading", "percent": 10, "workPlan": "Read, then write."}]
    assert server.done("usage") == [
        {"source": "Reported", "usd": "0.01", "inputTokens": 5, "outputTokens": 7, "model": "m"}
    ]
    assert [a["name"] for a in server.done("artifacts")] == ["log.txt", "raw"]
    assert server.deliverable == {"name": "deliverable.md", "mediaType": "text/markdown", "text": "# Done"}
    assert not server.done("fail")
    keys = [r.key for r in server.received if r.verb not in ("inbox", "heartbeat")]
    assert len(keys) == len(set(keys))


@pytest.mark.asyncio
async def test_an_asyncio_program_reports_the_same_way(server: AgentServer) -> None:
    async with opened_async(server) as run:
        await run.progress("reading", percent=10)
        await run.usage(usd=0)
        await run.artifact("log", "x")
        await run.heartbeat()
        await run.complete("done", self_review="ok", evidence=["log"])
    assert server.deliverable["text"] == "done"
    assert server.ended == "complete"


def test_heartbeats_go_on_while_the_program_computes(server: AgentServer) -> None:
    with opened(server, heartbeat_s=0.05) as run:
        server.wait_for("heartbeat", 4)
        run.complete("x", self_review="y")
        for _ in range(20):  # one may have been on its way
            beats = len(server.of("heartbeat"))
            threading.Event().wait(0.2)
            if len(server.of("heartbeat")) == beats:
                break
        else:
            pytest.fail("a run that has ended has no heartbeat")


def test_the_heartbeat_follows_what_the_mission_names() -> None:
    def interval(mission: dict[str, Any]) -> float:
        return AsyncRun(Assignment("http://x", "r", "t", mission))._heartbeat_s

    assert interval({}) == 15
    for declared, seconds in {"8s": 4, "1m30s": 15, "750ms": 0.5, "1s500ms": 0.75, "x": 15, "": 0.5, "1h": 15}.items():
        assert interval({"agent": {"heartbeatInterval": declared}}) == seconds
    assert interval({"agent": {"heartbeatInterval": 5}}) == 15
    assert interval({"agent": None}) == 15


def test_a_cancel_is_noticed_while_the_program_works(server: AgentServer) -> None:
    with opened(server) as run:
        assert not run.canceled
        run.check()
        server.notify("Cancel", reason="not needed any more")
        assert run.wait_canceled(LONG_S)
        assert run.cancel_reason == "not needed any more"
        with pytest.raises(Canceled, match="not needed any more"):
            run.check()
        run.fail("Canceled", run.cancel_reason)


@pytest.mark.asyncio
async def test_a_cancel_is_noticed_by_an_asyncio_program(server: AgentServer) -> None:
    async with opened_async(server) as run:
        assert not await run.wait_canceled(0.05)
        server.notify("Cancel")
        assert await run.wait_canceled(LONG_S)
        await run.fail("Canceled", "as asked")


def test_a_cancel_that_came_while_the_engine_restarted_is_noticed(server: AgentServer) -> None:
    with opened(server, heartbeat_s=0.2) as run:
        server.wait_for("inbox")
        server.crash()
        server.notify("Cancel")
        server.start()
        assert run.wait_canceled(LONG_S)
        run.fail("Canceled", "as asked")


def test_leaving_by_canceled_reports_it_and_goes_on(server: AgentServer) -> None:
    def work() -> None:
        with opened(server) as run:
            server.notify("Cancel", message="stop")
            run.wait_canceled(LONG_S)
            run.check()

    with pytest.raises(Canceled):
        work()
    assert server.done("fail") == [{"reason": "Canceled", "message": "stop", "retryable": False}]


def test_messages_are_handed_out_once_however_often_they_are_delivered(server: AgentServer) -> None:
    server.hears_acks = False
    with opened(server, heartbeat_s=0.05) as run:
        server.notify("Message", "m1", text="hello")
        server.notify("Message", "m2", text="again")
        server.notify("Drain", "d1")
        beats = len(server.of("inbox"))
        server.wait_for("inbox", beats + 3)
        assert [n.text for n in run.take_notices()] == ["hello", "again"]
        assert run.take_notices() == []
        assert run.draining
        assert not run.canceled
        run.complete("x", self_review="y")


def test_an_inbox_that_answers_at_once_is_not_asked_in_a_tight_circle(server: AgentServer) -> None:
    server.hears_acks = False
    server.notify("Message", "m1", text="known")
    with opened(server) as run:
        threading.Event().wait(0.5)
        assert len(server.of("inbox")) <= 3
        run.complete("x", self_review="y")


def test_what_is_known_is_acknowledged_so_that_the_next_answer_waits_for_news(server: AgentServer) -> None:
    with opened(server, heartbeat_s=15) as run:
        server.notify("Drain", "d/1 &x")
        server.wait_for("inbox", 2)
        server.notify("Cancel", "c1", reason="stop")
        assert run.wait_canceled(10), "the second question was held back for news"
        assert run.draining
        run.fail("Canceled", "as asked")
    assert len(server.of("inbox")) <= 4


def test_a_cancel_that_only_a_heartbeat_tells_is_noticed(server: AgentServer) -> None:
    server.cancels_by_heartbeat = True
    with opened(server) as run:
        assert run.wait_canceled(LONG_S)
        run.fail("Canceled", "as asked")


def test_an_engine_without_an_inbox_still_gets_heartbeats(server: AgentServer) -> None:
    server.fault("inbox", *[Fault(status=404)] * 50)
    with opened(server, heartbeat_s=0.05) as run:
        server.wait_for("heartbeat", 3)
        assert len(server.of("inbox")) == 1
        run.complete("x", self_review="y")


def test_an_exception_fails_the_run_without_telling_its_text(server: AgentServer) -> None:
    with pytest.raises(zlib.error), opened(server):
        raise zlib.error("key=hunter2")
    (report,) = server.done("fail")
    assert (report["reason"], report["retryable"]) == ("Error", True)
    assert "hunter2" not in report["message"]
    assert "test_client_run.py" in report["message"]


def test_a_failure_tells_what_the_agent_wants_told(server: AgentServer) -> None:
    with pytest.raises(Failure), opened(server):
        raise Failure("IndexCold", "it is built now", retryable=True)
    assert server.done("fail") == [{"reason": "IndexCold", "message": "it is built now", "retryable": True}]


@pytest.mark.parametrize(("code", "told"), [(0, False), (None, False), (3, True), ("words", True)])
def test_leaving_by_exit_is_a_failure_only_with_a_bad_code(server: AgentServer, code: object, told: bool) -> None:
    with pytest.raises(SystemExit), opened(server):
        sys.exit(code)  # type: ignore[arg-type]
    assert bool(server.done("fail")) is told


def test_an_exception_after_the_end_is_not_reported(server: AgentServer) -> None:
    def work() -> None:
        with opened(server) as run:
            run.complete("x", self_review="y")
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        work()
    assert not server.of("fail")


@pytest.mark.asyncio
async def test_a_canceled_task_reports_its_end(server: AgentServer) -> None:
    async def work() -> None:
        async with opened_async(server):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.to_thread(server.wait_for, "heartbeat")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.done("fail")[0]["reason"] == "CancelledError"


def test_a_refused_completion_leaves_the_run_open_for_a_better_one(server: AgentServer) -> None:
    with opened(server) as run:
        with pytest.raises(Conflict, match="no artifact") as caught:
            run.complete("x", self_review="y", evidence=["log"])
        assert caught.value.code == "EvidenceMissing"
        assert not run.ended
        run.artifact("log", "1")
        run.complete("x", self_review="y", evidence=["log"])


def test_a_request_that_is_wrong_is_rejected_at_once(server: AgentServer) -> None:
    with opened(server) as run:
        server.fault("progress", Fault(status=422, body=b'{"detail": "message is too long"}'))
        with pytest.raises(Rejected, match="message is too long"):
            run.progress("x")
        assert len(server.of("progress")) == 1
        run.complete("x", self_review="y")


def test_another_run_is_not_in_scope(server: AgentServer) -> None:
    with pytest.raises(NotInScope), Run(Assignment(server.url, "other-1", TOKEN), policy=QUICK) as run:
        run.progress("x")


def test_a_wrong_token_means_the_run_is_over_and_nothing_more_is_said(server: AgentServer) -> None:
    with pytest.raises(RunOver), Run(Assignment(server.url, RUN, "wrong"), policy=QUICK) as run:
        run.progress("x")
    assert not server.of("fail")


def test_a_token_that_dies_in_the_middle_stops_the_program(server: AgentServer) -> None:
    with opened(server, heartbeat_s=0.05) as run:
        run.progress("one")
        server.token_dead = True
        assert run.wait_canceled(LONG_S), "the heartbeat notices"
        with pytest.raises(RunOver):
            run.progress("two")
        assert run.ended
    assert not server.of("fail")


def test_many_threads_may_report_on_one_run(server: AgentServer) -> None:
    with opened(server) as run:
        threads = [threading.Thread(target=run.progress, args=(f"{n}",)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.complete("x", self_review="y")
    assert sorted(int(p["message"]) for p in server.done("progress")) == list(range(20))


def test_a_run_is_used_inside_its_block_only(server: AgentServer) -> None:
    run = Run(assignment(server), policy=QUICK)
    with pytest.raises(RuntimeError, match="with block"):
        run.progress("early")
    with run:
        run.complete("x", self_review="y")
    with pytest.raises(RuntimeError, match="with block"):
        run.progress("late")
    with pytest.raises(RuntimeError, match="once"), run:
        pass


def test_no_thread_is_left_behind(server: AgentServer) -> None:
    with opened(server) as run:
        run.complete("x", self_review="y")
    assert not [t for t in threading.enumerate() if t.name == "remit-run"]


PROGRAM = """
import signal
from remit_client import Run
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
with Run.from_environment() as run:
    run.progress("started")
    print("at work", flush=True)
    while True:
        run.wait_canceled(0.05)
        run.check()
"""


def test_ctrl_c_reports_the_end_and_stops_quickly(server: AgentServer, tmp_path: Any) -> None:
    environ = server.environ(PATH="/usr/bin:/bin")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=tmp_path,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"{}")
        child.stdin.close()
        child.stdin = None
        assert child.stdout.readline() == b"at work\n", "its report was answered, and it waits"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate()
    assert child.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert server.done("fail")[0]["reason"] == "KeyboardInterrupt"
