"""Forges on 127.0.0.1 that behave like the real ones where it matters: who may do what, pages, limits, refusals.

One server is one forge of one type with one repository. Comments and statuses are lists that a test reads and fills.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from schemas.source import ForgeType

TOKEN = "forge-token-0123456789"
REPOSITORY = "acme/agents"
_STATES = {
    ForgeType.GITHUB: {"error", "failure", "pending", "success"},
    ForgeType.GITLAB: {"pending", "running", "success", "failed", "canceled"},
    ForgeType.GITEA: {"pending", "success", "error", "failure", "warning"},
}


@dataclass
class FakeForge:
    """``answers`` are (status, headers, body) given to the next requests, whatever they ask. ``anonymous`` makes the
    token one that may not ask who it is, as in a workflow of GitHub."""

    type: ForgeType
    me: str = "remit-bot"
    anonymous: bool = False
    most_statuses: int = 1000
    commits: set[str] = field(default_factory=set)
    pulls: set[int] = field(default_factory=lambda: {7})
    statuses: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    opened: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Pull requests, by number, as the forge shows them."""
    url: str = ""
    number: int = 100

    @property
    def api(self) -> str:
        """What stands in spec.forge.url."""
        return self.url

    @property
    def host(self) -> str:
        """What stands in forgeHosts."""
        return urlsplit(self.url).netloc

    def comment(self, body: str, author: str = "somebody") -> dict[str, Any]:
        """Put a comment there."""
        self.number += 1
        name = "username" if self.type is ForgeType.GITLAB else "login"
        whose = "author" if self.type is ForgeType.GITLAB else "user"
        made = {"id": self.number, "body": body, whose: {name: author}, "system": False}
        self.comments.append(made)
        return made

    @property
    def bodies(self) -> list[str]:
        return [c["body"] for c in self.comments]

    def may(self, headers: Any) -> bool:
        """Whether a request carries the token in the way of this forge."""
        if self.type is ForgeType.GITLAB:
            return bool(headers.get("PRIVATE-TOKEN") == TOKEN)
        word = "Bearer" if self.type is ForgeType.GITHUB else "token"
        return bool(headers.get("Authorization") == f"{word} {TOKEN}")

    def handle(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        root = {"GitHub": "", "GitLab": "/api/v4", "Gitea": "/api/v1"}[self.type.value]
        if not path.startswith(root + "/"):
            return 404, {"message": "404 page not found"}
        rest = path[len(root) :]
        if rest == "/user":
            if self.anonymous:
                return 403, {"message": "Resource not accessible by integration"}
            return 200, {"username": self.me} if self.type is ForgeType.GITLAB else {"login": self.me}
        if self.type is ForgeType.GITLAB:
            prefix, notes = f"/projects/{REPOSITORY}", r"/merge_requests/(\d+)/notes"
            status, one = r"/statuses/([0-9a-f]+)", rf"{notes}/(\d+)"
        else:
            prefix, notes = f"/repos/{REPOSITORY}", r"/issues/(\d+)/comments"
            status, one = r"/statuses/([0-9a-f]+)", r"/issues/comments/(\d+)"
        if not rest.startswith(prefix + "/"):
            return 404, {"message": "Not Found"}
        rest = rest.removeprefix(prefix)
        if match := re.fullmatch(r"/(?:pulls|merge_requests)(?:/(\d+))?", rest):
            return self._pulls(method, int(match[1]) if match[1] else None, query, body)
        if (match := re.fullmatch(status, rest)) and method == "POST":
            return self._set(match[1], body)
        if self.type is ForgeType.GITLAB and (match := re.fullmatch(r"/repository/commits/([0-9a-f]+)/statuses", rest)):
            found = [{"id": n, "name": s["name"], "status": s["state"]} for n, s in enumerate(self.statuses)]
            return 200, self._page(found, query)
        if match := re.fullmatch(notes, rest):
            if int(match[1]) not in self.pulls:
                return 404, {"message": "Not Found"}
            return (200, self._page(self.comments, query)) if method == "GET" else self._add(body)
        if match := re.fullmatch(one, rest):
            return self._change(method, int(match[match.lastindex or 1]), body)
        return 404, {"message": "Not Found"}

    def _pulls(self, method: str, number: int | None, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        lab = self.type is ForgeType.GITLAB
        if number is not None:
            pull = self.opened.get(number)
            if pull is None:
                return 404, {"message": "Not Found"}
            if method != "GET":
                pull["state"] = (
                    "closed" if (body.get("state_event") == "close" or body.get("state") == "closed") else "?"
                )
            return 200, pull
        if method == "GET":
            branch = query.get("source_branch", [""])[0] or query.get("head", [""])[0].partition(":")[2]
            found = [p for p in self.opened.values() if not branch or self._branch(p) == branch]
            return 200, self._page(found, query)
        self.number += 1
        head, base = (body["source_branch"], body["target_branch"]) if lab else (body["head"], body["base"])
        pull = {"id": self.number, "state": "opened" if lab else "open", "title": body["title"]}
        where = f"{self.url}/{self.number}"
        pull |= (
            {"iid": self.number, "web_url": where, "source_branch": head, "target_branch": base}
            if lab
            else {"number": self.number, "html_url": where, "head": {"ref": head}, "base": {"ref": base}}
        )
        self.opened[self.number] = pull
        return 201, pull

    def _branch(self, pull: dict[str, Any]) -> str:
        return str(pull["source_branch"] if self.type is ForgeType.GITLAB else pull["head"]["ref"])

    def _set(self, commit: str, body: Any) -> tuple[int, Any]:
        if commit not in self.commits:
            return (422 if self.type is ForgeType.GITHUB else 404), {"message": f"No commit found for SHA: {commit}"}
        name = "name" if self.type is ForgeType.GITLAB else "context"
        if body.get("state") not in _STATES[self.type] or not body.get(name):
            return (400 if self.type is ForgeType.GITLAB else 422), {"message": "Validation Failed"}
        if self.type is ForgeType.GITHUB and len(body.get("description", "")) > 140:
            return 422, {"message": "Validation Failed: description is too long (maximum is 140 characters)"}
        same = [s for s in self.statuses if (s["commit"], s[name]) == (commit, body[name])]
        if self.type is ForgeType.GITLAB and same and same[-1]["state"] == body["state"]:
            return 400, {"message": "Cannot transition status via :run from :" + body["state"]}
        if len(same) >= self.most_statuses:
            return 422, {"message": "This SHA and context has reached the maximum number of statuses."}
        self.statuses.append({"commit": commit, **body})
        return 201, {"id": len(self.statuses)}

    def _add(self, body: Any) -> tuple[int, Any]:
        if self.type is ForgeType.GITHUB and len(body["body"]) > 65_536:
            return 422, {"message": "body is too long (maximum is 65536 characters)"}
        author = "github-actions[bot]" if self.anonymous else self.me
        return 201, self.comment(body["body"], author)

    def _change(self, method: str, number: int, body: Any) -> tuple[int, Any]:
        found = next((c for c in self.comments if c["id"] == number), None)
        if found is None:
            return 404, {"message": "Not Found"}
        if method == "DELETE":
            self.comments.remove(found)
            return 204, None
        if method != ("PUT" if self.type is ForgeType.GITLAB else "PATCH"):
            return 405, {"message": "Method Not Allowed"}
        found["body"] = body["body"]
        return 200, found

    def _page(self, rows: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
        name = "limit" if self.type is ForgeType.GITEA else "per_page"
        size = min(int(query.get(name, ["20"])[0]), 50)
        start = (int(query.get("page", ["1"])[0]) - 1) * size
        return rows[start : start + size]


@contextmanager
def serving(type_: ForgeType, **options: Any) -> Iterator[FakeForge]:
    """A forge for the length of a test."""
    forge = FakeForge(type_, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(forge))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(forge: FakeForge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            parts = urlsplit(self.path)
            forge.requests.append(f"{self.command} {parts.path}")
            if forge.answers:
                status, headers, raw = forge.answers.pop(0)
                self._answer(status, headers, raw)
                return
            if not forge.may(self.headers):
                self._answer(401, {}, b'{"message": "Bad credentials"}')
                return
            body = json.loads(data) if data else {}
            status, answer = forge.handle(self.command, unquote(parts.path), parse_qs(parts.query), body)
            self._answer(status, {}, b"" if answer is None else json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

        def _answer(self, status: int, headers: dict[str, str], raw: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
