"""What there is to ask for: the documents from which clients learn kinds, names and versions."""

from __future__ import annotations

from typing import Any

from schemas import registry
from schemas.base import API_GROUP, API_VERSION
from schemas.kind import KindInfo

VERSION = API_VERSION.rpartition("/")[2]
VERBS = ["get", "list", "watch"]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
CORE: tuple[tuple[str, str, str, bool, tuple[str, ...]], ...] = (
    ("namespaces", "namespace", "Namespace", False, ("ns",)),
    ("events", "event", "Event", True, ("ev",)),
)
"""Of the core group: what ``describe`` and tools that pick a namespace ask for."""


def served() -> list[KindInfo]:
    """The kinds that are stored as objects, in the order of the registry."""
    return [info for info in registry.KINDS if not info.own_table]


def wants_aggregated(accept: str) -> bool:
    """Whether a client asks for everything in one document."""
    return any({"g=apidiscovery.k8s.io", "v=v2"} <= {w.strip() for w in e.split(";")} for e in accept.split(","))


def api_versions() -> dict[str, Any]:
    """``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups() -> dict[str, Any]:
    """``/apis``."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [{k: v for k, v in group().items() if k not in ("kind", "apiVersion")}],
    }


def group() -> dict[str, Any]:
    """``/apis/remit.dev``."""
    version = {"groupVersion": API_VERSION, "version": VERSION}
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": API_GROUP,
        "versions": [version],
        "preferredVersion": version,
    }


def resources() -> dict[str, Any]:
    """``/apis/remit.dev/v1alpha1``."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": API_VERSION,
        "resources": [
            {
                "name": info.plural,
                "singularName": info.singular,
                "namespaced": info.namespaced,
                "kind": info.kind,
                "verbs": VERBS,
                "shortNames": list(info.short_names),
                "categories": ["remit"],
            }
            for info in served()
        ],
    }


def core_resources() -> dict[str, Any]:
    """``/api/v1``."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "v1",
        "resources": [
            {"name": plural, "singularName": singular, "namespaced": namespaced, "kind": kind,
             "verbs": VERBS if kind == "Event" else ["get", "list"], "shortNames": list(short)}
            for plural, singular, kind, namespaced, short in CORE
        ],
    }  # fmt: skip


def aggregated_core() -> dict[str, Any]:
    """``/api`` in one document."""
    found = [_discovered("", "v1", r) for r in core_resources()["resources"]]
    return _aggregated([{"metadata": {}, "versions": [{"version": "v1", "resources": found, "freshness": "Current"}]}])


def aggregated_groups() -> dict[str, Any]:
    """``/apis`` in one document."""
    found = [_discovered(API_GROUP, VERSION, r) for r in resources()["resources"]]
    version = {"version": VERSION, "resources": found, "freshness": "Current"}
    return _aggregated([{"metadata": {"name": API_GROUP}, "versions": [version]}])


def _aggregated(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _discovered(group_: str, version: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "resource": resource["name"],
        "responseKind": {"group": group_, "version": version, "kind": resource["kind"]},
        "scope": "Namespaced" if resource["namespaced"] else "Cluster",
        "singularResource": resource["singularName"],
        "verbs": resource["verbs"],
        "shortNames": resource["shortNames"],
        "categories": resource.get("categories", []),
    }
