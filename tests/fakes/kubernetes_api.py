"""The API of a cluster in memory: objects, versions, finalizers, owners, server-side apply, as far as the engine uses
them. No schemas, no roles; every field that is applied belongs to one manager. Where a test asks for faults, it has
them.

Its garbage collector is as much as a test needs: what is owned by what is gone goes, at once.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controllers.web.kubernetes import APPLY, MERGE, ClusterFault
from schemas import registry
from schemas.base import API_VERSION

Document = dict[str, Any]
Place = tuple[str, str, str]
"""(plural, namespace, name)"""
_ROOT = f"/apis/{API_VERSION}"


@dataclass
class FakeApi:
    """``listeners`` are told (kind, type, document) of each change, as a watch would. ``faults`` are asked before each
    request, and may raise."""

    objects: dict[Place, Document] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    version: int = 100
    uids: int = 0
    listeners: list[Callable[[str, str, Document], None]] = field(default_factory=list)
    faults: list[Callable[[str, str], None]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        kind: str = "application/json", timeout_s: float = 0.0,
    ) -> Document:  # fmt: skip
        """See `controllers.web.kubernetes.Api`."""
        with self.lock:
            self.requests.append((method, path))
            for fault in list(self.faults):
                fault(method, path)
            return copy.deepcopy(self._answer(method, path, dict(params or {}), body, kind))

    def writes(self) -> list[tuple[str, str]]:
        """The requests that wrote."""
        return [(method, path) for method, path in self.requests if method != "GET"]

    def _answer(self, method: str, path: str, params: dict[str, str], body: Any, kind: str) -> Document:
        if path == "/api/v1/namespaces":
            return self._namespaces(params)
        plural, namespace, name, sub = _parts(path)
        if method == "POST":
            return self._create((plural, namespace, body["metadata"]["name"]), body)
        if not name:
            return self._list(plural, namespace, params)
        place = (plural, namespace, name)
        current = self.objects.get(place)
        if method == "PATCH" and kind == APPLY and not sub:
            return self._apply(place, current, body)
        if current is None:
            raise ClusterFault(f"{method} {path}: HTTP 404", status=404)
        if method == "GET":
            return current
        if method == "DELETE":
            return self._delete(place, current, body or {})
        if method == "PUT":
            _require(current, body)
            return self._store(place, copy.deepcopy({**body, "metadata": {**current["metadata"], **body["metadata"]}}))
        if sub == "status":
            changed = copy.deepcopy(current)
            changed["status"] = copy.deepcopy(body["status"])
            return self._store(place, changed)
        assert kind == MERGE, kind
        _require(current, body)
        changed = _merged(current, body)
        return self._store(place, changed)

    # What people do.

    def put(self, document: Document) -> Document:
        """As ``kubectl apply``: labels, annotations and spec of others stay."""
        with self.lock:
            place = place_of(document)
            current = self.objects.get(place)
            if current is None:
                return self._create(place, document)
            changed = copy.deepcopy(current)
            meta = document["metadata"]
            changed["metadata"]["labels"] = dict(meta.get("labels") or {})
            changed["metadata"]["annotations"] = dict(meta.get("annotations") or {})
            changed["spec"] = copy.deepcopy(document["spec"])
            return self._store(place, changed)

    def edit(self, place: Place, meta: Mapping[str, Any]) -> None:
        """Somebody changes the metadata of an object."""
        with self.lock:
            changed = copy.deepcopy(self.objects[place])
            changed["metadata"] |= meta
            self._store(place, changed)

    def remove(self, place: Place) -> None:
        """As ``kubectl delete``; the object may stay for its finalizers."""
        with self.lock:
            if place in self.objects:
                self._delete(place, self.objects[place], {})

    def find(self, kind: str, name: str, namespace: str = "default") -> Document | None:
        """An object."""
        found = registry.find_name(kind)
        return self.objects.get((found.plural, namespace if found.namespaced else "", name))

    # How it keeps objects.

    def _create(self, place: Place, document: Document) -> Document:
        if place in self.objects:
            raise ClusterFault(f"POST {place}: HTTP 409: it exists", status=409)
        made = copy.deepcopy(document)
        self.uids += 1
        made["metadata"] = {**made["metadata"], "uid": f"u{self.uids}", "generation": 0}
        made.pop("status", None)
        return self._store(place, made)

    def _apply(self, place: Place, current: Document | None, body: Document) -> Document:
        if current is None:
            return self._create(place, body)
        changed = copy.deepcopy(current)
        meta = changed["metadata"]
        meta["labels"] = {**meta.get("labels", {}), **body["metadata"].get("labels", {})}
        meta["annotations"] = {**meta.get("annotations", {}), **body["metadata"].get("annotations", {})}
        if "ownerReferences" in body["metadata"]:
            meta["ownerReferences"] = copy.deepcopy(body["metadata"]["ownerReferences"])
        changed["spec"] = copy.deepcopy(body["spec"])
        return self._store(place, changed)

    def _store(self, place: Place, document: Document) -> Document:
        before = self.objects.get(place)
        meta = document["metadata"]
        if before is not None and _same(before, document):
            return before  # a write that changes nothing is no write
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        if before is None or before.get("spec") != document.get("spec"):
            meta["generation"] = int(meta.get("generation") or 0) + 1
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self._go(place, document)
            return document
        self.objects[place] = document
        self._tell("ADDED" if before is None else "MODIFIED", place, document)
        return document

    def _delete(self, place: Place, current: Document, options: Mapping[str, Any]) -> Document:
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != current["metadata"]["uid"]:
            raise ClusterFault(f"DELETE {place}: HTTP 409: another uid", status=409)
        changed = copy.deepcopy(current)
        changed["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
        return self._store(place, changed)

    def _go(self, place: Place, document: Document) -> None:
        self.objects.pop(place, None)
        self._tell("DELETED", place, document)
        uid = document["metadata"]["uid"]
        for other, child in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in child["metadata"].get("ownerReferences", ())):
                self.remove(other)

    def _tell(self, type_: str, place: Place, document: Document) -> None:
        if place[0] == "events" or "apiVersion" not in document or document["apiVersion"] != API_VERSION:
            return
        for listener in self.listeners:
            listener(str(document["kind"]), type_, copy.deepcopy(document))

    def _list(self, plural: str, namespace: str, params: dict[str, str]) -> Document:
        found = [
            document
            for place, document in sorted(self.objects.items())
            if place[0] == plural and namespace in ("", place[1]) and _selected(document, params)
        ]
        start = int(params.get("continue") or 0)
        limit = int(params.get("limit") or len(found) or 1)
        page = found[start : start + limit]
        meta: Document = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            meta["continue"] = str(start + limit)
        return {"metadata": meta, "items": page}

    def _namespaces(self, params: dict[str, str]) -> Document:
        key, _, value = params.get("labelSelector", "").partition("=")
        names = [name for name, labels in self.namespaces.items() if not key or labels.get(key) == value]
        items = [{"metadata": {"name": name}} for name in names]
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}


def place_of(document: Document) -> Place:
    """Where a document stands."""
    name = registry.find_name(document["kind"])
    namespace = document["metadata"].get("namespace") or "default"
    return name.plural, namespace if name.namespaced else "", document["metadata"]["name"]


def _parts(path: str) -> tuple[str, str, str, str]:
    """(plural, namespace, name, subresource)."""
    words = path.split("/")
    words = words[3:] if words[1] == "api" else words[4:]
    namespace = ""
    if words[0] == "namespaces" and len(words) > 2:
        namespace, words = words[1], words[2:]
    plural, name, sub = [*words, "", ""][:3]
    return plural, namespace, name, sub


def _selected(document: Document, params: Mapping[str, str]) -> bool:
    selector = params.get("labelSelector", "")
    labels = document["metadata"].get("labels") or {}
    if "!=" in selector:
        key, _, value = selector.partition("!=")
        return labels.get(key) != value
    key, _, value = selector.partition("=")
    return not selector or labels.get(key) == value


def _require(current: Document, body: Document) -> None:
    """Compare-and-swap, where it is asked for."""
    meta = body.get("metadata") or {}
    for part in ("uid", "resourceVersion"):
        if part in meta and meta[part] != current["metadata"].get(part):
            raise ClusterFault("HTTP 409: the object has been modified", status=409)


def _merged(current: Document, patch: Document) -> Document:
    made = copy.deepcopy(current)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = _merged(made[key], value)
        else:
            made[key] = copy.deepcopy(value)
    return made


def _same(one: Document, other: Document) -> bool:
    def form(document: Document) -> str:
        meta = {k: v for k, v in document["metadata"].items() if k not in ("resourceVersion", "generation")}
        return json.dumps({**document, "metadata": meta}, sort_keys=True)

    return form(one) == form(other)
