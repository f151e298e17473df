"""What happened to one object, and what work cost."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse

from api.problems import Problem
from api.read import audit, log
from api.read.answers import Reader, file_of, json_response, problems
from api.read.engine import Clock, EngineFacts
from api.read.kube.shape import document
from api.read.summary import usd
from api.stream.response import Push, Streaming
from decisions.costs import By, Figures, add_up
from schemas.quantities import format_time
from schemas.resource import Resource
from store.contract import Event, Snapshot

_PARTS = 200


class ExportForm(StrEnum):
    """Forms of an export of the log."""

    JSON = "jsonl"
    CSV = "csv"


_OWNED = ("Run", "ApprovalRequest", "Alert", "Session")


def add_records(app: FastAPI, reader: Reader, facts: EngineFacts, clock: Clock) -> None:
    """``/api/v1/timeline/{uid}`` and ``/api/v1/costs``."""

    @app.get("/api/v1/timeline/{uid}", tags=["log"], summary="Tell the story of one object", operation_id="timeline",
             responses=problems(404))  # fmt: skip
    async def story(
        uid: str,
        limit: Annotated[int, Query(ge=1, le=log.MOST, description="Rows of the log in one answer.")] = log.MOST,
        after: Annotated[int, Query(ge=0, le=2**53, description="Number of the row to go on behind.")] = 0,
    ) -> Response:
        """What happened, who did it, why, what it cost, what comes next. Oldest first; also of what is gone."""
        found = await reader.read(lambda snapshot: timeline(snapshot, uid, after=after, limit=limit))
        if found is None:
            raise Problem(404, "NotFound", "no object and no row of the log has that uid")
        return json_response(found)

    @app.get("/api/v1/events/export", tags=["log"], summary="The whole log as a file", operation_id="export-events",
             openapi_extra={"parameters": log.PARAMETERS}, response_class=PlainTextResponse,
             responses=log.REFUSED | file_of("text/csv", "application/x-ndjson"))  # fmt: skip
    async def export(
        request: Request,
        form: Annotated[
            ExportForm, Query(alias="format", description="One JSON object a line, or CSV.")
        ] = ExportForm.JSON,
    ) -> Response:
        """The rows that the filters of ``/api/v1/events`` pick, the oldest first, as long as there are any."""
        query = log.query_of(request.query_params, clock.now())

        async def chunks(gone: asyncio.Future[Any], _: Push) -> AsyncIterator[bytes]:
            asked = audit.following(query, None)
            header = form is ExportForm.CSV
            while asked is not None and not gone.done():
                found = await reader.read(functools.partial(log.page, query=asked))
                text = (
                    audit.csv_lines(found.events, header=header)
                    if form is ExportForm.CSV
                    else audit.json_lines(found.events)
                )
                header = False
                if text:
                    yield text.encode()
                asked = audit.following(query, found)

        name = f"remit-events.{'csv' if form is ExportForm.CSV else 'jsonl'}"
        kind = "text/csv; charset=utf-8" if form is ExportForm.CSV else "application/x-ndjson"
        return Streaming(chunks, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    @app.get("/api/v1/costs", tags=["figures"], summary="Add up what work cost", operation_id="costs")
    async def costs(
        request: Request,
        by: Annotated[By, Query(description="What to tell apart.")] = By.AGENT,
        namespace: Annotated[str | None, Query(max_length=63, description="Only this one.")] = None,
        since: Annotated[
            str,
            Query(max_length=40, json_schema_extra={"pattern": log.MOMENT}, description="A time, or a while."),
        ] = "",
    ) -> Response:
        """In USD as decimal texts. ``settled`` is known, ``unknown`` counts as its worst case, ``reserved`` is set
        aside for work under way."""
        begin = log.moment_of(since, clock.now(), "since")
        place = namespace or None
        return json_response(await reader.read(lambda s: rollup(s, facts, by, place, begin)))


def rollup(
    snapshot: Snapshot, facts: EngineFacts, by: By, namespace: str | None, since: datetime | None
) -> dict[str, Any]:
    """The sums."""
    found = add_up(facts.used(snapshot, namespace, since), by)
    return {
        "by": by.value,
        "namespace": namespace,
        "since": None if since is None else format_time(since),
        "rows": [{"name": name, **_figures(figures)} for name, figures in found.rows],
        "total": _figures(found.total),
        "unpriced": list(found.unpriced),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "settledUsd": usd(figures.settled),
        "unknownUsd": usd(figures.unknown),
        "reservedUsd": usd(figures.reserved),
        "inputTokens": figures.input_tokens,
        "outputTokens": figures.output_tokens,
        "unknownTokens": figures.unknown_tokens,
        "toolCalls": figures.tool_calls,
        "wallMs": figures.wall_ms,
    }


def timeline(snapshot: Snapshot, uid: str, *, after: int = 0, limit: int = log.MOST) -> dict[str, Any] | None:
    """The story; None when nothing has that uid. ``more`` is the row to go on behind."""
    resource = snapshot.get_by_uid(uid)
    rows = snapshot.events(subject_uid=uid, after=after, limit=limit + 1)
    if resource is None and not rows:
        return None
    shown = rows[:limit]
    return {
        "uid": uid,
        "object": None if resource is None else _head(resource),
        "events": [log.to_wire(event) for event in shown],
        "more": shown[-1].seq if len(rows) > limit else None,
        "who": _actors(shown),
        "parts": [] if resource is None else _parts(snapshot, resource),
        "cost": {} if resource is None else _cost(resource),
        "next": [] if resource is None else outlook(snapshot, resource),
    }


def _head(resource: Resource) -> dict[str, Any]:
    whole = document(resource)
    return {
        "kind": resource.kind,
        "namespace": resource.namespace,
        "name": resource.name,
        "title": resource.spec.get("title", ""),
        "state": resource.state,
        "generation": resource.generation,
        "createdAt": format_time(resource.created_at),
        # Which commit declared it, and who signed that.
        "provenance": whole.get("provenance"),
        "conditions": whole["status"].get("conditions", []),
    }


def _actors(rows: list[Event]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], int] = {}
    for event in rows:
        who = (event.actor.subject, event.actor.transport)
        found[who] = found.get(who, 0) + 1
    return [{"subject": s, "transport": t, "rows": count} for (s, t), count in sorted(found.items())]


def _parts(snapshot: Snapshot, resource: Resource) -> list[dict[str, Any]]:
    """What belongs to it: its runs, the questions about it, alerts."""
    found = []
    for kind in _OWNED:
        for part in snapshot.objects(kind, owner_uid=resource.uid, limit=_PARTS):
            entry = {k: v for k, v in _head(part).items() if k in ("kind", "namespace", "name", "state", "createdAt")}
            found.append({**entry, "uid": part.uid, "cost": _cost(part)})
    return found


def _cost(resource: Resource) -> dict[str, Any]:
    spend = resource.status.get("spend") or {}
    return {**spend, **({"attempts": resource.status["attempts"]} if "attempts" in resource.status else {})}


def outlook(snapshot: Snapshot, resource: Resource) -> list[dict[str, Any]]:
    """What it waits for, until when, and what a person can do."""
    found = [
        {
            "type": blocker.get("type", ""),
            "ref": blocker.get("ref", ""),
            "since": blocker.get("since", ""),
            "until": blocker.get("until", ""),
            "hint": blocker.get("hint", ""),
        }
        for blocker in resource.status.get("blockedOn") or ()
    ]
    for request in snapshot.objects("ApprovalRequest", owner_uid=resource.uid, states=["Pending"], limit=_PARTS):
        digest = str(request.spec.get("actionDigest", ""))[7:19]
        where = "" if request.namespace == "default" else f" -n {request.namespace}"
        found.append(
            {
                "type": "Approval",
                "ref": request.name,
                "since": format_time(request.created_at),
                "until": str(request.spec.get("expiresAt", "")),
                "hint": f"remit approve {request.name} --digest {digest}{where}",
            }
        )
    return found
