"""What is due when, and what people were told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response

from api.problems import Problem
from api.read.answers import Reader, file_of, json_response, problems
from api.read.engine import Clock, EngineFacts, Feeds
from api.read.kube.shape import document
from store.contract import Snapshot

LONGEST_DAYS = 366
_ICS = "text/calendar"
Days = Annotated[int, Query(ge=1, le=LONGEST_DAYS, description="Length of the time that is shown, from today on.")]
Namespace = Annotated[str | None, Query(max_length=63, description="Only this one.")]


def add_due(app: FastAPI, reader: Reader, facts: EngineFacts, clock: Clock) -> None:
    """``/api/v1/schedule/feed``, the same as ``.ics``, and ``/api/v1/notifications``."""

    def feeds() -> Feeds:
        if facts.feeds is None:
            raise Problem(404, "NotFound", "this engine has no schedule feed")
        return facts.feeds

    def span(days: int) -> tuple[datetime, datetime]:
        begin = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        return begin, begin + timedelta(days=days)

    @app.get("/api/v1/schedule/feed", tags=["schedule"], summary="What is due when", operation_id="schedule-feed",
             responses=problems(404))  # fmt: skip
    async def feed(days: Days = 14, namespace: Namespace = None) -> Response:
        """Fires of schedules, deadlines, to-dos and work under way, in the order of time; days are those of UTC."""
        made, (begin, end) = feeds(), span(days)
        return json_response(await reader.read(lambda s: made.document(s, begin, end, namespace or None)))

    @app.get("/api/v1/schedule/feed.ics", tags=["schedule"], summary="The same for calendar programs",
             operation_id="schedule-ics", responses=problems(404) | file_of(_ICS))  # fmt: skip
    async def ics(days: Days = 60, namespace: Namespace = None) -> Response:
        """iCalendar; programs that subscribe send the token as the password of Basic."""
        made, (begin, end) = feeds(), span(days)
        found = await reader.read(lambda s: made.ics(s, begin, end, namespace or None, clock.now()))
        return Response(found, media_type=_ICS)

    @app.get("/api/v1/notifications", tags=["log"], summary="What people were told", operation_id="notifications")
    async def notifications(
        limit: Annotated[int, Query(ge=1, le=500, description="Most of them.")] = 50, namespace: Namespace = None
    ) -> Response:
        """The newest first, as objects of kind Notification."""
        return json_response({"items": await reader.read(lambda s: _told(s, namespace or None, limit))})


def _told(snapshot: Snapshot, namespace: str | None, limit: int) -> list[dict[str, Any]]:
    found = snapshot.objects("Notification", namespace=namespace)
    found.sort(key=lambda r: (r.created_at, r.resource_version), reverse=True)
    return [document(resource) for resource in found[:limit]]
