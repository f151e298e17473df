"""Runs that are tasks of an A2A service: what is asked of it, and what each answer does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.effects.posts import STOP_WAIT
from controllers.web.reply import Reply
from schemas.mission import MissionState
from schemas.resource import Resource
from schemas.run import RunReason, RunState
from tests.fakes.http_world import DOWN, LOST, HttpWorld, Killed, Sent, reply
from tests.fakes.world import agent, mission

HOST = "https://agents.example.com"
RPC = f"{HOST}/rpc"


def card(url: str = RPC, *, binding: str = "JSONRPC", version: str = "1.0", skill: str = "crawl") -> Reply:
    interface = {"url": url, "protocolBinding": binding, "protocolVersion": version}
    return reply(200, json.dumps({"name": "x", "supportedInterfaces": [interface], "skills": [{"id": skill}]}))


def result(value: dict[str, Any]) -> Reply:
    return reply(200, json.dumps({"jsonrpc": "2.0", "id": "x", "result": value}))


def error(code: int) -> Reply:
    return reply(200, json.dumps({"jsonrpc": "2.0", "id": "x", "error": {"code": code, "message": "no"}}))


def task(state: str, *, parts: list[dict[str, Any]] | None = None, said: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"state": f"TASK_STATE_{state}"}
    if said:
        status["message"] = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": said}]}
    artifacts = [{"artifactId": "a", "parts": parts}] if parts is not None else []
    return {"id": "task-7", "contextId": "c", "status": status, "artifacts": artifacts}


def taken(state: str = "SUBMITTED", **more: Any) -> Reply:
    return result({"task": task(state, **more)})


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[HttpWorld]:
    made = HttpWorld(tmp_path, backend=backend)
    try:
        yield made
        made.check()
    finally:
        made.close()


def begin(world: HttpWorld, *replies: Reply | type[Killed], a2a: str = "", more: str = "", **spec: object) -> None:
    """Commit a service and one mission for it, and let everything settle."""
    world.client.replies.extend(replies)
    executor = (
        "apiVersion: remit.dev/v1alpha1\nkind: Executor\nmetadata: {name: local}\nspec:\n  type: A2A\n"
        f"  a2a: {{url: '{HOST}'{', ' + a2a if a2a else ''}}}\n"
        f"  retry: {{maxAttempts: 100, backoff: {{initial: 1s, max: 1s, jitter: 0}}}}\n{more}"
    )
    world.commit({"e.yaml": executor, "a.yaml": agent(), "m.yaml": mission("crawl", **spec)})
    world.sync()


def run(world: HttpWorld) -> Resource:
    return world.get("Run", "crawl-1")


def asked(sent: Sent) -> tuple[str, dict[str, Any]]:
    body = json.loads(sent.body or b"{}")
    return body["method"], body["params"]


def test_a_run_is_a_task_whose_artifact_is_handed_in(world: HttpWorld) -> None:
    done = result(task("COMPLETED", parts=[{"text": "crawled"}, {"data": {"pages": 3}}, {"url": "https://x/y.pdf"}]))
    begin(world, card(), taken(), result(task("WORKING", said="half of it")), done, a2a="auth: {env: WORKER_TOKEN}")
    assert run(world).state == RunState.RUNNING
    world.advance(30)
    ended = run(world)
    assert ended.state == RunState.SUCCEEDED
    assert ended.status["deliverable"]["text"] == 'crawled\n{"pages":3}\n[https://x/y.pdf, which is not kept]'
    assert world.get("Mission", "crawl").state == MissionState.DONE
    first, start, *polls = world.client.sent
    assert (first.method, first.url, first.body) == ("GET", f"{HOST}/.well-known/agent-card.json", None)
    assert {sent.url for sent in (start, *polls)} == {RPC}
    method, params = asked(start)
    assert (method, params["message"]["messageId"]) == ("SendMessage", f"{ended.spec['missionUid']}-1")
    assert params["message"]["parts"] == [{"text": "# do crawl"}]
    assert [asked(sent) for sent in polls] == [("GetTask", {"id": "task-7", "historyLength": 0})] * 2
    assert {sent.headers["Authorization"] for sent in world.client.sent} == {"Bearer s3cret-of-the-worker"}
    assert {sent.headers["A2A-Version"] for sent in world.client.sent} == {"1.0"}
    assert "s3cret" not in str(world.events())
    assert "rmt_run" not in str(world.client.sent), "a service gets no token of Remit"


def test_an_answer_at_once_is_the_result_and_data_alone_is_json(world: HttpWorld) -> None:
    message = {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"data": {"pages": 3}}]}}
    begin(world, card(), result(message))
    assert run(world).state == RunState.SUCCEEDED
    assert json.loads(run(world).status["deliverable"]["text"]) == {"pages": 3}


def test_a_card_that_does_not_come_is_asked_for_again_and_posts_nothing(world: HttpWorld) -> None:
    begin(
        world, DOWN, LOST, reply(503), reply(429, retry_after_s=5), card(), taken("COMPLETED", parts=[{"text": "ok"}])
    )
    world.advance(30)
    assert run(world).state == RunState.SUCCEEDED
    assert [sent.method for sent in world.client.sent] == ["GET"] * 5 + ["POST"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(404), "answered with 404"),
        (reply(200, "<html>"), "no agent card"),
        (card(binding="GRPC"), "no interface for JSONRPC"),
        (card(version="0.3"), "no interface for JSONRPC of version 1"),
        (card("https://elsewhere.example.com/rpc"), "another host"),
        (card(skill="cook"), "lists no skill crawl"),
    ],
)
def test_a_card_that_leads_nowhere_fails_the_run(world: HttpWorld, answer: Reply, why: str) -> None:
    begin(world, answer, a2a="skill: crawl")
    assert (run(world).state, run(world).status["reason"]) == (RunState.FAILED, RunReason.START_FAILED)
    assert why in run(world).status["message"]
    assert len(world.client.sent) == 1


def test_an_error_after_which_it_has_not_begun_fails_the_run_and_another_leaves_it_open_what_it_did(
    world: HttpWorld,
) -> None:
    begin(world, card(), error(-32009))
    assert (run(world).state, run(world).status["reason"]) == (RunState.FAILED, RunReason.START_FAILED)
    assert "does not speak version 1.0" in run(world).status["message"]
    world.client.replies.extend([card(), error(-32603)])
    world.commit({"m2.yaml": mission("again")})
    world.sync()
    assert world.get("Run", "again-1").state == RunState.UNKNOWN
    assert len(world.client.sent) == 4, "nothing is sent twice"


def test_an_engine_that_dies_with_a_request_out_sends_no_second_task(world: HttpWorld) -> None:
    with pytest.raises(Killed):
        begin(world, card(), Killed)
    world.advance(120)
    assert (run(world).state, run(world).status["retryable"]) == (RunState.UNKNOWN, False)
    assert [sent.method for sent in world.client.sent] == ["GET", "POST"]


@pytest.mark.parametrize(("state", "retried"), [("FAILED", True), ("REJECTED", False)])
def test_a_task_that_failed_fails_the_run(world: HttpWorld, state: str, retried: bool) -> None:
    begin(world, card(), taken(state, said="no such site"))
    assert run(world).state == RunState.FAILED
    assert "no such site" in run(world).status["message"]
    assert run(world).status["retryable"] is retried


@pytest.mark.parametrize("state", ["INPUT_REQUIRED", "AUTH_REQUIRED"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_task_that_waits_for_a_person_is_cancelled_and_says_why(world: HttpWorld, state: str, at_once: bool) -> None:
    waits = task(state, said="which site?")
    replies = [result({"task": waits})] if at_once else [taken(), result(waits)]
    begin(world, card(), *replies, result(task("CANCELED")))
    world.advance(10)
    assert (run(world).state, run(world).status["retryable"]) == (RunState.FAILED, False)
    assert "which site?" in run(world).status["message"]
    assert asked(world.client.sent[-1]) == ("CancelTask", {"id": "task-7"})


def test_a_run_that_is_given_up_has_its_task_cancelled_until_that_is_confirmed(world: HttpWorld) -> None:
    begin(world, card(), taken())
    world.client.otherwise = result(task("WORKING"))
    world.commit({"m.yaml": mission("crawl", desiredState="Canceled")})
    world.sync()
    assert run(world).state != RunState.CANCELED
    world.client.otherwise = error(-32002)
    world.advance(60)
    assert run(world).state == RunState.CANCELED
    assert ("CancelTask", {"id": "task-7"}) in [asked(sent) for sent in world.client.sent if sent.body]


def test_a_task_that_is_forgotten_is_lost_and_what_is_no_answer_is_asked_again(world: HttpWorld) -> None:
    begin(world, card(), taken(), LOST, reply(502), reply(200, "?"), error(-32603), error(-32001))
    world.advance(60)
    assert run(world).state == RunState.UNKNOWN
    assert "knows nothing of the task" in run(world).status["message"]


def test_at_its_deadline_the_task_is_cancelled(world: HttpWorld) -> None:
    begin(world, card(), taken(), more="  timeout: 1m\n")
    world.client.otherwise = result(task("WORKING"))
    world.advance(62)
    world.client.otherwise = result(task("CANCELED"))
    world.advance(STOP_WAIT.total_seconds())
    assert run(world).state in (RunState.TIMED_OUT, RunState.CANCELED)
