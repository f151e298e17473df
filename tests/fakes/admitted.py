"""A cluster without servers, for what people do with kubectl: it asks the engine before it keeps an object, and the
watch brings what it keeps. Users are whoever the test says."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from controllers.admission.judge import Judge
from controllers.sources import kubernetes_acts as acts
from schemas.admission import AdmissionReview
from schemas.base import API_VERSION, Key
from schemas.quantities import format_time
from schemas.resource import SYSTEM, Resource
from tests.fakes.world import World

Document = dict[str, Any]


def document(kind: str, name: str, spec: Document, **notes: str) -> Document:
    """A custom resource as a person writes it."""
    metadata: Document = {"name": name, "namespace": "default"}
    if notes:
        metadata["annotations"] = {f"remit.dev/{key.replace('_', '-')}": text for key, text in notes.items()}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def decision(request: Resource, verdict: str = "Approve", name: str = "mine", **more: Any) -> Document:
    """An answer to a request."""
    spec = {
        "requestRef": {"name": request.name, "uid": request.uid},
        "actionDigest": request.spec["actionDigest"],
        "verdict": verdict,
        **more,
    }
    return document("ApprovalDecision", name, spec)


@dataclass
class AdmittedCluster:
    """``installed``: whether the webhook is there. ``objects`` is what the cluster keeps, ``asked`` every review."""

    world: World
    installed: bool = True
    objects: dict[Key, Document] = field(default_factory=dict)
    asked: list[Document] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.judge = Judge(self.world.store, now=self.world.clock, engine_user="system:serviceaccount:remit:engine")

    def _number(self) -> int:
        self._count += 1
        return self._count

    def apply(
        self, wanted: Document, user: str = "alice", groups: tuple[str, ...] = (), *, dry_run: bool = False,
        brought: bool = True,
    ) -> str:  # fmt: skip
        """kubectl apply; "" or why not. ``brought``: whether the watch brings it at once."""
        key = _key(wanted)
        old = self.objects.get(key)
        made = copy.deepcopy(wanted)
        meta = made["metadata"]
        written = json.dumps({**wanted, "metadata": {**wanted["metadata"]}})
        meta.setdefault("annotations", {})["kubectl.kubernetes.io/last-applied-configuration"] = written
        for field_ in ("decidedBy", "status"):  # pruned, or kept from people
            made["spec"].pop(field_, None)
            made.pop(field_, None)
        meta["uid"] = old["metadata"]["uid"] if old else f"00000000-0000-4000-8000-{self._number():012d}"
        meta["creationTimestamp"] = format_time(self.world.clock())
        why = self.ask("UPDATE" if old else "CREATE", made, old, user, groups, dry_run=dry_run)
        if why or dry_run:
            return why
        self.objects[key] = made
        if brought:
            self.watch()
        return ""

    def delete(self, kind: str, name: str, user: str = "alice", *, dry_run: bool = False) -> str:
        """kubectl delete; "" or why not."""
        key = Key(kind, "default", name)
        old = self.objects[key]
        why = self.ask("DELETE", None, old, user, (), dry_run=dry_run)
        if why or dry_run:
            return why
        del self.objects[key]
        with self.world.store.transaction(SYSTEM) as tx:
            acts.gone(tx, old)
        self.world.settle()
        return ""

    def ask(
        self, operation: str, new: Document | None, old: Document | None, user: str, groups: tuple[str, ...] = (),
        *, dry_run: bool = False,
    ) -> str:  # fmt: skip
        """What the webhook says: "" or why not. Nobody is asked where it is not installed."""
        if not self.installed:
            return ""
        request = {
            "uid": f"question-{self._number()}",
            "operation": operation,
            "name": "x",
            "userInfo": {"username": user, "groups": [*groups, "system:authenticated"]},
            "object": new,
            "oldObject": old,
            "dryRun": dry_run,
            "options": {},
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        self.asked.append(review)
        return self.again()

    def again(self) -> str:
        """The last question once more, as an API server asks that got no answer."""
        review = AdmissionReview.model_validate_json(json.dumps(self.asked[-1]))
        response = self.judge.answer(review.request)["response"]
        assert response["uid"] == self.asked[-1]["request"]["uid"]
        return "" if response["allowed"] else str(response["status"]["message"])

    def watch(self) -> None:
        """The watch brings every act there is, once more or for the first time."""
        for each in self.objects.values():
            with self.world.store.transaction(SYSTEM) as tx:
                acts.take(tx, each)
        self.world.settle()


def _key(wanted: Document) -> Key:
    return Key(wanted["kind"], wanted["metadata"].get("namespace", "default"), wanted["metadata"]["name"])
