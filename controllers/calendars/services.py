"""What a calendar elsewhere can do, whoever keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from controllers.calendars.ics import NotACalendar as NotACalendar
from controllers.web.client import HttpClient
from controllers.web.reply import Fate, Limits
from decisions.feed import Entry

TIMEOUT_S = 20.0
LARGEST = 8 * 1024 * 1024
"""Bytes of one answer that are read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of a server."""

    status: int
    data: bytes


Ask = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[Answer]]
"""(method, address, headers, body) to an answer. Raises Unreachable, NotAllowed."""


def asking(client: HttpClient, allow_private: bool) -> Ask:
    """Requests through ``client``: to checked addresses, without redirects, in bounded time."""
    limits = Limits(TIMEOUT_S, LARGEST, allow_private)

    async def ask(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        reply = await client.send(method, url, headers, body, limits)
        if reply.fate is Fate.REFUSED:
            raise NotAllowed(reply.error)
        if reply.status is None:
            raise Unreachable(reply.error)
        return Answer(reply.status, reply.data)

    return ask


class Unreachable(Exception):
    """Nobody answers, or says that it cannot now. The message says what was asked, and holds no secret."""


class NotAllowed(Exception):
    """The server refuses, or its address may not be reached. The message says what, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Mine:
    """An entry that Remit wrote: ``handle`` is how the server calls it (and its version), ``digest`` what it holds."""

    handle: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What is in a calendar: busy times of others by start, whether there are ``more`` than were asked for, and what
    Remit wrote, by uid."""

    busy: list[Entry] = field(default_factory=list)
    more: bool = False
    mine: Mapping[str, Mine] = field(default_factory=dict)


class Service(Protocol):
    """One calendar. Its methods raise Unreachable, NotAllowed, NotACalendar."""

    async def look(self, begin: datetime, end: datetime) -> Seen:
        """What is in it between the two."""
        ...

    async def put(self, uid: str, digest: str, entry: Entry, old: Mine | None) -> None:
        """Write an entry, or write it anew. Done twice it is there once."""
        ...

    async def remove(self, uid: str, old: Mine) -> None:
        """Remove one; it may be gone already."""
        ...


def judged(answer: Answer, what: str, *good: int) -> Answer:
    """``answer`` when its status is one of ``good``. Raises Unreachable for those that pass, NotAllowed for others."""
    if answer.status in good:
        return answer
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise Unreachable(f"{what}: the server answers {answer.status}")
    raise NotAllowed(f"{what}: the server answers {answer.status}{_HINTS.get(answer.status, '')}")


_HINTS = {
    301: " (it is elsewhere: declare that address)",
    302: " (it is elsewhere: declare that address)",
    308: " (it is elsewhere: declare that address)",
    401: " (user or password is not right)",
    403: " (this user may not)",
    404: " (there is nothing at that address)",
}
