"""Lists and single objects: what is asked for, and finding it page by page."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from api.read.kube import selectors
from api.read.kube.shape import document
from api.read.kube.status import bad_request, expired
from schemas.base import Key
from schemas.kind import KindInfo
from schemas.resource import Resource
from store.contract import Snapshot

MOST = 5_000
_PAGE = 500
_LONGEST_WATCH_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Query:
    """One question. ``limit`` 0 asks for all; ``after`` and ``version`` come from a continue token."""

    labels: selectors.Labels
    fields: selectors.Fields
    limit: int = 0
    after: tuple[str, str] | None = None
    version: int = 0
    watch: bool = False
    since: int | None = None
    bookmarks: bool = False
    initial_events: bool = False
    timeout_s: float | None = None
    include: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """``items`` are whole documents; ``more`` is the token of the next page, "" at the end."""

    items: list[dict[str, Any]]
    version: int
    more: str = ""


def query_of(given: QueryParams) -> Query:
    """Read the parameters that Kubernetes has. Raises StatusProblem (400, 410)."""
    token = given.get("continue", "")
    version, after = _continued(token) if token else (0, None)
    since = given.get("resourceVersion", "")
    timeout = _number(given, "timeoutSeconds")
    return Query(
        labels=selectors.labels(given.get("labelSelector", "")),
        fields=selectors.fields(given.get("fieldSelector", "")),
        limit=min(_number(given, "limit"), MOST),
        after=after,
        version=version,
        watch=_flag(given, "watch"),
        since=_number(given, "resourceVersion") if since not in ("", "0") else None,
        bookmarks=_flag(given, "allowWatchBookmarks"),
        initial_events=_flag(given, "sendInitialEvents"),
        timeout_s=min(float(timeout), _LONGEST_WATCH_S) if timeout else None,
        include=given.get("includeObject", ""),
    )


def _flag(given: QueryParams, name: str) -> bool:
    return given.get(name, "").lower() in ("1", "true")


def _number(given: QueryParams, name: str) -> int:
    text = given.get(name, "") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise bad_request(f"{name} is a whole number that is not negative")
    return int(text)


def token_after(version: int, after: tuple[str, str]) -> str:
    """The token of the page that follows the object (namespace, name)."""
    return base64.urlsafe_b64encode(json.dumps([1, version, *after]).encode()).decode()


def _continued(token: str) -> tuple[int, tuple[str, str]]:
    try:
        form, version, namespace, name = json.loads(base64.urlsafe_b64decode(token[:2000].encode()))
        if form != 1 or not isinstance(version, int) or not isinstance(namespace, str) or not isinstance(name, str):
            raise ValueError("not a token of ours")
    except (ValueError, TypeError):
        raise bad_request("continue is not a token that this server gave") from None
    return version, (namespace, name)


def continued(snapshot: Snapshot, query: Query) -> int:
    """The version that a page is of. Raises StatusProblem (410) when the token is older than what the store knows."""
    latest = snapshot.latest_version()
    if query.after is not None and not snapshot.oldest_cursor() <= query.version <= latest:
        raise expired("the continue token")
    return query.version or latest


def page(snapshot: Snapshot, info: KindInfo, namespace: str | None, query: Query) -> Page:
    """One page. Pages of one list are each read when they are asked for: an object that changes meanwhile shows as it
    is then. Raises StatusProblem (410) when the token is older than what the store remembers."""
    version = continued(snapshot, query)
    items: list[dict[str, Any]] = []
    after = query.after
    while True:
        wanted = min(_PAGE, query.limit - len(items)) if query.limit else _PAGE
        found = _find(snapshot, info, namespace, query, wanted, after)
        for resource in found:
            whole = document(resource)
            if matches(whole, resource.labels, query):
                items.append(whole)
        if len(found) < wanted:
            return Page(items, version)
        after = (found[-1].namespace, found[-1].name)
        if query.limit and len(items) >= query.limit:
            more = _find(snapshot, info, namespace, query, 1, after)
            return Page(items, version, token_after(version, after) if more else "")


def _find(
    snapshot: Snapshot, info: KindInfo, namespace: str | None, query: Query, limit: int, after: tuple[str, str] | None
) -> list[Resource]:
    state = query.fields.equal("status.state")
    asked = query.fields.equal("metadata.namespace")
    if asked is not None and namespace not in (None, asked):
        return []
    place = namespace if asked is None else asked
    name = query.fields.equal("metadata.name")
    if name is not None and after is None:
        # The one before in the order of names: so that the store finds it at once, in every namespace.
        found = _named(snapshot, info, place, name)
        return found[:limit]
    if name is not None:
        return [r for r in _named(snapshot, info, place, name) if (r.namespace, r.name) > (after or ("", ""))][:limit]
    return snapshot.objects(
        info.kind,
        namespace=place if info.namespaced else None,
        labels=query.labels.equal or None,
        states=None if not state else [state],
        limit=limit,
        after=after,
    )


def _named(snapshot: Snapshot, info: KindInfo, namespace: str | None, name: str) -> list[Resource]:
    if namespace is not None or not info.namespaced:
        found = snapshot.get(Key(info.kind, namespace or "", name))
        return [] if found is None else [found]
    return [r for r in snapshot.objects(info.kind) if r.name == name]


def matches(whole: dict[str, Any], labels: dict[str, str], query: Query) -> bool:
    """Whether an object is asked for."""
    return query.labels.matches(labels) and query.fields.matches(whole)
