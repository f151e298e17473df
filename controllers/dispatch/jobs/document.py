"""The Job of a run and its Secret, as they are sent to a cluster. Pure: the same order gives the same documents."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controllers.dispatch.environment import session_of
from controllers.dispatch.executor import RunOrder
from schemas.base import API_VERSION
from schemas.executor import ExecutorSpec, KubernetesJob
from schemas.pod_template import RUN_FOLDER, RUN_VOLUME
from schemas.resource import Resource, canonical_json

RUN_LABEL = "remit.dev/run"
"""Uid of the run: what makes a Job ours."""
STORE_LABEL = "remit.dev/store"
"""Whose: several installations may use one namespace."""
MISSION_LABEL, AGENT_LABEL, ATTEMPT_LABEL = "remit.dev/mission", "remit.dev/agent", "remit.dev/attempt"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MISSION_FILE = "mission.json"
LARGEST_MISSION = 900_000
"""Bytes: a Secret has at most 1 MiB."""
_IN_CLUSTER = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9]{1,19}\.[0-9a-f]{1,64}")
"""Provenance of an object that was read from a cluster: uid, generation and digest."""
_NO_NAME = re.compile(r"[^a-z0-9-]+")
_NO_VALUE = re.compile(r"[^A-Za-z0-9_.-]+")


class TooLarge(Exception):
    """A mission that fits into no Secret."""


@dataclass(frozen=True, slots=True)
class Documents:
    """What is made for a run, the Secret first."""

    secret: dict[str, Any]
    job: dict[str, Any]


def job_name(run_name: str, run_uid: str) -> str:
    """Of the Job of a run, and of its Secret: the same for ever, at most 63 characters, as pods are labelled with
    it."""
    digest = hashlib.sha256(run_uid.encode()).hexdigest()[:10]
    head = _NO_NAME.sub("-", run_name.lower())[:48].strip("-")
    return f"{head}-{digest}" if head else f"run-{digest}"


def documents(
    order: RunOrder, *, namespace: str, name: str, store: str, owner: Mapping[str, Any] | None = None
) -> Documents:
    """The Job and the Secret of an order. ``owner`` is the object of the cluster that they go with, as an owner
    reference. Raises TooLarge, and ValueError for an executor of another type."""
    spec = ExecutorSpec.model_validate(order.executor_spec)
    declared = spec.kubernetes_job
    if declared is None:
        raise ValueError("the executor has no block kubernetesJob")
    mission = canonical_json(order.mission).encode()
    if len(mission) > LARGEST_MISSION:
        raise TooLarge(
            f"the mission has {len(mission):,} bytes, and a Secret has room for {LARGEST_MISSION:,}: hand the agent a"
            " link in place of the text"
        )
    labels = {
        "app.kubernetes.io/managed-by": "remit",
        RUN_LABEL: order.run_uid,
        STORE_LABEL: store,
        MISSION_LABEL: label_value(str(order.mission.get("name", ""))),
        AGENT_LABEL: label_value(order.agent),
        ATTEMPT_LABEL: str(order.attempt),
    }
    notes = {"remit.dev/run-name": f"{order.namespace}/{order.run_name}"}
    metadata: dict[str, Any] = {"namespace": namespace, "name": name, "labels": labels, "annotations": notes}
    owned = {**metadata, "ownerReferences": [dict(owner)]} if owner is not None else metadata
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": copy.deepcopy(owned),
        "type": "Opaque",
        "data": {"token": _coded(order.token.encode()), MISSION_FILE: _coded(mission)},
    }
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owned,
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            # A pod that is taken back is to be gone before the next one begins: two would do the work twice.
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": deadline_s(spec, order.deadline_s),
            "template": _template(declared, order, name, labels),
        },
    }
    if declared.queue_name is not None:
        job["metadata"] = {**owned, "labels": {**labels, QUEUE_LABEL: declared.queue_name}}
        job["spec"]["suspend"] = True
    return Documents(secret, job)


def owner_of(mission: Resource, namespace: str) -> dict[str, Any] | None:
    """The owner reference of a mission that was read from the cluster itself; None for any other, and where it is in
    another namespace than the Job, as nothing is owned across those."""
    blob = mission.provenance.blob if mission.provenance is not None else ""
    found = _IN_CLUSTER.fullmatch(blob)
    if found is None or mission.namespace != namespace:
        return None
    return {"apiVersion": API_VERSION, "kind": mission.kind, "name": mission.name, "uid": found[1]}


def deadline_s(spec: ExecutorSpec, order_s: float | None) -> int:
    """Seconds that the pod may take, whole ones."""
    timeout_s = spec.timeout.total_seconds()
    return max(1, math.ceil(timeout_s if order_s is None else min(timeout_s, order_s)))


def owned_by(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Owner references by which a Secret goes with its Job."""
    reference = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return [reference]


def metadata_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of an object as a cluster shows it; empty when there is none."""
    metadata = found.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def label_value(text: str) -> str:
    """``text`` as the value of a label; what does not fit is cut, and told apart by a digest."""
    fits = _NO_VALUE.sub("-", text)
    if fits == text and len(text) <= 63:
        return text
    return f"{fits[:52].strip('-_.')}-{hashlib.sha256(text.encode()).hexdigest()[:10]}".lstrip("-_.")


def _template(declared: KubernetesJob, order: RunOrder, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """The pod template with what every agent gets. Only the first container is given the token."""
    template = copy.deepcopy(declared.pod_template)
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **labels}
    spec = template["spec"]
    spec["restartPolicy"] = "Never"
    # An agent acts on what strangers wrote: it gets the rights of a service account only where that is declared.
    spec.setdefault("automountServiceAccountToken", False)
    agent = spec["containers"][0]
    agent["env"] = [*(agent.get("env") or ()), *_environment(declared, order, name)]
    mount = {"name": RUN_VOLUME, "mountPath": RUN_FOLDER, "readOnly": True}
    agent["volumeMounts"] = [*(agent.get("volumeMounts") or ()), mount]
    volume = {
        "name": RUN_VOLUME,
        "secret": {"secretName": name, "items": [{"key": MISSION_FILE, "path": MISSION_FILE}]},
    }
    spec["volumes"] = [*(spec.get("volumes") or ()), volume]
    return template


def _environment(declared: KubernetesJob, order: RunOrder, name: str) -> list[dict[str, Any]]:
    plain = {
        "REMIT_URL": declared.agent_url or order.agent_url,
        "REMIT_RUN": order.run_uid,
        "REMIT_MISSION_FILE": f"{RUN_FOLDER}/{MISSION_FILE}",
        "REMIT_IDEMPOTENCY_KEY": str(order.mission.get("idempotencyKey", "")),
    }
    session = session_of(order)
    if session:
        plain["REMIT_SESSION"] = session
    token = {"name": "REMIT_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": "token"}}}
    # $(NAME) would be replaced by the kubelet; $$ stands for one $.
    return [{"name": key, "value": value.replace("$", "$$")} for key, value in plain.items()] + [token]


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
