"""Guarded functions and blocks: ask first, tell what came of it, sync and async, against a server on a port."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from remit_client import (
    AlreadyDone,
    Assignment,
    AsyncRun,
    ClientError,
    Denied,
    EngineUnreachable,
    RetryPolicy,
    Run,
    guard,
    guarded,
)

from tests.fakes.agent_server import RUN, TOKEN, AgentServer, Fault
from tests.fakes.pages import page

QUICK = RetryPolicy(window_s=1, first_s=0.01, longest_s=0.05)


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with AgentServer() as server:
        yield server


@pytest.fixture
def run(server: AgentServer) -> Iterator[Run]:
    with Run(Assignment(server.url, RUN, TOKEN, {}), policy=QUICK) as run:
        yield run


def asked(server: AgentServer) -> list[tuple[str | None, Any]]:
    return [(r.key, r.body) for r in server.received if r.verb == "authorize"]


def test_a_guarded_function_runs_after_the_leave_and_its_outcome_is_told(server: AgentServer, run: Run) -> None:
    @guarded(run, "push_tag", target=lambda tag, remote="origin": f"{tag} to {remote}", usd="0.1")
    def push(tag: str, remote: str = "origin") -> str:
        """Push."""
        assert asked(server), "not before it asked"
        return tag

    assert (push("v1"), push.__name__, push.__doc__) == ("v1", "push", "Push.")
    ((_, body),) = asked(server)
    assert body["args"] == {"tag": "v1", "remote": "origin"}
    assert (body["target"], body["estimate"]) == ("v1 to origin", {"usd": "0.1"})
    assert server.done("tool-results") == [{"tool": "push_tag", "ok": True, "decisionId": "decision-1"}]


def test_a_refusal_runs_nothing_and_tells_nothing(server: AgentServer, run: Run) -> None:
    server.decide("deny", code="Rule", reason="not today", rule="rule x")
    ran = []

    @guarded(run, "push_tag")
    def push() -> None:
        ran.append(1)

    with pytest.raises(Denied, match="not today") as caught:
        push()
    assert not isinstance(caught.value, AlreadyDone)
    with pytest.raises(Denied), guard(run, "push_tag"):
        ran.append(2)
    assert (ran, server.done("tool-results")) == ([], [])


def test_an_exception_is_told_by_its_class_and_goes_on(server: AgentServer, run: Run) -> None:
    with pytest.raises(ValueError, match="secret"), guard(run, "push_tag", {"tag": "v1"}):
        raise ValueError("a secret")
    (told,) = server.done("tool-results")
    assert (told["ok"], told["error"]) == (False, "ValueError")


def test_an_interrupted_block_tells_nothing(server: AgentServer, run: Run) -> None:
    with pytest.raises(KeyboardInterrupt), guard(run, "push_tag"):
        raise KeyboardInterrupt
    assert server.done("tool-results") == []


def test_cost_and_output_are_told(server: AgentServer, run: Run) -> None:
    with guard(run, "push_tag") as call:
        call.usd, call.output = "0.08", {"tag": "v1"}
    (told,) = server.done("tool-results")
    assert (told["usd"], told["outputDigest"][:7]) == ("0.08", "sha256:")
    with guard(run, "push_tag") as call:
        call.output = object()
    assert "outputDigest" not in server.done("tool-results")[1]


def test_keys_come_out_the_same_in_another_life_and_differ_within_one(server: AgentServer) -> None:
    lives = []
    for _ in range(2):
        server.received.clear()
        with Run(Assignment(server.url, RUN, TOKEN, {}), policy=QUICK) as run:
            for tag in ("v1", "v1", "v2"):
                with guard(run, "push_tag", {"tag": tag}):
                    pass
        lives.append([key for key, _ in asked(server)])
    assert lives[0] == lives[1]
    assert len(set(lives[0])) == 3


def test_a_call_whose_result_is_known_is_not_made_again(server: AgentServer, run: Run) -> None:
    server.decide("deny", code="Reported", reason="this call was made and its result is known")
    with pytest.raises(AlreadyDone), guard(run, "push_tag", key="push v1"):
        pytest.fail("it ran")
    assert [key for key, _ in asked(server)] == ["push v1"]


def test_an_engine_that_loses_the_answer_is_asked_with_the_same_key(server: AgentServer, run: Run) -> None:
    server.faults["authorize"].append(Fault(execute=True))
    server.faults["tool-results"].append(Fault(execute=True))
    with guard(run, "push_tag"):
        pass
    assert len({key for key, _ in asked(server)}) == 1
    assert len(server.done("tool-results")) == 1


def test_an_outcome_that_cannot_be_told_does_not_undo_the_work(server: AgentServer, run: Run) -> None:
    with guard(run, "push_tag") as call:
        server.faults["tool-results"].append(Fault(status=409, body=b"{}"))
    assert call.decision is not None


@pytest.mark.parametrize("garbage", [b"", b"[]", b'{"decision": "yes"}', b"<html>"], ids=str)
def test_garbage_for_an_answer_is_no_leave(server: AgentServer, run: Run, garbage: bytes) -> None:
    server.faults["authorize"].extend([Fault(status=200, body=garbage)] * 1000)
    with pytest.raises(ClientError), guard(run, "push_tag"):
        pytest.fail("it ran")


def test_an_engine_that_is_down_is_no_leave(server: AgentServer, run: Run) -> None:
    server.faults["authorize"].extend([Fault()] * 1000)
    with pytest.raises(EngineUnreachable), guard(run, "push_tag"):
        pytest.fail("it ran")


def test_arguments_that_nobody_could_read_are_refused_before_anything(server: AgentServer, run: Run) -> None:
    @guarded(run, "send")
    def send(to: object) -> None:
        pytest.fail("it ran")

    @guarded(run, "send", args=lambda to: {"to": str(to)}, key=lambda to: "one")
    def send_text(to: object) -> int:
        return 1

    with pytest.raises(TypeError, match="give args="):
        send(Path("x"))
    with pytest.raises(TypeError, match="missing a required argument"):
        send()  # type: ignore[call-arg]
    assert send_text(Path("x")) == 1
    assert [(key, body["args"]) for key, body in asked(server)] == [("one", {"to": "x"})]


def test_a_method_is_asked_about_without_its_object_and_the_run_may_come_later(server: AgentServer, run: Run) -> None:
    class Mailer:
        @guarded(lambda: run, "send")
        def send(self, to: str) -> str:
            return to

    assert Mailer().send("a") == "a"
    assert asked(server)[0][1]["args"] == {"to": "a"}


def test_a_guard_is_used_once_and_in_its_own_form(run: Run) -> None:
    one = guard(run, "push_tag")
    with one:
        pass
    with pytest.raises(RuntimeError, match="once"), one:
        pass

    async def wrong() -> None:
        async with guard(run, "push_tag"):
            pass

    with pytest.raises(TypeError, match="takes `with`"):
        asyncio.run(wrong())


@pytest.mark.asyncio
async def test_the_same_for_asyncio(server: AgentServer) -> None:
    async with AsyncRun(Assignment(server.url, RUN, TOKEN, {}), policy=QUICK) as run:

        @guarded(run, "push_tag")
        async def push(tag: str) -> str:
            return tag

        assert await push("v1") == "v1"
        with pytest.raises(ZeroDivisionError):
            async with guard(run, "push_tag", {"tag": "v2"}):
                1 / 0  # noqa: B018
        with pytest.raises(asyncio.CancelledError):
            async with guard(run, "push_tag", {"tag": "v3"}):
                raise asyncio.CancelledError
        server.decide("deny", reason="no")
        with pytest.raises(Denied):
            await push("v1")
        with pytest.raises(TypeError, match="async with"), guard(run, "x"):
            pass
    assert [told["ok"] for told in server.done("tool-results")] == [True, False]


def test_the_program_of_the_page_runs(server: AgentServer, tmp_path: Path) -> None:
    (block,) = [
        b.text for b in page("docs/howto/gate-an-action.md").blocks if b.info == "python" and "guarded" in b.text
    ]
    program = tmp_path / "release.py"
    program.write_text(block)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    environ |= {"REMIT_URL": server.url, "REMIT_RUN": RUN, "REMIT_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, str(program)], input="{}", env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [body["tool"] for _, body in asked(server)] == ["push_tag", "send_mail"]
    assert [told.get("usd") for told in server.done("tool-results")] == [None, "0.01"]
    assert len(server.done("complete")) == 1
