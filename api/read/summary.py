"""The fleet in one answer: how many of what, in which state, and what needs a person. One query feeds tiles, badges,
the inbox and the title, so that they agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from api.read.engine import EngineFacts, Health
from decisions.costs import By, add_up
from schemas.alert import AlertState
from schemas.approval_request import RequestState
from schemas.mission import MissionState
from schemas.quantities import format_time
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES, RunState
from store.contract import Snapshot

_NEEDS = 200
_DAY = timedelta(days=1)


def summarize(snapshot: Snapshot, facts: EngineFacts, now: datetime) -> dict[str, Any]:
    """The whole answer of ``/api/v1/summary``."""
    needs = needs_a_person(snapshot)
    return {
        "at": format_time(now),
        "resourceVersion": str(snapshot.latest_version()),
        "needsYou": {"count": len(needs), "items": needs[:_NEEDS]},
        "missions": {state.value: snapshot.count("Mission", states=[state.value]) for state in MissionState},
        "runs": {state.value: snapshot.count("Run", states=[state.value]) for state in RunState},
        "agents": _agents(snapshot),
        "alerts": {state.value: snapshot.count("Alert", states=[state.value]) for state in AlertState},
        "holds": _holds(snapshot),
        "sources": [_source(r) for r in snapshot.objects("Source")],
        "costs": _costs(snapshot, facts, now),
        "engine": {"ready": all(h.ok for h in facts.health()), "profile": facts.profile, "project": facts.project},
    }


def figures(snapshot: Snapshot) -> dict[str, int]:
    """The numbers that change with every step of work, for KPI frames: cheap counts only."""
    return {
        "needsYou": len(needs_a_person(snapshot)),
        "running": snapshot.count("Run", states=ACTIVE_STATES),
        **{state.value: snapshot.count("Mission", states=[state.value]) for state in MissionState},
        "openAlerts": snapshot.count("Alert", states=[AlertState.OPEN.value]),
    }


def needs_a_person(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Everything that waits for a person, the most pressing first: questions, what is blocked, plans that a guard
    holds back, alerts that nobody took."""
    found = [
        _need(r, "Approval", str(r.spec.get("title", "")))
        for r in _in(snapshot, "ApprovalRequest", RequestState.PENDING)
    ]
    for mission in _in(snapshot, "Mission", MissionState.BLOCKED):
        blockers = mission.status.get("blockedOn") or [{}]
        found.append(_need(mission, "Blocked", str(blockers[0].get("hint") or blockers[0].get("type") or "")))
    for source in snapshot.objects("Source"):
        for unit in source.status.get("units", ()):
            for plan in unit.get("pending", ()):
                found.append({**_need(source, "Confirmation", str(plan.get("message", ""))),
                              "digest": plan.get("digest", "")})  # fmt: skip
    for alert in _in(snapshot, "Alert", AlertState.OPEN):
        found.append(_need(alert, "Alert", str(alert.spec.get("title") or alert.spec.get("message") or "")))
    return found


def _in(snapshot: Snapshot, kind: str, state: str) -> list[Resource]:
    return snapshot.objects(kind, states=[str(state)], limit=_NEEDS)


def _need(resource: Resource, why: str, text: str) -> dict[str, Any]:
    return {
        "why": why,
        "kind": resource.kind,
        "namespace": resource.namespace,
        "name": resource.name,
        "uid": resource.uid,
        "text": text[:300],
        "since": format_time(resource.created_at),
        "expiresAt": resource.spec.get("expiresAt") or resource.spec.get("expires") or "",
    }


def _agents(snapshot: Snapshot) -> dict[str, int]:
    agents = snapshot.objects("Agent")
    ready = sum(1 for a in agents if is_true(a, "Ready"))
    return {"total": len(agents), "ready": ready, "notReady": len(agents) - ready}


def is_true(resource: Resource, condition: str) -> bool:
    """Whether it has that condition with status True."""
    found: Iterable[dict[str, Any]] = resource.status.get("conditions", ())
    return any(c.get("type") == condition and c.get("status") == "True" for c in found)


def _holds(snapshot: Snapshot) -> dict[str, Any]:
    active = [r for r in snapshot.objects("Hold") if r.deletion_at is None and r.spec.get("released") is None]
    return {"active": len(active), "names": [f"{r.namespace}/{r.name}" for r in active[:50]]}


def _source(resource: Resource) -> dict[str, Any]:
    status = resource.status
    ready: dict[str, Any] = next((c for c in status.get("conditions", ()) if c.get("type") == "Ready"), {})
    return {
        "namespace": resource.namespace,
        "name": resource.name,
        "revision": status.get("revision", ""),
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "pending": sum(len(unit.get("pending", ())) for unit in status.get("units", ())),
        "errors": sum(len(unit.get("errors", ())) for unit in status.get("units", ())),
    }


def _costs(snapshot: Snapshot, facts: EngineFacts, now: datetime) -> dict[str, Any]:
    used = list(facts.used(snapshot, None, now - _DAY))
    total = add_up(used, By.AGENT).total
    return {
        "last24hUsd": usd(total.settled + total.unknown),
        "reservedUsd": usd(total.reserved),
        "inputTokens": total.input_tokens,
        "outputTokens": total.output_tokens,
    }


def usd(micros: int) -> str:
    """Millionths of a USD as a decimal text, without trailing zeros beyond cents."""
    whole, rest = divmod(micros, 1_000_000)
    text = f"{rest:06d}".rstrip("0")
    return f"{whole}.{text:0<2}"


def health_document(components: Sequence[Health]) -> list[dict[str, Any]]:
    """One entry for each component."""
    return [
        {
            "name": h.name,
            "state": str(h.state),
            "ok": h.ok,
            "since": format_time(h.since),
            "restarts": h.restarts,
            "problem": h.problem,
        }
        for h in components
    ]
