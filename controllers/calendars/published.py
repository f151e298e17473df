"""A calendar that somebody publishes as a file (type Ics)."""

from __future__ import annotations

from datetime import datetime

from controllers.calendars import ics
from controllers.calendars.services import Ask, Mine, NotAllowed, Seen, judged
from decisions.feed import Entry
from schemas.base import Key
from schemas.calendar import MOST_BUSY


class Published:
    """Reads one file. Nothing can be written into it."""

    def __init__(self, ask: Ask, calendar: Key, url: str) -> None:
        self._ask = ask
        self._calendar = calendar
        self._url = url

    async def look(self, begin: datetime, end: datetime) -> Seen:
        """Its busy times."""
        answer = judged(await self._ask("GET", self._url, {"Accept": "text/calendar"}, None), "reading the file", 200)
        return Seen(*ics.busy(answer.data, self._calendar, begin, end, MOST_BUSY))

    async def put(self, uid: str, digest: str, entry: Entry, old: Mine | None) -> None:
        """Not possible."""
        raise NotAllowed("a published file cannot be written into")

    async def remove(self, uid: str, old: Mine) -> None:
        """Not possible."""
        raise NotAllowed("a published file cannot be written into")
