"""The client asks before it acts: against a server on a port, and against the server that the engine runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from remit_client import Assignment, AsyncRun, BadAnswer, Canceled, Denied, RetryPolicy, Run

from tests.fakes.agent_server import RUN, TOKEN, AgentServer, Fault, restarting

QUICK = RetryPolicy(window_s=60, first_s=0.01, longest_s=0.05)


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with AgentServer() as server:
        yield server


@contextmanager
def opened(server: AgentServer, **options: Any) -> Iterator[Run]:
    with Run(Assignment(server.url, RUN, TOKEN, {}), **{"policy": QUICK, **options}) as run:
        yield run
        if not run.ended:
            run.complete("done", self_review="looked at")


def test_an_allowed_call_comes_back_with_its_decision_and_its_result_is_told(server: AgentServer) -> None:
    with opened(server) as run:
        leave = run.authorize("push_tag", {"tag": "v1"}, target="origin", usd="0.1", key="push v1")
        assert (leave.allowed, leave.id) == (True, "decision-1")
        run.tool_result("push_tag", decision=leave, usd="0.08")
    (asked,) = [r for r in server.received if r.verb == "authorize"]
    assert asked.key == "push v1"
    assert asked.body == {"tool": "push_tag", "args": {"tag": "v1"}, "target": "origin", "estimate": {"usd": "0.1"}}
    assert server.done("tool-results") == [{"tool": "push_tag", "ok": True, "decisionId": "decision-1", "usd": "0.08"}]


def test_a_refusal_says_why_and_what_would_help(server: AgentServer) -> None:
    server.decide("deny", code="Rule", reason="History is shared.", rule="rule no-force", remedy="change rule no-force")
    with opened(server) as run:
        with pytest.raises(
            Denied, match=r"push_tag was refused: History is shared\. \(change rule no-force\)"
        ) as caught:
            run.authorize("push_tag")
        assert (caught.value.code, caught.value.rule, caught.value.retryable) == ("Rule", "rule no-force", False)


def test_a_refusal_that_nobody_catches_ends_the_run_as_failed(server: AgentServer) -> None:
    server.decide("deny", reason="not today")
    with pytest.raises(Denied), opened(server) as run:
        run.authorize("push_tag")
    (fail,) = server.done("fail")
    assert (fail["reason"], fail["retryable"]) == ("Denied", False)


def test_a_person_is_waited_for(server: AgentServer) -> None:
    server.decide("ask")

    def answer() -> None:
        server.wait_for("decision-1")
        server.decide("allow")

    person = threading.Thread(target=answer)
    person.start()
    with opened(server) as run:
        assert run.authorize("push_tag").code == "Approved"
    person.join()
    assert len(server.of("authorize")) == 1


def test_a_call_whose_arguments_were_not_kept_is_sent_again_with_its_key(server: AgentServer) -> None:
    server.decide("ask", authorizeAgain=True)

    def answer() -> None:
        server.wait_for("authorize", 2)
        server.decide("allow")

    person = threading.Thread(target=answer)
    person.start()
    with opened(server) as run:
        assert run.authorize("push_tag", {"token": "x"}).allowed
    person.join()
    assert len({r.key for r in server.of("authorize")}) == 1


def test_an_engine_that_restarts_while_a_person_is_asked_is_waited_for(server: AgentServer) -> None:
    server.decide("ask")
    hasty = RetryPolicy(window_s=0.2, first_s=0.01, longest_s=0.05)

    def restart() -> None:
        server.wait_for("decision-1")
        with restarting(server, 1.5):  # longer than any call is tried
            pass
        server.decide("allow")

    person = threading.Thread(target=restart)
    person.start()
    with Run(Assignment(server.url, RUN, TOKEN, {}), policy=hasty) as run:
        assert run.authorize("push_tag").allowed
        run.complete("done", self_review="looked at")
    person.join()


def test_a_cancel_ends_the_wait(server: AgentServer) -> None:
    server.decide("ask")

    def cancel() -> None:
        server.wait_for("decision-1")
        server.notify("Cancel", reason="not needed")
        server.wait_for("heartbeat")
        server.decide("ask", reason="still")

    person = threading.Thread(target=cancel)
    person.start()
    with pytest.raises(Canceled), opened(server, heartbeat_s=0.5) as run:
        run.authorize("push_tag")
    person.join()


@pytest.mark.asyncio
async def test_the_wait_has_an_end_where_one_is_given(server: AgentServer) -> None:
    server.decide("ask", approvalRequest="ship-action-1")
    async with AsyncRun(Assignment(server.url, RUN, TOKEN, {}), policy=QUICK) as run:
        with pytest.raises(TimeoutError, match="ship-action-1"):
            await asyncio.wait_for(run.authorize("push_tag", wait_s=1), 120)
        await run.complete("done", self_review="looked at")


@pytest.mark.parametrize(
    "answer", [b"{}", b'{"decision": "yes", "decisionId": "d"}', b'{"decision": "allow"}', b'{"decision": ["allow"]}']
)
def test_what_is_no_decision_is_no_leave(server: AgentServer, answer: bytes) -> None:
    server.fault("authorize", Fault(status=200, body=answer, headers={"Content-Type": "application/json"}))
    with opened(server) as run, pytest.raises(BadAnswer):
        run.authorize("push_tag")


def test_arguments_that_are_no_json_are_refused_before_they_are_sent(server: AgentServer) -> None:
    with opened(server) as run:
        with pytest.raises(ValueError, match="not JSON compliant"):
            run.authorize("push_tag", {"n": float("nan")})
        with pytest.raises(TypeError):
            run.authorize("push_tag", {"n": object()})
    assert server.of("authorize") == []
