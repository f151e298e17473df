"""A cluster without servers, for what people do with kubectl: it asks the engine before it keeps an object, and the
watch brings what it keeps. Users are whoever the test says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from controllers.admission.judge import Judge
from controllers.sources import kubernetes_acts as acts
from controllers.sources import kubernetes_voices
from schemas import registry
from schemas.admission import AdmissionReview
from schemas.base import API_VERSION, Key
from schemas.quantities import format_time
from schemas.resource import SYSTEM, Declared, Provenance, Resource
from store.contract import Transaction
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
        self.watch()
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
        """The source of the cluster brings its acts to where the cluster has them, as a sync does."""
        with self.world.store.transaction(SYSTEM) as tx:
            bring(tx, self.objects.values())
        self.world.settle()


def bring(tx: Transaction, objects: Iterable[Document]) -> None:
    """What the pass over a cluster with these acts does."""
    declared = {each.key: each for each in map(declared_by, objects) if each.kind in acts.ACTS}
    live = {r.key: r for kind in acts.ACTS for r in tx.objects(kind) if r.unit == UNIT}
    statuses = acts.first_statuses(tx, [each for key, each in declared.items() if key not in live], tx.now)
    held = acts.withheld(tx, [(resource, declared.get(key)) for key, resource in live.items()])
    acts.refuse(tx, held)
    changed = [(live[key], each) for key, each in declared.items() if key in live and key not in held]
    for key, each in declared.items():
        if key not in live:
            tx.create(each, manager="kubernetes/cluster", unit=UNIT, status=statuses[key])
        elif key not in held:
            tx.put_spec(live[key], each)
    kubernetes_voices.note(tx, changed)
    for key in live.keys() - declared.keys() - held.keys():
        tx.request_deletion(live[key])


UNIT = "default/cluster:default"


def declared_by(each: Document) -> Declared:
    """What the source makes of an object."""
    checked = registry.check_document(acts.plain(each), default_namespace="default")
    assert isinstance(checked, Declared)
    blob = f"{each['metadata']['uid']}.1.0"
    return replace(checked, provenance=Provenance("cluster", UNIT, "kubernetes@rv:1", "default/x/y", 1, blob))


def _key(wanted: Document) -> Key:
    return Key(wanted["kind"], wanted["metadata"].get("namespace", "default"), wanted["metadata"]["name"])
