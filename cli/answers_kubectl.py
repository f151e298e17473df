"""An answer as a resource of a cluster, made by kubectl: the API server knows who answers, and tells the engine.

kubectl finds the cluster, the user and their credentials, as its kubeconfig says; nothing of that is read here.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from cli import answers, common
from cli.failures import Exit, Failure
from cli.output import safe

if TYPE_CHECKING:
    from schemas.resource import Resource

_UID = "remit.dev/uid"
"""The annotation with the uid that the engine knows a request by."""
_TIMEOUT_S = 60.0
_JUDGED = '--for=jsonpath={.status.conditions[?(@.type=="Succeeded")].observedGeneration}=1'


def answer(reply: answers.Reply, namespace: str) -> None:
    """Make the decision in the cluster, and say what became of it."""
    request = _request(reply.target, namespace)
    answers.check(request, reply)
    spec = answers.decision_spec(request, reply)
    document = {
        "apiVersion": "remit.dev/v1alpha1",
        "kind": "ApprovalDecision",
        "metadata": {"generateName": f"{request.name[:200]}-{reply.verdict.lower()}-", "namespace": request.namespace},
        "spec": spec.to_wire(),
    }
    made = ask("create", "-f", "-", "-o", "json", stdin=json.dumps(document))
    name = str(made["metadata"]["name"])
    print(safe(f"{reply.verdict}: {request.spec['title']} (as your user of the cluster)"))
    if reply.no_wait:
        return
    place = (f"approvaldecision.remit.dev/{name}", "-n", request.namespace)
    kubectl("wait", _JUDGED, "--timeout=10s", *place, check=False)
    decision = ask("get", *place, "-o", "json")
    conditions = (decision.get("status") or {}).get("conditions") or ()
    judged = next((c for c in conditions if c["type"] == "Succeeded" and c["status"] != "Unknown"), None)
    answers.say_judged(judged, request)


def _request(target: str, namespace: str) -> Resource:
    """The request that is meant, by its own name or that of the object that waits for it."""
    slash = "/" in target
    key = common.key_named(target if slash else f"approval/{target}", namespace)
    if key.kind == "ApprovalRequest":
        found = ask(
            "get", "approvalrequest.remit.dev", key.name, "-n", key.namespace, "-o", "json", "--ignore-not-found"
        )
        if found or slash:
            if not found:
                raise Failure(f"there is no {key.short} in the cluster", hint=f"kubectl get approvals -n {namespace}")
            return _resource(found)
        key = common.key_named(f"mission/{target}", namespace)
    listed = ask("get", "approvalrequests.remit.dev", "-n", key.namespace, "-o", "json")["items"]
    asked = [each for each in map(_resource, listed) if each.spec.get("subject") == str(key)]
    waiting = [each for each in asked if each.state == "Pending"]
    if len(waiting) > 1:
        raise Failure(
            f"{key.short} waits for {len(waiting)} answers: name the one that you mean",
            *(f"{each.name}: {safe(str(each.spec['title']))[:100]}" for each in waiting[:10]),
            code=Exit.REFUSED,
        )
    if not waiting:
        raise Failure(
            f"{key.short} waits for no answer", hint=f"kubectl get approvals -n {key.namespace}", code=Exit.REFUSED
        )
    return waiting[0]


def _resource(document: dict[str, Any]) -> Resource:
    from schemas.quantities import parse_time
    from schemas.resource import Resource

    metadata = document["metadata"]
    uid = (metadata.get("annotations") or {}).get(_UID)
    if not uid:
        raise Failure(f"{metadata['name']} was not made by an engine: it has no annotation {_UID}", code=Exit.REFUSED)
    return Resource(
        kind="ApprovalRequest",
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        uid=str(uid),
        generation=1,
        resource_version=0,
        spec=document["spec"],
        status=document.get("status") or {},
        created_at=parse_time(metadata["creationTimestamp"]),
    )


def ask(*words: str, stdin: str = "") -> dict[str, Any]:
    """The document that kubectl prints; {} for nothing. Raises Failure."""
    text = kubectl(*words, stdin=stdin)
    found = json.loads(text) if text.strip() else {}
    assert isinstance(found, dict)
    return found


def kubectl(*words: str, stdin: str = "", check: bool = True) -> str:
    """What kubectl prints. Raises Failure, with what the API server says."""
    try:
        done = subprocess.run(
            ["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise Failure("there is no kubectl on the PATH, and --via kubernetes acts by it") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"kubectl {words[0]} did not end within {_TIMEOUT_S:g} s") from error
    if check and done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"kubectl {words[0]} failed"]
        denied = "denied the request" in done.stderr or "orbidden" in done.stderr
        raise Failure(safe(lines[-1])[:1000], code=Exit.REFUSED if denied else Exit.ERROR)
    return done.stdout
