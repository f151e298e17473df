"""Addresses: of pages of this site, and of the few other sites that a page may lead to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from schemas import registry
from schemas.base import API_VERSION, Key
from schemas.errors import UnknownName
from schemas.resource import Provenance

PAGES = {
    "Mission": "/missions",
    "ApprovalRequest": "/approvals",
    "Agent": "/agents",
    "Budget": "/budgets",
    "Policy": "/policies",
    "Project": "/projects",
    "Goal": "/goals",
    "Todo": "/todos",
    "Session": "/chat",
    "Schedule": "/cron",
    "Channel": "/channels",
    "ToolServer": "/skills",
    "Source": "/sync",
}
"""Kinds whose lists are pages of their own; all others stand below their plural."""
_REF = re.compile(r"([A-Z][A-Za-z]{1,40})/(?:([^/]+)/)?([^/]+)")
_COMMIT = re.compile(r"@sha1:([0-9a-f]{40}|[0-9a-f]{64})$")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)([A-Za-z0-9.-]+):([^:]+)")


@dataclass(frozen=True, slots=True)
class Out:
    """A link that leaves this site. ``host`` is shown beside it, so that a person sees where it goes."""

    text: str
    href: str
    host: str


def page(kind: str, namespace: str, name: str) -> str:
    """The page of an object; "" for kinds that have none."""
    base = PAGES.get(kind)
    if base is None:
        try:
            base = f"/{registry.by_kind(kind).plural}"
        except UnknownName:
            return ""
    return (
        f"{base}/{quote(namespace, safe='')}/{quote(name, safe='')}" if namespace else f"{base}/{quote(name, safe='')}"
    )


def of(key: Key) -> str:
    """The page of an object."""
    return page(key.kind, key.namespace, key.name)


def wire(key: Key) -> str:
    """The same object on the read API, as JSON."""
    base = f"/apis/{API_VERSION}"
    place = f"/namespaces/{quote(key.namespace, safe='')}" if key.namespace else ""
    return f"{base}{place}/{registry.by_kind(key.kind).plural}/{quote(key.name, safe='')}"


def key_of(text: str) -> Key | None:
    """``Kind/namespace/name`` as it stands in records; None for other texts."""
    found = _REF.fullmatch(text)
    return None if found is None else Key(found[1], found[2] or "", found[3])


def to(text: str) -> str:
    """The page of what a record names as ``Kind/namespace/name``; "" when it names nothing."""
    key = key_of(text)
    return "" if key is None else of(key)


def ref(kind: str, value: Any, namespace: str) -> Key | None:
    """The object that a reference (``{name, namespace}``) in an object of ``namespace`` means."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    return Key(kind, str(value.get("namespace") or namespace), value["name"])


def query(path: str, given: dict[str, str]) -> str:
    """``path`` with a query of what is not empty."""
    kept = {k: v for k, v in given.items() if v}
    return f"{path}?{urlencode(kept)}" if kept else path


def https(text: str, url: object) -> Out | None:
    """A link that a spec or a record gives: https only, with a plain host and no password in it; else None."""
    if not isinstance(url, str) or len(url) > 2000 or not url.isascii() or re.search(r"[\x00-\x20\x7f\"'<>\\`]", url):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme != "https" or not host or parts.username is not None or not _HOST.fullmatch(host):
        return None
    return Out(text, url, host)


def declared(source_url: str, origin: Provenance) -> Out | None:
    """Where the line that declares an object can be read on its git host, at the revision in force. None for
    repositories that are on no host that shows lines."""
    base = _repository(source_url)
    commit = _COMMIT.search(origin.revision)
    if base is None or commit is None:
        return None
    path = quote(origin.path)
    host = urlsplit(base).netloc
    middle = "/-/blob" if "gitlab" in host else "/src/commit" if _is_gitea(host) else "/blob"
    return https(origin.place, f"{base}{middle}/{commit[1]}/{path}#L{origin.line}")


def compare(source_url: str, base: str, branch: str) -> Out | None:
    """Where the host of a repository offers to open a pull request for a branch that stands there already. None for
    hosts that have no such page, and for names that are none of branches."""
    home = _repository(source_url)
    if home is None or not (_BRANCH.fullmatch(base) and _BRANCH.fullmatch(branch)):
        return None
    host = urlsplit(home).netloc
    if "gitlab" in host:
        asked = urlencode({"merge_request[source_branch]": branch, "merge_request[target_branch]": base})
        return https("Open a merge request", f"{home}/-/merge_requests/new?{asked}")
    if host == "github.com" or _is_gitea(host) or "github" in host:
        return https("Open a pull request", f"{home}/compare/{quote(base)}...{quote(branch)}?expand=1")
    return None


def _is_gitea(host: str) -> bool:
    return any(word in host for word in ("gitea", "forgejo", "codeberg"))


def _repository(url: str) -> str | None:
    found = _SCP.fullmatch(url)
    if found is not None:
        url = f"https://{found[1]}/{found[2]}"
    elif url.startswith("ssh://"):
        parts = urlsplit(url)
        url = f"https://{parts.hostname or ''}{parts.path}"
    checked = https("", url)
    return None if checked is None else checked.href.rstrip("/").removesuffix(".git")
