"""What was used, from the records that say so, and what is under way, from the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from decisions.costs import Figures, Used
from schemas.quantities import parse_duration, parse_time, to_micros
from schemas.resource import Resource
from store.contract import LedgerEntry, Snapshot


def gather(snapshot: Snapshot, *, namespace: str | None, since: datetime | None = None) -> Iterator[Used]:
    """Everything that counts in a namespace (None: in all of them), booked at ``since`` or later; what is reserved now
    always counts. In money it comes to what the ledger holds for the tenants."""
    for record in snapshot.objects("UsageRecord", namespace=namespace):
        at = parse_time(record.spec["at"])
        if since is None or at >= since:
            yield _recorded(record, at)
    for entry in snapshot.open_reservations():
        tenant = _tenant(entry)
        if tenant is not None and namespace in (None, tenant):
            yield _reserved(snapshot, entry, tenant)


def _recorded(record: Resource, at: datetime) -> Used:
    spec, place = record.spec, record.namespace
    micros = to_micros(Decimal(str(spec.get("usd", "0"))))
    unknown = spec["source"] == "Unknown"
    wall = spec.get("wallTime")
    return Used(
        tenant=place,
        agent=_named(spec, "agentRef", place),
        mission=_named(spec, "missionRef", place),
        project=_named(spec, "projectRef", place),
        goal=_named(spec, "goalRef", place),
        provider=_named(spec, "providerRef", place),
        model=spec.get("model", ""),
        day=at.date(),
        unpriced=bool(spec.get("unpriced")),
        figures=Figures(
            settled=0 if unknown else micros,
            unknown=micros if unknown else 0,
            input_tokens=spec.get("inputTokens", 0),
            output_tokens=spec.get("outputTokens", 0),
            unknown_tokens=spec.get("unknownTokens", 0),
            tool_calls=spec.get("toolCalls", 0),
            wall_ms=int(parse_duration(wall).total_seconds() * 1000) if wall else 0,
        ),
    )


def _reserved(snapshot: Snapshot, entry: LedgerEntry, tenant: str) -> Used:
    found = snapshot.get_by_uid(entry.key.rpartition("/")[2])
    if found is not None and found.kind == "ToolCall":
        found = snapshot.get_by_uid(found.owner_uid)
    figures = Figures(reserved=entry.amounts.usd_micros)
    if found is None or found.kind != "Run":
        return Used(tenant=tenant, figures=figures, day=entry.at.date())
    pinned = snapshot.spec_at(found.spec["missionUid"], found.spec["missionGeneration"])
    mission: Mapping[str, Any] = {} if pinned is None else pinned.spec
    return Used(
        tenant=tenant,
        agent=_named(found.spec, "agentRef", tenant),
        mission=_named(found.spec, "missionRef", tenant),
        project=_named(mission, "projectRef", tenant),
        goal=_named(mission, "goalRef", tenant),
        day=entry.at.date(),
        figures=figures,
    )


def _tenant(entry: LedgerEntry) -> str | None:
    """Whose it is. What counts in no tenant's day is a part of something that does."""
    for account in entry.accounts:
        kind, _, rest = account.partition("/")
        if kind == "tenant":
            return rest.partition("/")[0]
    return None


def _named(spec: Mapping[str, Any], field: str, namespace: str) -> str:
    """``name``, or ``namespace/name`` of one that lives elsewhere."""
    ref = spec.get(field)
    if not ref:
        return ""
    place = ref.get("namespace") or namespace
    return str(ref["name"]) if place == namespace else f"{place}/{ref['name']}"
