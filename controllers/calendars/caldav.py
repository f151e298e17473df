"""A collection of a CalDAV server (RFC 4791): one REPORT to look, PUT and DELETE with the versions that were seen."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from controllers.calendars import ics
from controllers.calendars.services import Answer, Ask, Mine, NotACalendar, NotAllowed, Seen, judged
from decisions.feed import Entry
from schemas.base import Key
from schemas.calendar import MOST_BUSY

_DAV, _CALDAV = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}"
_QUERY = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">'
    "<D:prop><D:getetag/><C:calendar-data/></D:prop>"
    '<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">'
    '<C:time-range start="{begin:%Y%m%dT%H%M%SZ}" end="{end:%Y%m%dT%H%M%SZ}"/>'
    "</C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"
)


class CalDav:
    """One collection. ``user`` and ``password`` are sent with every request, to its own host only."""

    def __init__(
        self, ask: Ask, calendar: Key, url: str, now: Callable[[], datetime], user: str = "", password: str = ""
    ) -> None:
        self._ask = ask
        self._calendar = calendar
        self._url = url if url.endswith("/") else f"{url}/"
        self._now = now
        self._headers = {}
        if user:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def look(self, begin: datetime, end: datetime) -> Seen:
        """Its events in that time."""
        headers = {"Depth": "1", "Content-Type": "application/xml; charset=utf-8"}
        body = _QUERY.format(begin=begin, end=end).encode()
        answer = judged(await self._send("REPORT", self._url, headers, body), "looking at the calendar", 207)
        busy: list[Entry] = []
        mine: dict[str, Mine] = {}
        more = False
        for href, etag, data in _resources(answer.data):
            marked = ics.marked(data)
            if marked is not None:
                mine[marked[0]] = Mine(self._inside(href), etag, marked[1])
                continue
            try:
                found, cut = ics.busy(data, self._calendar, begin, end, MOST_BUSY)
            except NotACalendar:
                continue  # one event that nobody can read does not hide the others
            busy += found
            more = more or cut
        busy.sort(key=lambda entry: (entry.start, entry.title))
        return Seen(busy[:MOST_BUSY], more or len(busy) > MOST_BUSY, mine)

    async def put(self, uid: str, digest: str, entry: Entry, old: Mine | None) -> None:
        """Create it unless it is there, or replace the version that was seen. Somebody who changed it in between keeps
        their change until the next look."""
        headers = {"Content-Type": "text/calendar; charset=utf-8"}
        headers |= {"If-Match": old.version} if old is not None and old.version else {}
        headers |= {"If-None-Match": "*"} if old is None else {}
        url = old.handle if old is not None else self._address(uid)
        answer = await self._send("PUT", url, headers, ics.single(entry, digest, self._now()))
        judged(answer, "writing an entry", 200, 201, 204, 412)

    async def remove(self, uid: str, old: Mine) -> None:
        """Remove the version that was seen."""
        headers = {"If-Match": old.version} if old.version else {}
        judged(await self._send("DELETE", old.handle, headers, None), "removing an entry", 200, 204, 404, 410, 412)

    async def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        return await self._ask(method, url, {**self._headers, **headers}, body)

    def _address(self, uid: str) -> str:
        return f"{self._url}remit-{hashlib.sha256(uid.encode()).hexdigest()[:40]}.ics"

    def _inside(self, href: str) -> str:
        """The address of a resource of the collection. Raises NotAllowed for one elsewhere: the password stays here."""
        found = urljoin(self._url, href)
        mine, theirs = urlsplit(self._url), urlsplit(found)
        if (mine.scheme, mine.netloc) != (theirs.scheme, theirs.netloc) or not found.isprintable():
            raise NotAllowed("looking at the calendar: the server names a resource of another host")
        return found


def _resources(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    """(href, etag, calendar data) of a multistatus. Raises NotACalendar."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise NotACalendar("its answer declares XML entities, which nobody needs")
    try:
        tree = ElementTree.fromstring(data)  # noqa: S314  entities were refused above, the size is bounded
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise NotACalendar("its answer is not XML") from error
    if tree.tag != f"{_DAV}multistatus":
        raise NotACalendar("its answer is no multistatus of WebDAV")
    for response in tree.iter(f"{_DAV}response"):
        href = response.findtext(f"{_DAV}href") or ""
        for found in response.iter(f"{_DAV}propstat"):
            text = found.findtext(f"{_DAV}prop/{_CALDAV}calendar-data")
            if href and text:
                yield href.strip(), (found.findtext(f"{_DAV}prop/{_DAV}getetag") or "").strip(), text.encode()
