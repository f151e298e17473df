"""What waits for a person. One answer feeds the badge, the tile, the list and the title of the page, so that no two of
them ever differ; and why one object does not move."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.dashboard import links, marks
from api.dashboard.facts.shapes import Wait
from api.dashboard.facts.view import PAGE, View
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import moment, words
from schemas.mission import MissionState
from schemas.resource import Resource
from store.contract import Snapshot

SOURCES = 50
"""Sources that are looked at for a page."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a person has to do something about."""

    id: str
    mark: Mark
    title: str
    href: str
    who: str
    since: datetime | None
    until: datetime | None
    act: str
    risk: Mark | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """How many, and the first of them: what runs out soonest, then what is stuck, then held plans."""

    approvals: int
    blocked: int
    plans: int
    items: tuple[Need, ...]

    @property
    def total(self) -> int:
        """All of them."""
        return self.approvals + self.blocked + self.plans


def counts(
    snapshot: Snapshot, sources: list[Resource], namespace: str | None = None
) -> tuple[int, int, int]:  # fmt: skip
    """Pending requests, blocked missions, plans held by a guard; of a namespace, or of all."""
    return (
        snapshot.count("ApprovalRequest", namespace=namespace, states=["Pending"]),
        snapshot.count("Mission", namespace=namespace, states=[MissionState.BLOCKED]),
        sum(len(u.get("pending", ())) for s in sources for u in s.status.get("units", ())),
    )


def needs(view: View, *, limit: int = PAGE) -> Needs:
    """Everything that waits for a person where the page looks, at most ``limit`` of each sort told in full."""
    snapshot, place = view.snapshot, view.namespace
    sources = snapshot.objects("Source", namespace=place, limit=SOURCES)
    approvals, blocked, plans = counts(snapshot, sources, place)
    requests = snapshot.objects("ApprovalRequest", namespace=place, states=["Pending"], limit=limit)
    items = sorted((request_need(view, r) for r in requests), key=lambda n: (n.until or view.now, n.id))
    stuck = snapshot.objects("Mission", namespace=place, states=[MissionState.BLOCKED], limit=limit)
    items += [_blocked(view, m) for m in stuck]
    items += [n for s in sources for n in _plans(view, s)]
    return Needs(approvals, blocked, plans, tuple(items))


def request_need(view: View, request: Resource) -> Need:
    """A request as something to do."""
    spec = request.spec
    act = "" if spec.get("type") == "Change" else view.commands.answer(
        "approve", request.key, str(spec.get("actionDigest", ""))
    )  # fmt: skip
    requester = str(spec.get("requester", "")).rpartition("/")[2]
    subject = str(spec.get("subject", "")).rpartition("/")[2]
    return Need(
        f"need-{request.uid}",
        marks.state("ApprovalRequest", "Pending"),
        str(spec.get("title", "")),
        links.of(request.key),
        f"{requester} · {subject}",
        request.created_at,
        moment(spec.get("expiresAt")),
        act,
        marks.risk(str(spec.get("risk", ""))),
    )


def _blocked(view: View, mission: Resource) -> Need:
    found = waits(view, mission)
    why = found[0] if found else None
    failure = mission.status.get("failure") or {}
    said = why.what if why else words(str(failure.get("reason", ""))) or "blocked"
    return Need(
        f"need-{mission.uid}",
        marks.state("Mission", "Blocked"),
        str(mission.spec.get("title", "")),
        links.of(mission.key),
        said,
        why.since if why else None,
        why.until if why else None,
        view.commands.verb("retry", key=mission.key),
    )


def _plans(view: View, source: Resource) -> list[Need]:
    return [
        Need(
            f"need-plan-{source.uid}-{plan.get('digest', '')}",
            Mark("drift", "plan held", Tone.WARN),
            str(plan.get("message", "")),
            links.of(source.key),
            f"{source.name} · {unit.get('path', '')}",
            moment(plan.get("since")),
            None,
            view.commands.confirm(str(plan.get("digest", ""))),
        )
        for unit in source.status.get("units", ())
        for plan in unit.get("pending", ())
    ]


def waits(view: View, resource: Resource) -> list[Wait]:
    """Why the object does not move, most pressing first: what it is blocked on, then conditions that are not as they
    should be."""
    found = [_wait(b) for b in resource.status.get("blockedOn") or () if isinstance(b, dict)]
    if found:
        return found
    for condition in resource.status.get("conditions") or ():
        if condition.get("type") in ("Ready", "WithinBudget", "Reachable") and condition.get("status") == "False":
            what = str(condition.get("message") or words(str(condition.get("reason", ""))))
            found.append(Wait(marks.condition(condition), what, moment(condition.get("lastTransitionTime"))))
    return found


_BLOCKERS = {
    "Approval": "ask", "Review": "ask", "Budget": "stop", "Hold": "stop", "Person": "ask", "Dependency": "pause",
    "Capacity": "half", "Retry": "pause", "FollowUp": "pause", "Agent": "warn", "Executor": "warn",
}  # fmt: skip
_TONES = {"ask": Tone.WARN, "stop": Tone.STOP, "warn": Tone.WARN}


def _wait(blocker: dict[str, Any]) -> Wait:
    kind = str(blocker.get("type", ""))
    glyph = _BLOCKERS.get(kind, "pause")
    ref = str(blocker.get("ref", ""))
    key = links.key_of(ref)
    named = f"{words(key.kind)} {key.name}" if key else ref
    what = f"waits for {named}" if named else f"waits: {words(kind)}"
    if kind in ("Approval", "Review"):
        what = "waits for a person"
    return Wait(
        Mark(glyph, words(kind), _TONES.get(glyph, Tone.CALM)),
        what,
        moment(blocker.get("since")),
        moment(blocker.get("until")),
        str(blocker.get("hint", "")),
        links.of(key) if key else "",
    )


def stuck_for(resource: Resource) -> str:
    """One short line that says why it does not move; "" when it does."""
    for blocker in resource.status.get("blockedOn") or ():
        found = _wait(blocker)
        return found.what if str(blocker.get("ref", "")) else (found.hint or found.what)
    return ""
