"""Calendars on 127.0.0.1: a real Radicale, and a stand-in for what of Google Calendar's REST API is spoken to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx2
import radicale
from radicale import config as radicale_config

USER, PASSWORD = "remit", "correct-horse-battery"
COLLECTION = f"/{USER}/team/"


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def caldav_server(folder: Path) -> Iterator[str]:
    """The address of a collection of a Radicale that asks for USER and PASSWORD."""
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users"
    users.write_text(f"{USER}:{PASSWORD}\n")
    configuration = radicale_config.load()
    configuration.update(
        {
            "auth": {"type": "htpasswd", "htpasswd_filename": str(users), "htpasswd_encryption": "plain", "delay": "0"},
            "storage": {"filesystem_folder": str(folder / "collections")},
            "logging": {"level": "critical"},
        },
        "test",
        privileged=True,
    )
    server: WSGIServer = make_server("127.0.0.1", 0, radicale.Application(configuration), handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}{COLLECTION}"
    try:
        made = (
            '<?xml version="1.0"?><create xmlns="DAV:"><set><prop><resourcetype><collection/>'
            '<C:calendar xmlns:C="urn:ietf:params:xml:ns:caldav"/></resourcetype></prop></set></create>'
        )
        answer = httpx2.request("MKCOL", url, content=made, auth=(USER, PASSWORD), trust_env=False)
        assert answer.status_code == 201, answer.text
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def put(url: str, name: str, *lines: str) -> None:
    """A person writes an event into the collection."""
    body = "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:person", "BEGIN:VEVENT", f"UID:{name}",
                        "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT", "END:VCALENDAR", ""])  # fmt: skip
    answer = httpx2.put(f"{url}{name}.ics", content=body, auth=(USER, PASSWORD), trust_env=False,
                        headers={"Content-Type": "text/calendar"})  # fmt: skip
    assert answer.status_code == 201, answer.text


def stored(folder: Path) -> dict[str, str]:
    """The files of the collection by name."""
    root = folder / "collections" / "collection-root" / USER / "team"
    return {path.name: path.read_text() for path in sorted(root.glob("*.ics"))}


@dataclass
class FakeGoogle:
    """Google Calendar with one calendar. ``answers`` are (status, body) given to the next requests for events."""

    refresh_token: str = "1//refresh"
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    page: int = 2
    """Events on one page of a list."""
    url: str = ""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """What Google would say."""
        if path == "/token":
            form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
            good = (form["refresh_token"], form["grant_type"]) == (self.refresh_token, "refresh_token")
            return (
                (200, {"access_token": "ya29.token", "expires_in": 3599}) if good else (400, {"error": "invalid_grant"})
            )
        if headers.get("authorization") != "Bearer ya29.token":
            return 401, {"error": {"code": 401}}
        if self.answers:
            return self.answers.pop(0)
        parts = urlsplit(path)
        found = re.fullmatch(r"/calendar/v3/calendars/team%40example\.org/events(?:/([^/]+))?", parts.path)
        if found is None:
            return 404, {"error": {"code": 404}}
        name = unquote(found[1]) if found[1] else ""
        match method:
            case "GET":
                return self._list(parse_qs(parts.query))
            case "POST":
                event = json.loads(body)
                if not re.fullmatch(r"[a-v0-9]{5,1024}", event["id"]):
                    return 400, {"error": {"code": 400}}
                if event["id"] in self.events:
                    return 409, {"error": {"code": 409}}
                self.events[event["id"]] = {"status": "confirmed", **event}
            case "PUT":
                if name not in self.events:
                    return 404, {"error": {"code": 404}}
                self.events[name] = {"status": "confirmed", "id": name, **json.loads(body)}
            case "DELETE":
                if self.events.get(name, {}).get("status", "cancelled") == "cancelled":
                    return 410, {"error": {"code": 410}}
                self.events[name]["status"] = "cancelled"
                return 204, None
        return 200, {}

    def _list(self, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        begin, end = query["timeMin"][0], query["timeMax"][0]
        start = int(query.get("pageToken", ["0"])[0])
        shown = [e for e in self.events.values() if e["status"] != "cancelled" and begin <= _start(e) < end]
        shown.sort(key=_start)
        following = start + self.page
        more = {"nextPageToken": str(following)} if following < len(shown) else {}
        return 200, {"items": shown[start:following], **more}

    @property
    def live(self) -> list[dict[str, Any]]:
        """Events that nobody deleted, by start."""
        return sorted((e for e in self.events.values() if e["status"] != "cancelled"), key=_start)


def _start(event: Mapping[str, Any]) -> str:
    start = event["start"]
    return str(start.get("dateTime") or f"{start['date']}T00:00:00Z")


@contextmanager
def google_calendar() -> Iterator[FakeGoogle]:
    """The stand-in, on a port of its own."""
    fake = FakeGoogle()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.requests.append(f"{self.command} {urlsplit(self.path).path}")
            status, document = fake.answer(
                self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body
            )
            data = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
