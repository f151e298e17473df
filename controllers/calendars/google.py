"""A calendar of Google Calendar, over its REST API (v3) with an access token that a refresh token gives."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from controllers.calendars import ics
from controllers.calendars.services import Answer, Ask, Mine, NotACalendar, NotAllowed, Seen, Unreachable, judged
from decisions.feed import Entry, Sort
from schemas.base import Key
from schemas.calendar import MOST_BUSY
from schemas.visible import visible

API = "https://www.googleapis.com/calendar/v3"
TOKEN = "https://oauth2.googleapis.com/token"  # noqa: S105  an address
_PAGES = 10
_MINUTE = timedelta(minutes=1)


class Google:
    """One calendar. ``api`` and ``token_url`` are Google's own but in tests."""

    def __init__(
        self, ask: Ask, calendar: Key, calendar_id: str, client: tuple[str, str], refresh_token: str, *,
        api: str = API, token_url: str = TOKEN,
    ) -> None:  # fmt: skip
        self._ask = ask
        self._calendar = calendar
        self._client = client
        self._refresh = refresh_token
        self._events = f"{api}/calendars/{quote(calendar_id, safe='')}/events"
        self._token_url = token_url
        self._token = ""

    async def look(self, begin: datetime, end: datetime) -> Seen:
        """Its events in that time, repeating ones unfolded by Google."""
        query = {"timeMin": _time(begin), "timeMax": _time(end), "singleEvents": "true", "orderBy": "startTime",
                 "maxResults": "250"}  # fmt: skip
        busy: list[Entry] = []
        mine: dict[str, Mine] = {}
        page = ""
        for _ in range(_PAGES):
            asked = {**query, **({"pageToken": page} if page else {})}
            answer = await self._send("GET", f"{self._events}?{urlencode(asked)}", None)
            document = _document(judged(answer, "looking at the calendar", 200))
            for event in document.get("items", ()):
                private = event.get("extendedProperties", {}).get("private", {})
                if private.get("remit"):
                    mine[str(private["remit"])] = Mine(str(event["id"]), "", str(private.get("remitDigest", "")))
                elif (entry := self._busy(event)) is not None:
                    busy.append(entry)
            page = str(document.get("nextPageToken") or "")
            if not page:
                break
        busy.sort(key=lambda entry: (entry.start, entry.title))
        return Seen(busy[:MOST_BUSY], bool(page) or len(busy) > MOST_BUSY, mine)

    def _busy(self, event: dict[str, Any]) -> Entry | None:
        if event.get("transparency") == "transparent" or event.get("status") == "cancelled":
            return None
        try:
            start, ends = _moment(event["start"]), _moment(event["end"])
        except (KeyError, TypeError, ValueError):
            return None
        title = visible(str(event.get("summary") or "busy"))[:200]
        return Entry(start, max(ends, start + _MINUTE), Sort.BUSY, self._calendar, title)

    async def put(self, uid: str, digest: str, entry: Entry, old: Mine | None) -> None:
        """Write it under an id of its own: a second insert finds the first, also one that a person deleted."""
        event = _event(uid, digest, entry)
        if old is None:
            answer = await self._send("POST", self._events, {**event, "id": event_id(uid)})
            if answer.status != 409:
                judged(answer, "writing an entry", 200)
                return
        handle = old.handle if old is not None else event_id(uid)
        answer = await self._send("PUT", f"{self._events}/{quote(handle, safe='')}", event)
        judged(answer, "writing an entry", 200)

    async def remove(self, uid: str, old: Mine) -> None:
        """Remove it."""
        answer = await self._send("DELETE", f"{self._events}/{quote(old.handle, safe='')}", None)
        judged(answer, "removing an entry", 200, 204, 404, 410)

    async def _send(self, method: str, url: str, body: dict[str, Any] | None) -> Answer:
        if not self._token:
            self._token = await self._access()
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        answer = await self._ask(method, url, headers, data)
        if answer.status == 403 and b"ateLimitExceeded" in answer.data:
            raise Unreachable("Google limits the rate of requests")
        return answer

    async def _access(self) -> str:
        form = {"client_id": self._client[0], "client_secret": self._client[1], "refresh_token": self._refresh,
                "grant_type": "refresh_token"}  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await self._ask("POST", self._token_url, headers, urlencode(form).encode())
        if answer.status in (400, 401):
            raise NotAllowed("Google takes the refresh token or the client's secret no more: consent again")
        token = _document(judged(answer, "asking for a token", 200)).get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise NotACalendar("Google's answer holds no token")
        return token


def event_id(uid: str) -> str:
    """An id as Google takes them (lower-case base32hex), the same for the same uid."""
    return base64.b32hexencode(hashlib.sha256(uid.encode()).digest()).decode().rstrip("=").lower()


def _event(uid: str, digest: str, entry: Entry) -> dict[str, Any]:
    if entry.all_day:
        times = {"start": {"date": f"{entry.start:%Y-%m-%d}"},
                 "end": {"date": f"{entry.start + timedelta(days=1):%Y-%m-%d}"}}  # fmt: skip
    else:
        ends = max(entry.end or entry.start, entry.start + _MINUTE)
        times = {"start": {"dateTime": _time(entry.start)}, "end": {"dateTime": _time(ends)}}
    return {
        "summary": ics.title(entry),
        "description": ics.about(entry),
        "transparency": "transparent",
        "extendedProperties": {"private": {"remit": uid, "remitDigest": digest}},
        **times,
    }


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _moment(value: dict[str, Any]) -> datetime:
    if "dateTime" in value:
        found = datetime.fromisoformat(str(value["dateTime"]).replace("Z", "+00:00"))
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return datetime.fromisoformat(str(value["date"])).replace(tzinfo=UTC)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.data)
    except (ValueError, RecursionError) as error:
        raise NotACalendar("Google's answer is not JSON") from error
    if not isinstance(found, dict):
        raise NotACalendar("Google's answer is no object")
    return found
