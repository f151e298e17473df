"""Runs that are posted to a worker behind HTTP: what is asked, what each answer does, and the circuit breaker."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.effects.posts import STOP_WAIT
from controllers.runs import reports
from controllers.runs.once import Once
from schemas.mission import Artifact, MissionState
from schemas.resource import SYSTEM, Resource
from schemas.run import RunReason, RunState
from tests.fakes.http_world import DOWN, LOST, URL, HttpWorld, Killed, executor, reply
from tests.fakes.world import agent, mission

DONE = reply(200, '{"state": "Succeeded", "deliverable": "crawled", "usage": {"usd": "0.02"}}')
TAKEN = reply(202)
PATIENT = "{maxAttempts: 100, backoff: {initial: 1s, max: 1s, jitter: 0}}"
STOPPABLE = "cancel: {path: '/runs/{run}'}"


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[HttpWorld]:
    made = HttpWorld(tmp_path, backend=backend)
    try:
        yield made
        made.check()
    finally:
        made.close()


def begin(world: HttpWorld, http: str = "", *, retry: str = PATIENT, more: str = "", **spec: object) -> None:
    """Commit a worker and one mission for it, and let everything settle."""
    files = {"e.yaml": executor(http, retry=retry, more=more), "a.yaml": agent(), "m.yaml": mission("crawl", **spec)}
    world.commit(files)
    world.sync()


def run(world: HttpWorld, name: str = "crawl-1") -> Resource:
    return world.get("Run", name)


def circuit(world: HttpWorld) -> str:
    return str((world.get("Executor", "local").status.get("circuit") or {}).get("state", "Closed"))


def state(world: HttpWorld, name: str = "crawl") -> str:
    return world.get("Mission", name).state


def test_an_answer_with_the_result_ends_the_run(world: HttpWorld) -> None:
    world.client.otherwise = DONE
    begin(world, "auth: {env: WORKER_TOKEN}, signature: {env: SIGNING}, headers: [{name: X-Team, value: web}]")
    ended = run(world)
    assert (ended.state, ended.status["deliverable"]["text"]) == (RunState.SUCCEEDED, "crawled")
    assert ended.status["message"] == "handed in"
    assert ended.status["spend"]["usd"] == "0.02"
    assert state(world) == MissionState.DONE
    [sent] = world.client.sent
    body = json.loads(sent.body or b"")
    assert (body["mission"]["name"], body["callback"]["run"]) == ("crawl", ended.uid)
    assert body["callback"]["token"].startswith("rmt_run_")
    assert sent.headers["Authorization"] == "Bearer s3cret-of-the-worker"
    assert sent.headers["X-Team"] == "web"
    assert sent.headers["Idempotency-Key"] == f"{ended.spec['missionUid']}-1"
    at, digest = (part.partition("=")[2] for part in sent.headers["Remit-Signature"].split(","))
    wanted = hmac.new(b"sign-with-this", at.encode() + b"." + (sent.body or b""), hashlib.sha256).hexdigest()
    assert digest == wanted
    [event] = world.events("RunPosted")
    assert event.data["status"] == 200
    assert event.data["url"] == URL
    assert "s3cret" not in str(world.events())


def test_a_worker_that_is_busy_gets_the_run_again_with_the_same_key(world: HttpWorld) -> None:
    world.client.replies.extend([reply(503), reply(429, retry_after_s=30), DOWN, DONE])
    begin(world)
    assert run(world).state == RunState.PENDING
    world.advance(10)
    assert len(world.client.sent) == 2, "429 asked for 30 s"
    world.advance(60)
    assert run(world).state == RunState.SUCCEEDED
    assert len({sent.headers["Idempotency-Key"] for sent in world.client.sent}) == 1
    assert [event.data.get("status") for event in world.events("RunPosted")] == [503, 429, None, 200]


def test_a_worker_that_never_takes_it_fails_the_run_after_its_attempts(world: HttpWorld) -> None:
    begin(world, retry="{maxAttempts: 3, backoff: {initial: 1s}}")
    world.advance(60)
    assert (run(world).state, run(world).status["reason"]) == (RunState.FAILED, RunReason.START_FAILED)
    assert len(world.client.sent) == 3
    assert "3 times" in run(world).status["message"]


def test_a_lost_connection_is_unknown_unless_the_worker_is_idempotent(world: HttpWorld) -> None:
    world.client.replies.extend([LOST, DONE])
    begin(world)
    assert (run(world).state, run(world).status["retryable"]) == (RunState.UNKNOWN, False)
    assert state(world) == MissionState.BLOCKED
    assert len(world.client.sent) == 1
    world.client.replies.extend([LOST, reply(500), DONE])
    world.commit({"e.yaml": executor("idempotent: true", retry=PATIENT), "m2.yaml": mission("again")})
    world.sync()
    world.advance(60)
    assert run(world, "again-1").state == RunState.SUCCEEDED


def test_a_lost_connection_is_another_attempt_where_the_mission_may_be_repeated(world: HttpWorld) -> None:
    world.client.replies.extend([LOST, DONE])
    again = "{maxAttempts: 2, idempotent: true, backoff: {initial: 1s}}"
    world.commit({"e.yaml": executor(), "a.yaml": agent(), "m.yaml": mission("crawl", retry=again)})
    world.sync()
    world.advance(10)
    assert run(world).state == RunState.LOST
    assert run(world, "crawl-2").state == RunState.SUCCEEDED
    assert len({sent.headers["Idempotency-Key"] for sent in world.client.sent}) == 2


@pytest.mark.parametrize(("idempotent", "ends"), [("true", RunState.SUCCEEDED), ("false", RunState.UNKNOWN)])
def test_an_engine_that_died_with_a_request_out_repeats_it_only_where_that_is_declared_safe(
    world: HttpWorld, idempotent: str, ends: RunState
) -> None:
    world.client.replies.extend([Killed, DONE])
    with pytest.raises(Killed):
        begin(world, f"idempotent: {idempotent}")
    assert run(world).status["post"]["sentAt"]
    world.restart()
    assert run(world).state == ends
    assert len(world.client.sent) == (2 if idempotent == "true" else 1)
    assert len({sent.headers["Idempotency-Key"] for sent in world.client.sent}) == 1


def test_a_worker_that_turns_it_down_is_not_asked_again(world: HttpWorld) -> None:
    world.client.otherwise = reply(404)
    begin(world)
    assert (run(world).state, run(world).status["retryable"]) == (RunState.FAILED, False)
    assert len(world.client.sent) == 1
    assert circuit(world) == "Closed"


def test_a_worker_that_calls_back_ends_the_run_with_its_last_word(world: HttpWorld) -> None:
    world.client.otherwise = TAKEN
    begin(world)
    assert run(world).state == RunState.RUNNING
    world.advance(600)
    text = Artifact(name="pages", size=4, digest="sha256:" + "0" * 64, text="four", run="crawl-1")
    with world.store.transaction(SYSTEM) as tx:
        reports.complete(tx, run(world).uid, text, "looked twice", once=Once.of("k"))
    world.settle()
    assert (run(world).state, run(world).status["message"]) == (RunState.SUCCEEDED, "handed in")
    assert state(world) == MissionState.DONE


def test_a_last_word_that_came_while_no_engine_was_there_counts(world: HttpWorld) -> None:
    world.client.otherwise = TAKEN
    begin(world)
    with world.store.transaction(SYSTEM) as tx:
        reports.fail(tx, run(world).uid, "NoPages", "nothing there", retryable=False, once=Once.of("k"))
    world.restart()
    assert (run(world).state, run(world).status["reason"]) == (RunState.FAILED, RunReason.REPORTED_FAILURE)


def test_a_result_is_asked_for_where_the_worker_said(world: HttpWorld) -> None:
    going = reply(200, '{"state": "Running", "percent": 40, "message": "crawling"}')
    answers = [reply(202, '{"statusUrl": "/runs/7"}'), going, going, reply(503), DOWN, DONE]
    world.client.replies.extend(answers)
    begin(world, "result: Poll, pollInterval: 10s")
    assert run(world).state == RunState.RUNNING
    world.advance(25)
    assert (run(world).status["progress"], run(world).status["percent"]) == ("crawling", 40)
    world.advance(60)
    assert run(world).status["deliverable"]["text"] == "crawled"
    assert {(s.method, s.url) for s in world.client.sent[1:]} == {("GET", "https://worker.example.com/runs/7")}
    assert len(world.events("RunProgressed")) == 2, "progress and the last word, each once"


def test_a_status_address_on_another_host_is_not_asked(world: HttpWorld) -> None:
    world.client.replies.append(reply(202, '{"statusUrl": "https://169.254.169.254/latest"}'))
    begin(world, "result: Poll")
    world.advance(60)
    assert len(world.client.sent) == 1
    assert "another host" in str(run(world).status["post"]["log"])


def test_the_breaker_opens_after_five_failures_half_opens_and_closes(world: HttpWorld) -> None:
    begin(world, more="  circuitBreaker: {failureThreshold: 5, openFor: 30s}\n")
    world.commit({"m2.yaml": mission("later")})
    world.sync()
    world.advance(4.5)
    assert (len(world.client.sent), circuit(world)) == (5, "Open")
    assert [c["reason"] for c in world.get("Executor", "local").status["conditions"]] == ["CircuitOpen"]
    world.advance(1)
    [waits] = world.get("Mission", "crawl").status["blockedOn"]
    assert (waits["type"], waits["ref"]) == ("Executor", "Executor/default/local")
    [waits] = world.get("Mission", "later").status["blockedOn"]
    assert (waits["type"], "left alone" in waits["hint"]) == ("Agent", True)
    world.advance(20)
    assert len(world.client.sent) == 5, "it is left alone"
    world.advance(12)
    assert (len(world.client.sent), circuit(world)) == (6, "Open"), "one trial, which failed"
    world.client.otherwise = DONE
    world.advance(40)
    assert (circuit(world), state(world), state(world, "later")) == ("Closed", MissionState.DONE, MissionState.DONE)
    moves = [event.reason for event in world.events("CircuitChanged")]
    assert moves == ["Open", "HalfOpen", "Open", "HalfOpen", "Closed"]


def test_only_one_run_tries_a_half_open_circuit(world: HttpWorld) -> None:
    names = ["one", "two", "three"]
    world.commit({
        "e.yaml": executor(retry=PATIENT, more="  circuitBreaker: {failureThreshold: 3, openFor: 30s}\n"),
        "a.yaml": agent(maxConcurrentMissions=3), **{f"{name}.yaml": mission(name) for name in names},
    })  # fmt: skip
    world.sync()
    assert (len(world.client.sent), circuit(world)) == (3, "Open")
    world.advance(31)
    assert len(world.client.sent) == 4
    world.client.otherwise = DONE
    world.advance(60)
    assert {state(world, name) for name in names} == {MissionState.DONE}


def test_a_trial_whose_engine_died_is_taken_over(world: HttpWorld) -> None:
    world.client.replies.extend([DOWN, Killed])
    begin(world, "idempotent: true", more="  circuitBreaker: {failureThreshold: 1, openFor: 30s}\n")
    with pytest.raises(Killed):
        world.advance(40)
    world.client.otherwise = DONE
    world.restart()
    world.advance(120)
    assert (state(world), circuit(world)) == (MissionState.DONE, "Closed")


def test_a_mission_that_is_canceled_before_the_worker_took_it_ends_at_once(world: HttpWorld) -> None:
    begin(world, STOPPABLE)
    world.commit({"m.yaml": mission("crawl", desiredState="Canceled")})
    world.sync()
    world.advance(30)
    assert (run(world).state, state(world)) == (RunState.CANCELED, MissionState.CANCELED)
    assert {sent.method for sent in world.client.sent} == {"POST"}


def test_a_worker_is_told_to_stop_until_it_confirms(world: HttpWorld) -> None:
    world.client.replies.extend([TAKEN, DOWN, reply(202), reply(204)])
    begin(world, STOPPABLE)
    world.commit({"m.yaml": mission("crawl", desiredState="Canceled")})
    world.sync()
    assert run(world).state == RunState.RUNNING
    world.advance(30)
    assert (run(world).state, state(world)) == (RunState.CANCELED, MissionState.CANCELED)
    told = [sent for sent in world.client.sent if sent.method == "DELETE"]
    assert [sent.url for sent in told] == [f"https://worker.example.com/runs/{run(world).uid}"] * 3


@pytest.mark.parametrize("http", ["", STOPPABLE])
def test_a_worker_that_confirms_no_stop_ends_as_may_still_be_running(world: HttpWorld, http: str) -> None:
    world.client.replies.append(TAKEN)
    begin(world, http)
    world.commit({"m.yaml": mission("crawl", desiredState="Canceled")})
    world.sync()
    world.advance(3600)
    assert (run(world).state, run(world).status["reason"]) == (RunState.UNKNOWN, RunReason.MAY_STILL_BE_RUNNING)


def test_at_its_deadline_a_run_is_stopped_and_timed_out(world: HttpWorld) -> None:
    world.client.replies.extend([TAKEN, DOWN, reply(404)])
    begin(world, STOPPABLE, more="  timeout: 10m\n")
    world.advance(599)
    assert run(world).state == RunState.RUNNING
    world.advance(STOP_WAIT.total_seconds())
    assert (run(world).state, run(world).status["reason"]) == (RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED)


def test_a_deadline_without_a_way_to_stop_it_leaves_an_unknown_outcome(world: HttpWorld) -> None:
    world.client.otherwise = TAKEN
    begin(world, more="  timeout: 10m\n")
    world.advance(601)
    assert (run(world).state, run(world).status["reason"]) == (RunState.UNKNOWN, RunReason.MAY_STILL_BE_RUNNING)


def test_a_secret_that_is_missing_fails_the_run_and_sends_nothing(world: HttpWorld) -> None:
    begin(world, "auth: {env: NOBODY_SET_THIS}")
    assert run(world).status["reason"] == RunReason.SECRET_NOT_FOUND
    assert not world.client.sent


def test_an_answer_that_is_not_as_agreed_leaves_an_unknown_outcome(world: HttpWorld) -> None:
    world.client.otherwise = reply(200, "<html>")
    begin(world)
    assert run(world).state == RunState.UNKNOWN
    assert "no JSON" in run(world).status["message"]
