"""The Job of a run and its Secret, as they are sent to a cluster."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from controllers.dispatch.executor import RunOrder
from controllers.dispatch.jobs.document import TooLarge, documents, job_name, label_value, owned_by, owner_of
from schemas.executor import ExecutorSpec
from schemas.resource import Provenance, Resource

GOLDEN = Path(__file__).parent / "golden" / "job.json"
UID = "01a1ff94-3ac1-7656-a371-94e7a87de69c"
TOKEN = "rmt_run_this-is-the-token"
POD: dict[str, Any] = {
    "metadata": {"labels": {"team": "search"}, "annotations": {"note": "kept"}},
    "spec": {
        "serviceAccountName": "agent",
        "containers": [
            {
                "name": "agent", "image": "agents/indexer:1", "command": ["index"],
                "env": [{"name": "LEVEL", "value": "info"}],
                "resources": {"limits": {"memory": "2Gi"}},
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            },
            {"name": "proxy", "image": "proxy:1"},
        ],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    },
}  # fmt: skip


def spec(template: dict[str, Any] | None = None, **job: Any) -> dict[str, Any]:
    block = {"podTemplate": POD if template is None else template, **job}
    typed = ExecutorSpec.model_validate({"type": "KubernetesJob", "kubernetesJob": block, "timeout": "2h"})
    return typed.to_wire()


def order(executor: dict[str, Any], **mission: Any) -> RunOrder:
    document = {
        "apiVersion": "remit.dev/v1alpha1", "name": "rebuild-index", "title": "Build $(HOME) anew",
        "idempotencyKey": "m-$1/1", **mission,
    }  # fmt: skip
    return RunOrder(
        run_uid=UID, run_name="rebuild-index-1", namespace="acme", attempt=2, executor_spec=executor, mission=document,
        agent="indexer", token=TOKEN, agent_url="http://10.0.0.1:8421", project_root=Path("/"), deadline_s=5400.2,
    )  # fmt: skip


def made(executor: dict[str, Any], **mission: Any) -> Any:
    name = job_name("rebuild-index-1", UID)
    return documents(order(executor, **mission), namespace="agents", name=name, store="0123456789abcdef")


def test_the_job_is_the_one_that_was_reviewed() -> None:
    """REMIT_GOLDEN=1 writes the file anew: look at its diff."""
    executor = spec(queueName="team-a", agentUrl="http://remit.example:8421")
    mission = {"apiVersion": "remit.dev/v1alpha1", "kind": "Mission", "name": "rebuild-index", "uid": "m-1"}
    owner = {key: mission[key] for key in ("apiVersion", "kind", "name", "uid")}
    name = job_name("rebuild-index-1", UID)
    found = documents(order(executor), namespace="agents", name=name, store="0123456789abcdef", owner=owner)
    text = json.dumps({"secret": found.secret, "job": found.job}, indent=2) + "\n"
    if os.environ.get("REMIT_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_token_stands_in_the_secret_only() -> None:
    found = made(spec())
    assert TOKEN not in json.dumps(found.job)
    assert base64.b64decode(found.secret["data"]["token"]).decode() == TOKEN
    mission = json.loads(base64.b64decode(found.secret["data"]["mission.json"]))
    assert mission["title"] == "Build $(HOME) anew"
    agent, proxy = found.job["spec"]["template"]["spec"]["containers"]
    assert agent["env"][0]["name"] == "LEVEL"
    assert "env" not in proxy, "only the agent speaks for the run"


def test_without_a_queue_it_begins_at_once_and_nothing_of_the_declared_template_is_changed() -> None:
    before = json.dumps(POD)
    found = made(spec())
    assert "suspend" not in found.job["spec"]
    assert found.job["spec"]["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in found.job["spec"], "it counts from the record of the end"
    assert found.job["spec"]["activeDeadlineSeconds"] == 5401
    assert json.dumps(POD) == before
    assert made(spec()) == found


def test_a_mission_that_fits_into_no_secret_is_refused() -> None:
    with pytest.raises(TooLarge, match="900,000"):
        made(spec(), input={"text": "x" * 900_000})


def test_names_follow_from_the_run_and_fit_everywhere() -> None:
    long = job_name("a.very.long." * 20, UID)
    assert len(long) <= 63
    assert "." not in long
    assert long == job_name("a.very.long." * 20, UID)
    assert job_name("x", UID) != job_name("x", UID.replace("0", "1"))
    assert len(label_value("n" * 200)) <= 63
    assert label_value("plain-name.1") == "plain-name.1"


def test_a_secret_goes_with_its_job() -> None:
    job = {"metadata": {"name": "j", "uid": "u"}}
    assert owned_by(job) == [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"}]


def test_a_mission_of_the_same_namespace_of_the_cluster_owns_its_job() -> None:
    uid = "6f0f3c7e-0000-4000-8000-0123456789ab"

    def mission(namespace: str, blob: str) -> Resource:
        came = Provenance("default/default", "specs", "42", "agents/mission/m", 1, blob)
        return Resource(
            "Mission", namespace, "m", "m-1", 1, 1, {}, {}, datetime(2026, 1, 1, tzinfo=UTC), provenance=came
        )

    owner = {"apiVersion": "remit.dev/v1alpha1", "kind": "Mission", "name": "m", "uid": uid}
    assert owner_of(mission("agents", f"{uid}.3.0123abcd"), "agents") == owner
    assert owner_of(mission("acme", f"{uid}.3.0123abcd"), "agents") is None
    assert owner_of(mission("agents", "8951530aa8f30b2c0b11d2d0a0d5b1f1b9fbd4a7"), "agents") is None


def container(**more: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "image": "i", **more}]}}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({}, "needs spec"),
        ({"spec": {}}, "needs a container"),
        ({"spec": {"containers": [{"name": "a"}]}}, "needs image"),
        ({"spec": {"containers": "a"}}, "is no list"),
        ({"spec": {"containers": [{"name": "a", "image": "i"}] * 2}}, "same name"),
        ({"kind": "Pod", **container()}, "no 'kind'"),
        ({**container(), "metadata": {"name": "x"}}, "no 'name'"),
        ({**container(), "metadata": {"labels": {"remit.dev/run": "x"}}}, "set by the engine"),
        ({**container(), "metadata": {"labels": {"a": 1}}}, "no text"),
        (container(env=[{"name": "REMIT_TOKEN", "value": "x"}]), "REMIT_"),
        (container(volumeMounts=[{"name": "x", "mountPath": "/var/run/remit/"}]), "where the mission lies"),
        ({"spec": {**container()["spec"], "restartPolicy": "OnFailure"}}, "is Never"),
        ({"spec": {**container()["spec"], "volumes": [{"name": "remit-run"}]}}, "set by the engine"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_a_reason(template: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(template)


def test_a_job_is_not_retried_by_the_cluster_and_a_context_belongs_to_a_kubeconfig() -> None:
    with pytest.raises(ValidationError):
        spec(backoffLimit=1)
    with pytest.raises(ValidationError, match="give both"):
        spec(context="prod")
