"""Pull requests of proposed changes: opened once per branch, looked at, closed. GitHub, GitLab and Gitea (with Forgejo)
behind one interface; every call may be repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from controllers.status import forges
from schemas.errors import Refused
from schemas.resource import Resource
from schemas.source import ForgeType, SourceReason

if TYPE_CHECKING:
    import httpx2

_MOST = 30_000
_TICKS = re.compile(r"`{3,}")


class State(StrEnum):
    """How a pull request stands."""

    OPEN = "Open"
    MERGED = "Merged"
    CLOSED = "Closed"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: ``head`` and ``base`` are branches of the one repository."""

    head: str
    base: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request."""

    number: int
    url: str


class Pulls(Protocol):
    """The pull requests of one repository on one forge.

    Every method may block, and may be repeated. Raises Retry when the forge does not answer or asks to wait, Refused
    (ForgeRefused) when it says no.
    """

    def open(self, request: Request) -> Pull:
        """Have a pull request of that branch; the one that is there already, open or not, is taken."""

    def state(self, number: int) -> State:
        """How one stands."""

    def close(self, number: int) -> None:
        """Close one without merging; one that is not open stays as it is."""


def connect(
    type_: ForgeType, url: str | None, repository: str, token: str, *, hosts: Iterable[str],
    transport: httpx2.BaseTransport | None = None,
) -> Pulls:  # fmt: skip
    """A forge to speak to. Raises Refused as ``forges.connect``."""
    api = forges.api(type_, url, token, hosts=hosts, transport=transport)
    if type_ is ForgeType.GITLAB:
        return GitLabPulls(api, repository)
    return GitHubPulls(api, repository) if type_ is ForgeType.GITHUB else GiteaPulls(api, repository)


def body(request: Resource) -> str:
    """What a pull request says of a proposal. Whatever an agent wrote stands in blocks of code, where a forge acts on
    nothing: it mentions nobody, closes no issue, gives no command."""
    spec, action = request.spec, request.spec["action"]
    parts = [f"An agent proposes a change of `{action['object']}`. Merge it, or close it: nothing happens otherwise."]
    if action["widens"]:
        parts.append("**It loosens a limit:**\n\n" + _block(action["widens"]))
    parts.append("Fields:\n\n" + _block(action["changes"]))
    if action["effects"]:
        parts.append("Effects:\n\n" + _block(action["effects"]))
    said = [text for text in (action["title"], action["reason"]) if text]
    if said:
        parts.append(f"The agent says:\n\n{_block(said)}")
    parts.append(f"Asked by `{spec['requester']}`, run `{spec['run']}`. Until {spec['expiresAt']}:"
                 f" `remit describe approval/{request.name}`")  # fmt: skip
    return "\n\n".join(parts)[:_MOST]


def _block(lines: Iterable[str]) -> str:
    text = _TICKS.sub("'''", "\n".join(lines))[: _MOST // 4]
    return f"```text\n{text}\n```"


class GitHubPulls:
    """GitHub and GitHub Enterprise Server."""

    def __init__(self, api: forges.Api, repository: str) -> None:
        self._api = api
        self._repository = repository

    @property
    def _pulls(self) -> str:
        return f"/repos/{self._repository}/pulls"

    def open(self, request: Request) -> Pull:
        """See `Pulls.open`."""
        found = self._find(request)
        if found is None:
            wire = {"title": request.title, "head": request.head, "base": request.base, "body": request.body}
            found = self._api.ask("POST", self._pulls, wire)
        return _pull(found, "number", "html_url")

    def state(self, number: int) -> State:
        """See `Pulls.state`."""
        found = _object(self._api.ask("GET", f"{self._pulls}/{number}"))
        if found.get("merged") or found.get("merged_at"):
            return State.MERGED
        return State.CLOSED if found.get("state") == "closed" else State.OPEN

    def close(self, number: int) -> None:
        """See `Pulls.close`."""
        if self.state(number) is State.OPEN:
            self._api.ask("PATCH", f"{self._pulls}/{number}", {"state": "closed"})

    def _find(self, request: Request) -> Any:
        owner = self._repository.partition("/")[0]
        head = quote(f"{owner}:{request.head}", safe="")
        found = self._api.ask("GET", f"{self._pulls}?state=all&head={head}")
        return next((p for p in _list(found) if _head(p) == request.head), None)


class GiteaPulls(GitHubPulls):
    """Gitea and Forgejo, whose API follows GitHub's."""

    def _find(self, request: Request) -> Any:
        pages = self._api.pages(f"{self._pulls}?state=all&sort=recentupdate", "limit")
        return next((p for p in pages if _head(p) == request.head), None)


class GitLabPulls:
    """GitLab, which calls them merge requests."""

    def __init__(self, api: forges.Api, repository: str) -> None:
        self._api = api
        self._requests = f"/projects/{quote(repository, safe='')}/merge_requests"

    def open(self, request: Request) -> Pull:
        """See `Pulls.open`."""
        branch = quote(request.head, safe="")
        listed = _list(self._api.ask("GET", f"{self._requests}?state=all&source_branch={branch}"))
        found = next((m for m in listed if m.get("source_branch") == request.head), None)
        if found is None:
            wire = {
                "title": request.title,
                "source_branch": request.head,
                "target_branch": request.base,
                "description": request.body,
            }
            found = self._api.ask("POST", self._requests, wire)
        return _pull(found, "iid", "web_url")

    def state(self, number: int) -> State:
        """See `Pulls.state`."""
        state = _object(self._api.ask("GET", f"{self._requests}/{number}")).get("state")
        return State.MERGED if state == "merged" else State.CLOSED if state == "closed" else State.OPEN

    def close(self, number: int) -> None:
        """See `Pulls.close`."""
        if self.state(number) is State.OPEN:
            self._api.ask("PUT", f"{self._requests}/{number}", {"state_event": "close"})


def _list(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _object(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _head(pull: Mapping[str, Any]) -> str:
    head = pull.get("head")
    return str(head.get("ref") or "") if isinstance(head, dict) else ""


def _pull(found: Any, number: str, url: str) -> Pull:
    wire = _object(found)
    if not isinstance(wire.get(number), int):
        raise Refused("the forge took a pull request and did not name it", reason=SourceReason.FORGE_REFUSED)
    address = str(wire.get(url) or "")
    shown = address if re.fullmatch(r"https?://[\x21-\x7e]{1,500}", address) else ""
    return Pull(int(wire[number]), shown)
