"""Runs that are Jobs of a cluster: what is made, how each end is told, and what a lost answer or a crash does."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.dispatch.jobs.cluster import Answer, Said
from controllers.effects.jobs import STOP_WAIT
from decisions.mission_stop import CANCEL_DEADLINE
from schemas.mission import MissionState
from schemas.resource import Resource
from schemas.run import JobPhase, RunReason, RunState
from tests.fakes.http_world import Killed
from tests.fakes.job_world import BROKEN, DOWN, JobWorld, executor
from tests.fakes.world import agent, mission

TEXT = "outputFormat: Text"
SELDOM = f"{TEXT}, pollInterval: 30s"
ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"])
"""For what does not depend on the database."""


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[JobWorld]:
    made = JobWorld(tmp_path, backend=backend)
    try:
        yield made
        made.check()
    finally:
        made.close()


def begin(world: JobWorld, job: str = "", *, retry: str = "{maxAttempts: 3}", more: str = "", **spec: object) -> None:
    """Commit an executor of Jobs and one mission for it, and let everything settle."""
    files = {"e.yaml": executor(job, retry=retry, more=more), "a.yaml": agent(), "m.yaml": mission("index", **spec)}
    world.commit(files)
    world.sync()


def cancel(world: JobWorld) -> None:
    world.commit({"m.yaml": mission("index", desiredState="Canceled")})
    world.sync()


def run(world: JobWorld, name: str = "index-1") -> Resource:
    return world.get("Run", name)


def ended(world: JobWorld, name: str = "index-1") -> tuple[str, str]:
    found = run(world, name)
    return found.state, str(found.status["reason"])


def test_a_pod_that_prints_its_answer_ends_the_run(world: JobWorld) -> None:
    begin(world, TEXT)
    assert run(world).status["job"]["phase"] == JobPhase.WAITING
    world.cluster.runs()
    world.advance(6)
    assert run(world).state == RunState.RUNNING
    assert run(world).status["job"]["node"] == "node-1"
    world.cluster.output = b"the index is built\n"
    world.cluster.ends()
    world.advance(6)
    assert ended(world) == (RunState.SUCCEEDED, RunReason.COMPLETED)
    assert run(world).status["deliverable"]["text"] == "the index is built"
    assert world.state("index") == MissionState.DONE
    log = world.folder / "state" / "runs" / run(world).uid / "stdout.log"
    assert log.read_text() == "the index is built\n"
    assert ("Secret", run(world).status["job"]["name"]) not in world.cluster.objects
    assert world.cluster.job["spec"]["ttlSecondsAfterFinished"] == 3600


@pytest.mark.parametrize(
    ("code", "reason", "more", "told"),
    [
        (3, "", {}, (RunState.FAILED, RunReason.NON_ZERO_EXIT)),
        (137, "OOMKilled", {}, (RunState.FAILED, RunReason.KILLED)),
        (128, "StartError", {"message": 'exec: "x": executable file not found'}, (RunState.FAILED, "ProgramNotFound")),
    ],
)
@ON_SQLITE
def test_what_ends_a_container_is_told_as_for_a_program(
    world: JobWorld, code: int, reason: str, more: dict[str, Any], told: tuple[str, str]
) -> None:
    begin(world, TEXT, retry="{maxAttempts: 1}")
    world.cluster.ends(code, reason, **more)
    world.advance(6)
    assert ended(world) == told


@ON_SQLITE
def test_an_evicted_pod_is_a_worker_that_is_lost(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.runs()
    world.advance(6)
    world.cluster.pod("Failed", reason="Evicted", message="The node was low on resource: memory")
    world.cluster.finishes("Failed", "BackoffLimitExceeded")
    world.advance(6)
    assert ended(world) == (RunState.UNKNOWN, RunReason.WORKER_LOST)
    assert "low on resource" in run(world).status["message"]
    assert world.state("index") == MissionState.BLOCKED


@ON_SQLITE
def test_a_job_that_its_queue_takes_back_waits_and_goes_on(world: JobWorld) -> None:
    begin(world, "queueName: team, outputFormat: Text, pollInterval: 10m")
    assert world.cluster.job["spec"]["suspend"] is True
    world.advance(1)
    assert run(world).state == RunState.PENDING
    assert "waits in its queue" in run(world).status["message"]
    waits = world.status("index").blocked_on
    assert any(blocker.type == "Executor" for blocker in waits), waits
    world.advance(6 * 3600)
    assert run(world).state == RunState.PENDING, "its queue may keep it for long"
    world.cluster.job["spec"]["suspend"] = False
    world.cluster.runs()
    world.advance(700)
    assert run(world).state == RunState.RUNNING
    del world.cluster.objects["Pod", world.cluster.job["metadata"]["name"]]
    world.cluster.job["spec"]["suspend"] = True
    world.advance(3600)
    assert (run(world).state, run(world).status["job"]["preempted"]) == (RunState.RUNNING, 1)
    assert [event.reason for event in world.events("JobChanged")] == ["Created", "Preempted"]
    world.cluster.job["spec"]["suspend"] = False
    world.cluster.runs()
    world.advance(700)
    world.cluster.ends()
    world.advance(700)
    assert run(world).state == RunState.SUCCEEDED


@ON_SQLITE
@pytest.mark.parametrize("kind", ["Secret", "Job"])
@pytest.mark.parametrize("arrived", [True, False])
def test_an_engine_that_dies_while_it_makes_them_makes_nothing_twice(world: JobWorld, kind: str, arrived: bool) -> None:
    world.cluster.put_off(f"make {kind}", (Killed, True) if arrived else Killed)
    with pytest.raises(Killed):
        begin(world, TEXT)
    assert run(world).status["job"]["sentAt"]
    world.restart()
    world.cluster.ends()
    world.advance(10)
    assert run(world).state == RunState.SUCCEEDED
    assert [made.partition(" ")[0] for made in world.cluster.made] == ["Secret", "Job"]
    adopted = "Adopted" if kind == "Job" and arrived else "Created"
    assert [event.reason for event in world.events("JobChanged")] == [adopted]


@ON_SQLITE
def test_a_broken_answer_is_asked_again_and_finds_the_same_job(world: JobWorld) -> None:
    world.cluster.put_off("make Job", (BROKEN, True), DOWN)
    begin(world, TEXT)
    assert "connection broke" in run(world).status["message"]
    world.advance(60)
    assert run(world).status["job"]["uid"]
    assert world.cluster.made == [
        f"Secret {run(world).status['job']['name']}",
        f"Job {run(world).status['job']['name']}",
    ]


@ON_SQLITE
def test_a_cluster_that_is_not_there_fails_the_run_after_its_attempts(world: JobWorld) -> None:
    world.cluster.put_off("make Secret", DOWN, DOWN, DOWN)
    begin(world, retry="{maxAttempts: 3}")
    world.advance(60)
    assert ended(world) == (RunState.FAILED, RunReason.START_FAILED)
    assert "after 3 tries" in run(world).status["message"]


@ON_SQLITE
def test_what_the_cluster_refuses_is_not_asked_again(world: JobWorld) -> None:
    world.cluster.put_off("make Job", Answer(Said.REFUSED, "the API server answers 403: not allowed"))
    begin(world)
    assert ended(world) == (RunState.FAILED, RunReason.START_FAILED)
    assert run(world).status["retryable"] is False
    assert not world.cluster.objects, "its Secret goes, too"


@ON_SQLITE
def test_a_job_of_somebody_else_under_its_name_is_left_alone(world: JobWorld) -> None:
    world.cluster.put_off("make Secret", Killed)
    with pytest.raises(Killed):
        begin(world)
    name = run(world).status["job"]["name"]
    world.cluster.objects["Job", name] = {"kind": "Job", "metadata": {"name": name, "uid": "theirs", "labels": {}}}
    world.restart()
    world.advance(10)
    assert ended(world) == (RunState.FAILED, RunReason.START_FAILED)
    assert "not of this run" in run(world).status["message"]
    assert world.cluster.objects["Job", name]["metadata"]["uid"] == "theirs"


def test_a_canceled_run_ends_once_its_job_is_gone(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.runs()
    world.advance(6)
    world.cluster.put_off("delete Job", BROKEN)
    cancel(world)
    world.advance(60)
    assert run(world).state == RunState.RUNNING, "it may still be running"
    assert world.cluster.job["metadata"]["deletionTimestamp"]
    world.cluster.collect()
    world.advance(15)
    assert ended(world) == (RunState.CANCELED, RunReason.CANCELED)
    assert world.state("index") == MissionState.CANCELED


@ON_SQLITE
def test_a_cancel_that_the_cluster_never_confirms_leaves_the_run_unknown(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.runs()
    world.advance(6)
    world.cluster.put_off("get Job", *[DOWN] * 10_000)
    cancel(world)
    world.advance(CANCEL_DEADLINE.total_seconds() - 30)
    assert run(world).state == RunState.RUNNING
    world.advance(60)
    assert ended(world) == (RunState.UNKNOWN, RunReason.MAY_STILL_BE_RUNNING)


def test_a_run_that_is_canceled_while_it_is_made_leaves_no_job(world: JobWorld) -> None:
    world.cluster.put_off("make Job", (BROKEN, True))
    begin(world, TEXT)
    cancel(world)
    world.advance(5)
    assert world.cluster.job["metadata"]["deletionTimestamp"]
    world.cluster.collect()
    world.advance(15)
    assert ended(world)[0] == RunState.CANCELED
    assert not world.cluster.objects


@ON_SQLITE
def test_a_run_that_no_cluster_was_asked_for_is_canceled_at_once(world: JobWorld) -> None:
    world.cluster.put_off("make Secret", *[DOWN] * 50)
    begin(world, TEXT, retry="{maxAttempts: 50}")
    cancel(world)
    world.advance(5)
    assert ended(world)[0] == RunState.CANCELED
    assert not world.cluster.objects


@ON_SQLITE
def test_a_job_that_somebody_deletes_is_a_worker_that_is_lost(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.runs()
    world.advance(6)
    world.cluster.objects.clear()
    world.advance(6)
    assert ended(world) == (RunState.UNKNOWN, RunReason.WORKER_LOST)


@ON_SQLITE
def test_a_silent_cluster_says_nothing_of_a_run_until_its_deadline(world: JobWorld) -> None:
    begin(world, SELDOM, more="  timeout: 10m\n")
    world.cluster.runs()
    world.advance(31)
    world.cluster.put_off("get Job", *[DOWN] * 10_000)
    world.advance(500)
    assert run(world).state == RunState.RUNNING
    assert "nothing good is heard" in run(world).status["message"]
    world.advance(300 + STOP_WAIT.total_seconds())
    assert ended(world) == (RunState.UNKNOWN, RunReason.MAY_STILL_BE_RUNNING)


@ON_SQLITE
def test_a_deadline_that_the_cluster_keeps_is_a_timeout(world: JobWorld) -> None:
    begin(world, SELDOM, more="  timeout: 10m\n", retry="{maxAttempts: 1}")
    assert world.cluster.job["spec"]["activeDeadlineSeconds"] == 600
    world.cluster.runs()
    world.advance(600)
    world.cluster.objects.pop(("Pod", world.cluster.job["metadata"]["name"]))
    world.cluster.finishes("Failed", "DeadlineExceeded")
    world.advance(181)
    assert ended(world) == (RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED)


@ON_SQLITE
def test_a_deadline_that_the_cluster_forgets_is_kept_by_remit(world: JobWorld) -> None:
    begin(world, SELDOM, more="  timeout: 10m\n")
    world.cluster.runs()
    world.advance(700)
    assert world.cluster.job["metadata"]["deletionTimestamp"]
    world.cluster.collect()
    world.advance(15)
    assert ended(world) == (RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED)


@ON_SQLITE
def test_an_image_that_cannot_be_pulled_fails_the_run_and_its_job_goes(world: JobWorld) -> None:
    begin(world, "startGrace: 1m")
    world.cluster.pod("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
    world.advance(30)
    assert run(world).state == RunState.PENDING
    assert "no such image" in run(world).status["message"]
    world.advance(60)
    world.cluster.collect()
    world.advance(15)
    assert ended(world) == (RunState.FAILED, RunReason.START_FAILED)
    assert "no such image" in run(world).status["message"]


@ON_SQLITE
def test_a_log_that_cannot_be_read_is_asked_for_again(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.put_off("log", *[BROKEN] * 3)
    world.cluster.ends()
    world.advance(60)
    assert run(world).state == RunState.SUCCEEDED


@ON_SQLITE
def test_an_answer_whose_log_is_lost_does_not_count_and_is_not_repeated(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.put_off("log", *[BROKEN] * 100)
    world.cluster.ends()
    world.advance(600)
    assert ended(world) == (RunState.FAILED, RunReason.OUTPUT_INVALID)
    assert run(world).status["retryable"] is False


@ON_SQLITE
def test_a_job_that_is_to_go_at_once_is_deleted(world: JobWorld) -> None:
    begin(world, "outputFormat: Text, ttlSecondsAfterFinished: 0")
    world.cluster.ends()
    world.cluster.put_off("delete Secret", DOWN)
    world.advance(10)
    assert run(world).state == RunState.SUCCEEDED
    assert world.cluster.job["metadata"]["deletionTimestamp"]


@ON_SQLITE
def test_jobs_that_no_open_run_has_are_swept_and_told(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.runs()
    world.advance(6)
    assert asyncio.run(world.sweep.sweep()) == 0
    other = {**world.cluster.job, "metadata": {**world.cluster.job["metadata"], "name": "other", "uid": "uid-9"}}
    other["metadata"]["labels"] = {**other["metadata"]["labels"], "remit.dev/run": "a-run-of-a-lost-backup"}
    world.cluster.objects["Job", "other"] = other
    foreign = copy.deepcopy(other)
    foreign["metadata"] |= {"name": "foreign", "labels": {**other["metadata"]["labels"], "remit.dev/store": "theirs"}}
    world.cluster.objects["Job", "foreign"] = foreign
    assert asyncio.run(world.sweep.sweep()) == 1
    assert other["metadata"]["deletionTimestamp"]
    assert "deletionTimestamp" not in foreign["metadata"]
    assert [e.reason for e in world.events("JobChanged", subject="local")] == ["Swept"]
    world.cluster.put_off("jobs", DOWN)
    assert asyncio.run(world.sweep.sweep()) == 0


@ON_SQLITE
def test_a_job_that_outlives_its_run_is_swept(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.runs()
    world.advance(6)
    world.cluster.put_off("get Job", *[DOWN] * 1000)
    cancel(world)
    world.advance(CANCEL_DEADLINE.total_seconds() + 30)
    assert ended(world)[0] == RunState.UNKNOWN
    assert "deletionTimestamp" not in world.cluster.job["metadata"]
    assert asyncio.run(world.sweep.sweep()) == 1
    assert world.cluster.job["metadata"]["deletionTimestamp"]


@ON_SQLITE
def test_an_answer_whose_pod_is_gone_does_not_count_and_is_not_repeated(world: JobWorld) -> None:
    begin(world, TEXT)
    world.cluster.finishes("Complete")
    world.advance(600)
    assert ended(world) == (RunState.FAILED, RunReason.OUTPUT_INVALID)
    assert run(world).status["retryable"] is False
    assert "its pod is gone" in run(world).status["message"]
