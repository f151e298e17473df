"""What Remit says on a forge: the status of a commit, and one comment on a pull request that is kept up to date.

GitHub, GitLab and Gitea (with Forgejo) behind one interface. Every call may be repeated: a status of the same context
takes the place of the one before, and the comment is found again by a marker and its author.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, urlsplit

from schemas.errors import Refused, Retry
from schemas.source import ForgeType, SourceReason

if TYPE_CHECKING:  # loaded with the first request, which the start of an engine need not wait for
    import httpx2

PUBLIC: Final = {ForgeType.GITHUB: "https://api.github.com", ForgeType.GITLAB: "https://gitlab.com"}
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_ROOTS: Final = {ForgeType.GITHUB: "", ForgeType.GITLAB: "/api/v4", ForgeType.GITEA: "/api/v1"}
_DESCRIPTION: Final = 140
MAX_COMMENT: Final = 60_000
"""Characters of a comment; GitHub takes 65,536."""
_MAX_ANSWER: Final = 8 * 1024 * 1024
_PER_PAGE: Final = 50
_MAX_PAGES: Final = 100
_TIMEOUT_S: Final = 20.0
_MAX_RETRY_AFTER_S: Final = 3600.0


class State(StrEnum):
    """How a commit went."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """One status of one commit. ``context`` is its name; one of the same name takes its place."""

    commit: str
    state: State
    description: str
    context: str


class Forge(Protocol):
    """One repository on one forge.

    Every method may block, and may be repeated. Raises Retry when the forge does not answer or asks to wait, Refused
    (ForgeRefused) when it says no.
    """

    def set_status(self, status: CommitStatus) -> None:
        """Show a status on a commit."""

    def upsert_comment(self, number: int, marker: str, body: str) -> str:
        """Have exactly one comment of ours with ``marker`` on a pull or merge request, and have it say ``body``; its
        id. Comments of others are never touched, whatever they hold."""


def endpoint(type_: ForgeType, url: str | None, hosts: Iterable[str]) -> str:
    """The root of the API, without slash at its end.

    Only github.com's and gitlab.com's own hosts and those of ``hosts`` (``host`` or ``host:port``) are spoken to, over
    https; http for a listed host of this machine only. Raises Refused with ForgeHostRefused.
    """
    address = (url or PUBLIC[type_]).rstrip("/")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _host(f"{address[:200]!r} is no address of a forge") from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or not host:
        raise _host(f"the address of a forge has a host and a path only; correct spec.forge.url of {host or 'it'}")
    shown = f"[{host}]" if ":" in host else host
    listed = {entry.lower() for entry in hosts}
    named = shown in listed or f"{shown}:{port or (443 if parts.scheme == 'https' else 80)}" in listed
    public = address == PUBLIC.get(type_)
    if not named and not public:
        raise _host(f"{shown} is not among forgeHosts of remit.yaml; add it there if tokens may go to it")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise _host(f"{address[:200]} is not encrypted; use https://")
    root = _ROOTS[type_]
    return address if address.endswith(root) else address + root


def connect(
    type_: ForgeType, url: str | None, repository: str, token: str, *, hosts: Iterable[str],
    transport: httpx2.BaseTransport | None = None,
) -> Forge:  # fmt: skip
    """A forge to speak to. ``token`` goes to its host and into no message. Raises Refused with ForgeHostRefused."""
    found = api(type_, url, token, hosts=hosts, transport=transport)
    if type_ is ForgeType.GITLAB:
        return GitLab(found, repository)
    return GitHub(found, repository) if type_ is ForgeType.GITHUB else Gitea(found, repository)


def api(
    type_: ForgeType,
    url: str | None,
    token: str,
    *,
    hosts: Iterable[str],
    transport: httpx2.BaseTransport | None = None,
) -> Api:
    """The API of a forge, with its token. Raises Refused with ForgeHostRefused, ForgeCredentialNotFound."""
    if not token or not token.isascii() or not token.isprintable():
        raise Refused("the token of the forge is empty or no token", reason=SourceReason.FORGE_CREDENTIAL_NOT_FOUND)
    return Api(endpoint(type_, url, hosts), _credentials(type_, token), transport)


def _credentials(type_: ForgeType, token: str) -> dict[str, str]:
    if type_ is ForgeType.GITLAB:
        return {"PRIVATE-TOKEN": token}
    if type_ is ForgeType.GITEA:
        return {"Authorization": f"token {token}"}
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }


class Api:
    """JSON over HTTPS to one host. No redirect is followed: it would take the token elsewhere."""

    def __init__(self, root: str, headers: Mapping[str, str], transport: httpx2.BaseTransport | None) -> None:
        self._root = root
        self._headers = {"User-Agent": "remit", **headers}
        self._transport = transport

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, may_miss: bool = False) -> Any:
        """The answer as JSON; None for an empty one, and with ``may_miss`` for 401, 403 and 404."""
        import httpx2

        where = f"{method} {urlsplit(self._root).hostname}{path.partition('?')[0]}"
        try:
            with (
                httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=False, transport=self._transport) as client,
                client.stream(method, self._root + path, headers=self._headers, json=body) as answer,
            ):
                data = _limited(answer, where)
        except httpx2.HTTPError as error:
            raise Retry(f"{where}: {type(error).__name__}; the forge does not answer") from error
        status = answer.status_code
        if status < 300:
            return _json(data, where)
        limited = status == 429 or (status == 403 and _is_rate_limit(answer.headers, data))
        if limited or status >= 500:
            wait = _retry_after(answer.headers)
            raise Retry(f"{where}: HTTP {status}; the forge asks to wait", after=wait)
        if may_miss and status in (401, 403, 404):
            return None
        if status < 400:
            raise _refused(f"{where}: HTTP {status}: the repository was moved; correct spec.forge.repository")
        hint = {
            401: "the token is not accepted",
            403: "the token may not do that",
            404: "there is no such repository or commit, or the token may not see it",
            422: "it does not take that",
        }.get(status, "it says no")
        raise _refused(f"{where}: HTTP {status}: {hint}")

    def pages(self, path: str, size: str) -> Iterator[dict[str, Any]]:
        """Every object of a list, page by page; ends at a page that is short or brings nothing new."""
        seen: set[int] = set()
        joint = "&" if "?" in path else "?"
        for page in range(1, _MAX_PAGES + 1):
            found = self.ask("GET", f"{path}{joint}{size}={_PER_PAGE}&page={page}")
            objects = [o for o in found if isinstance(o, dict)] if isinstance(found, list) else []
            fresh = [o for o in objects if isinstance(o.get("id"), int) and o["id"] not in seen]
            yield from fresh
            seen |= {o["id"] for o in fresh}
            if len(objects) < _PER_PAGE or not fresh:
                return


class _Base(ABC):
    """What the three have in common: how one comment among many is kept."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._repository = repository

    @abstractmethod
    def _comments(self, number: int) -> Iterator[dict[str, Any]]: ...

    @abstractmethod
    def _is_mine(self, comment: Mapping[str, Any]) -> bool: ...

    @abstractmethod
    def _write(self, number: int, comment: int | None, body: str) -> int: ...

    @abstractmethod
    def _delete(self, number: int, comment: int) -> None: ...

    def upsert_comment(self, number: int, marker: str, body: str) -> str:
        """See `Forge.upsert_comment`."""
        text = f"{marker}\n{body}"[:MAX_COMMENT]
        mine = sorted(
            (c["id"], str(c.get("body") or ""))
            for c in self._comments(number)
            if str(c.get("body") or "").startswith(marker) and self._is_mine(c)
        )
        if not mine:
            return str(self._write(number, None, text))
        (first, said), *others = mine
        for comment, _ in others:  # two runs at a time made one each
            self._delete(number, comment)
        if said.replace("\r\n", "\n").strip() != text.strip():
            self._write(number, first, text)
        return str(first)


class GitHub(_Base):
    """GitHub and GitHub Enterprise Server."""

    _login: str | None = None

    def set_status(self, status: CommitStatus) -> None:
        """See `Forge.set_status`."""
        self._api.ask("POST", f"/repos/{self._repository}/statuses/{status.commit}", _status(status))

    def _comments(self, number: int) -> Iterator[dict[str, Any]]:
        return self._api.pages(f"/repos/{self._repository}/issues/{number}/comments", "per_page")

    def _is_mine(self, comment: Mapping[str, Any]) -> bool:
        if self._login is None:
            user = self._api.ask("GET", "/user", may_miss=True) or {}
            # The token of a workflow may not ask who it is; it is always this one.
            self._login = str(user.get("login") or "github-actions[bot]")
        return _author(comment, "user", "login") == self._login

    def _write(self, number: int, comment: int | None, body: str) -> int:
        issues = f"/repos/{self._repository}/issues"
        if comment is None:
            return _id(self._api.ask("POST", f"{issues}/{number}/comments", {"body": body}))
        return _id(self._api.ask("PATCH", f"{issues}/comments/{comment}", {"body": body}))

    def _delete(self, number: int, comment: int) -> None:
        self._api.ask("DELETE", f"/repos/{self._repository}/issues/comments/{comment}", may_miss=True)


class Gitea(GitHub):
    """Gitea and Forgejo, whose API follows GitHub's."""

    def _comments(self, number: int) -> Iterator[dict[str, Any]]:
        return self._api.pages(f"/repos/{self._repository}/issues/{number}/comments", "limit")

    def _is_mine(self, comment: Mapping[str, Any]) -> bool:
        if self._login is None:
            self._login = str((self._api.ask("GET", "/user") or {}).get("login") or "")
        return bool(self._login) and _author(comment, "user", "login") == self._login


class GitLab(_Base):
    """GitLab."""

    _user: str | None = None

    @property
    def _project(self) -> str:
        return f"/projects/{quote(self._repository, safe='')}"

    def set_status(self, status: CommitStatus) -> None:
        """See `Forge.set_status`."""
        body = _status(status)
        body["name"] = body.pop("context")
        if status.state is State.FAILURE:
            body["state"] = "failed"
        try:
            self._api.ask("POST", f"{self._project}/statuses/{status.commit}", body)
        except Refused as error:
            # GitLab refuses the transition of a status to the state that it is in.
            if "HTTP 400" not in str(error) or not self._has(status, str(body["state"])):
                raise

    def _has(self, status: CommitStatus, state: str) -> bool:
        path = f"{self._project}/repository/commits/{status.commit}/statuses"
        return any(
            s.get("name") == status.context and s.get("status") == state for s in self._api.pages(path, "per_page")
        )

    def _comments(self, number: int) -> Iterator[dict[str, Any]]:
        return self._api.pages(f"{self._project}/merge_requests/{number}/notes", "per_page")

    def _is_mine(self, comment: Mapping[str, Any]) -> bool:
        if self._user is None:
            self._user = str((self._api.ask("GET", "/user") or {}).get("username") or "")
        return bool(self._user) and _author(comment, "author", "username") == self._user and not comment.get("system")

    def _write(self, number: int, comment: int | None, body: str) -> int:
        notes = f"{self._project}/merge_requests/{number}/notes"
        if comment is None:
            return _id(self._api.ask("POST", notes, {"body": body}))
        return _id(self._api.ask("PUT", f"{notes}/{comment}", {"body": body}))

    def _delete(self, number: int, comment: int) -> None:
        self._api.ask("DELETE", f"{self._project}/merge_requests/{number}/notes/{comment}", may_miss=True)


def _status(status: CommitStatus) -> dict[str, str]:
    text = " ".join(status.description.split())
    if len(text) > _DESCRIPTION:
        text = text[: _DESCRIPTION - 1] + "…"
    return {"state": status.state.value, "description": text, "context": status.context}


def _author(comment: Mapping[str, Any], field: str, name: str) -> str:
    author = comment.get(field)
    return str(author.get(name) or "") if isinstance(author, dict) else ""


def _id(answer: Any) -> int:
    found = answer.get("id") if isinstance(answer, dict) else None
    if not isinstance(found, int):
        raise _refused("the forge took a comment and did not name it")
    return found


def _limited(answer: httpx2.Response, where: str) -> bytes:
    data = bytearray()
    for chunk in answer.iter_bytes():
        data += chunk
        if len(data) > _MAX_ANSWER:
            raise _refused(f"{where}: the answer is larger than {_MAX_ANSWER} bytes")
    return bytes(data)


def _json(data: bytes, where: str) -> Any:
    if not data.strip():
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused(f"{where}: the answer is no JSON; is that the address of the API?") from error


def _is_rate_limit(headers: Mapping[str, str], data: bytes) -> bool:
    """GitHub answers 403 for its limits, and says so in a header or in words."""
    return headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers or b"secondary rate limit" in data


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the forge asks for; None when it names none (dates are not given by any of the three)."""
    try:
        wait = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(wait, 0.0), _MAX_RETRY_AFTER_S) if wait == wait else None


def _refused(message: str) -> Refused:
    return Refused(message, reason=SourceReason.FORGE_REFUSED)


def _host(message: str) -> Refused:
    return Refused(message, reason=SourceReason.FORGE_HOST_REFUSED)
