"""What the daily summary rests on, from the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from decisions import visible
from decisions.standup import Item, Part, Standing, part
from schemas.base import Key
from schemas.event import EventType
from schemas.mission import MissionState
from schemas.quantities import parse_time
from schemas.standup import Standup
from schemas.tenant import TenantSpec
from store.contract import Event, Snapshot

AHEAD = timedelta(days=1)
_PAGE = 2_000
_MOST = 500_000
"""Rows of the log that are looked at; of more than that, the latest."""
_LONGEST = 366
_AT_WORK = (MissionState.INBOX, MissionState.ASSIGNED, MissionState.IN_PROGRESS, MissionState.REVIEW)


def time_of(snapshot: Snapshot, namespace: str, otherwise: Standup) -> Standup:
    """When the summary of a namespace is made."""
    tenant = snapshot.get(Key("Tenant", "", namespace))
    declared = TenantSpec.model_validate(tenant.spec).standup if tenant is not None else None
    return declared or otherwise


def gather(snapshot: Snapshot, namespace: str, since: datetime, now: datetime) -> Standing:
    """How the namespace stands. Reads the moves since then, and what is open; not the history before."""
    ended: dict[str, tuple[str, str]] = {}
    for event in _moves(snapshot, namespace, since):
        ended[event.subject.name] = (str(event.data.get("to")), event.reason)  # its last move counts
    done = [Item(f"mission/{name}") for name, (to, _) in sorted(ended.items()) if to == MissionState.DONE]
    failed = [Item(f"mission/{name}", why) for name, (to, why) in sorted(ended.items()) if to == MissionState.FAILED]
    usd, tokens = _spent(snapshot, namespace, since, now)
    return Standing(
        namespace=namespace,
        since=since,
        now=now,
        done=part(done),
        failed=part(failed),
        waiting=_at_work(snapshot, namespace),
        answers=_answers(snapshot, namespace),
        blocked=_blocked(snapshot, namespace),
        following=_following(snapshot, namespace, now),
        usd_micros=usd,
        tokens=tokens,
    )


def _moves(snapshot: Snapshot, namespace: str, since: datetime) -> list[Event]:
    """Oldest first. The log has no index by time: where to begin is found by halving it."""
    found: list[Event] = []
    after = _before(snapshot, since)
    while True:
        page = snapshot.events(types=[EventType.TRANSITIONED], namespace=namespace, after=after, limit=_PAGE)
        found += page
        if len(page) < _PAGE:
            return [event for event in found if event.subject.kind == "Mission"]
        after = page[-1].seq


def _before(snapshot: Snapshot, since: datetime) -> int:
    """The row behind which everything happened at ``since`` or later."""
    newest = snapshot.events(limit=1, newest_first=True)
    low, high = 0, newest[0].seq if newest else 0
    low = max(low, high - _MOST)
    while low < high:
        middle = (low + high) // 2
        row = snapshot.events(after=middle, limit=1)
        if row and row[0].at < since:
            low = row[0].seq
        else:
            high = middle
    return low


def _at_work(snapshot: Snapshot, namespace: str) -> Part:
    counts = [(state, snapshot.count("Mission", namespace=namespace, states=[state])) for state in _AT_WORK]
    items = [Item(f"{count} {state}") for state, count in counts if count]
    return part(items, sum(count for _, count in counts))


def _answers(snapshot: Snapshot, namespace: str) -> Part:
    count = snapshot.count("ApprovalRequest", namespace=namespace, states=["Pending"])
    found = snapshot.objects("ApprovalRequest", namespace=namespace, states=["Pending"], limit=10)
    return part([Item(request.key.short, str(request.spec["title"])) for request in found], count)


def _blocked(snapshot: Snapshot, namespace: str) -> Part:
    count = snapshot.count("Mission", namespace=namespace, states=[MissionState.BLOCKED])
    found = snapshot.objects("Mission", namespace=namespace, states=[MissionState.BLOCKED], limit=10)
    return part([Item(mission.key.short, _why(mission.status)) for mission in found], count)


def _why(status: dict[str, object]) -> str:
    moves = status.get("transitions")
    last = moves[-1] if isinstance(moves, list) and moves else {}
    return f"{last.get('reason', '')} {last.get('message', '')}".strip() if isinstance(last, dict) else ""


def _following(snapshot: Snapshot, namespace: str, now: datetime) -> Part:
    found: list[tuple[datetime, Item]] = []
    for schedule in snapshot.objects("Schedule", namespace=namespace):
        times = [parse_time(t) for t in schedule.status.get("nextFireTimes", ())]
        soon = min((t for t in times if now < t <= now + AHEAD), default=None)
        if soon is not None and not schedule.spec.get("suspend"):
            found.append((soon, Item(schedule.key.short, visible.moment(soon))))
    for todo in snapshot.objects("Todo", namespace=namespace):
        due = todo.spec.get("dueDate")
        if due and todo.spec.get("state") != "Done" and str(due) <= f"{now + AHEAD:%Y-%m-%d}":
            found.append((now, Item(todo.key.short, f"due {due}: {todo.spec['title']}")))
    return part([item for _, item in sorted(found, key=lambda pair: (pair[0], pair[1].name))])


def _spent(snapshot: Snapshot, namespace: str, since: datetime, now: datetime) -> tuple[int, int]:
    usd = tokens = 0
    day, last = since.astimezone(UTC).date(), now.astimezone(UTC).date()
    day = max(day, last - timedelta(days=_LONGEST))
    while day <= last:
        spent = snapshot.balance(f"tenant/{namespace}/day/{day:%Y-%m-%d}").spent
        usd, tokens = usd + spent.usd_micros, tokens + spent.tokens
        day += timedelta(days=1)
    return usd, tokens
