"""What stands around every page: how many things wait for a person, how fresh it all is, and what is wrong now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from api.dashboard import links, marks
from api.dashboard.commands import WHY
from api.dashboard.facts import waiting
from api.dashboard.facts.view import View
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import decimal, moment, words
from schemas.event import EventType
from schemas.resource import Resource

TOLD = (
    EventType.APPROVAL_REQUESTED, EventType.APPROVAL_EXPIRED, EventType.ALERT_RAISED, EventType.BUDGET_WARNING,
    EventType.BUDGET_EXCEEDED, EventType.HOLD_PLACED, EventType.HOLD_RELEASED, EventType.SYNC_FAILED,
    EventType.GUARD_RAISED, EventType.EFFECT_FAILED, EventType.WAIVER_ENDING, EventType.GOAL_REACHED,
)  # fmt: skip
"""What people are told of."""
BANNERS = 2
"""Banners that are shown; the others are counted."""
SKEW_S = 30.0
"""An event may be so far ahead of the clock before that is told."""
_LOOKED_AT = 50
_BUDGET_SHARE = 0.9
_BANNER_ALERTS = ("Critical", "High")


@dataclass(frozen=True, slots=True)
class Banner:
    """Something that is wrong while it stands. It cannot be waved away."""

    id: str
    mark: Mark
    title: str
    text: str
    since: datetime | None
    href: str
    command: str
    weight: int


@dataclass(frozen=True, slots=True)
class Sync:
    """Where the specs stand."""

    revision: str
    at: datetime | None
    ok: bool
    href: str


@dataclass(frozen=True, slots=True)
class Frame:
    """All of it. ``waiting`` is what needs a person, of every sort; ``told`` the number of the latest event that people
    are told of."""

    waiting: int
    sync: Sync | None
    banners: tuple[Banner, ...]
    more_banners: int
    unread: int
    seq: int
    told: int


def frame(view: View) -> Frame:
    """Read it; costs a handful of counts and short lists."""
    snapshot = view.snapshot
    sources = snapshot.objects("Source", limit=waiting.SOURCES)
    found = sorted(
        [*_holds(view), *_alerts(view), *_budgets(view), *_sources(view, sources), *_engine(view), *_clock(view)],
        key=lambda b: (-b.weight, -(b.since.timestamp() if b.since else 0.0), b.id),
    )
    last = snapshot.events(limit=1, newest_first=True)
    told = snapshot.events(types=TOLD, limit=1, newest_first=True)
    return Frame(
        sum(waiting.counts(snapshot, sources)),
        _sync(sources),
        tuple(found[:BANNERS]),
        max(0, len(found) - BANNERS),
        snapshot.count("Alert", states=["Open"]),
        last[0].seq if last else 0,
        told[0].seq if told else 0,
    )


def _sync(sources: list[Resource]) -> Sync | None:
    """Of the configured source, or of the first."""
    if not sources:
        return None
    source = next((s for s in sources if s.name == "default"), sources[0])
    revision = str(source.status.get("revision") or "")
    branch, _, digest = revision.partition("@")
    short = f"{branch.removeprefix('refs/heads/')}@{digest.partition(':')[2][:7]}" if digest else revision[:20]
    ok = marks.ready(source.status).tone is Tone.GOOD
    return Sync(short or "not synced yet", moment(source.status.get("lastSyncTime")), ok, "/sync")


def _engine(view: View) -> list[Banner]:
    """Parts of the engine that crashed or say that something is wrong; not those that are about to start."""
    found = []
    for part in view.site.health():
        if part.ok or not part.problem:
            continue
        mark = Mark("warn", "engine", Tone.BAD)
        title = f"{part.name} does not do its work"
        found.append(Banner(f"banner-part-{part.name}", mark, title, part.problem, part.since, "/sync", "", 90))
    return found


def _clock(view: View) -> list[Banner]:
    """The log is ahead of this clock: one of the machines that write to it has another time."""
    last = view.snapshot.events(limit=1, newest_first=True)
    ahead = (last[0].at - view.now).total_seconds() if last else 0.0
    if ahead <= SKEW_S:
        return []
    text = f"the newest event is {int(ahead):,} s ahead of the clock of this engine: set the clocks by NTP"
    mark = Mark("clock", "clock", Tone.WARN)
    return [Banner("banner-clock", mark, "Clocks disagree", text, None, "/events", "", 65)]


def _holds(view: View) -> list[Banner]:
    found = []
    for hold in view.snapshot.objects("Hold", limit=_LOOKED_AT):
        spec = hold.spec
        whole = spec.get("scope") is not None and spec.get("mode") == "Stop"
        until = moment(spec.get("until"))
        if until is not None and until <= view.now:
            continue
        if not whole and not spec.get("quarantine"):
            continue
        what = "Quarantine"
        if whole:
            what = "Everything is stopped" if spec.get("scope") == "Global" else f"{hold.namespace} is stopped"
        by = str(hold.status.get("placedBy", ""))
        found.append(
            Banner(
                f"banner-{hold.uid}", Mark("stop", "stopped", Tone.STOP), what,
                f"{spec.get('reason', '')}" + (f" ({by})" if by else ""), hold.created_at, links.of(hold.key),
                view.commands.verb("estop", "release", end=WHY)
                if whole
                else view.commands.verb("release", key=hold.key, target=hold.name, end=WHY), 100,
            )
        )  # fmt: skip
    return found


def _alerts(view: View) -> list[Banner]:
    found = []
    for alert in view.snapshot.objects("Alert", states=["Open"], limit=_LOOKED_AT):
        severity = str(alert.spec.get("severity", ""))
        kind = str(alert.spec.get("type", ""))
        if severity not in _BANNER_ALERTS or kind in ("EmergencyStop", "SyncFailed", "BudgetExceeded", "BudgetWarning"):
            continue  # those are told from what they are about, as it stands now
        since = moment(alert.status.get("lastSeen")) or alert.created_at
        found.append(
            Banner(
                f"banner-{alert.uid}", marks.severity(severity), str(alert.spec.get("title", "")),
                str(alert.spec.get("message", "")), since, links.of(alert.key), "",
                80 if severity == "Critical" else 50,
            )
        )  # fmt: skip
    return found


def _budgets(view: View) -> list[Banner]:
    found = []
    for budget in view.snapshot.objects("Budget", limit=_LOOKED_AT):
        limit = decimal((budget.spec.get("limits") or {}).get("usd"))
        spent = decimal((budget.status.get("spent") or {}).get("usd"))
        within = marks.find(budget.status.get("conditions"), "WithinBudget") or {}
        share = float(spent / limit) if limit and spent is not None else 0.0
        if share < _BUDGET_SHARE and within.get("status") != "False":
            continue
        since = moment(within.get("lastTransitionTime"))
        text = f"{words(str(budget.spec.get('onBreach', '')))} at the limit"
        title = f"Budget {budget.name} is at {share:.0%}" if share else f"Budget {budget.name} is used up"
        found.append(
            Banner(f"banner-{budget.uid}", Mark("warn", "budget", Tone.WARN), title, text, since,
                   links.of(budget.key), "", 60 if share >= 1 else 40)
        )  # fmt: skip
    return found


def _sources(view: View, sources: list[Resource]) -> list[Banner]:
    found = []
    for source in sources:
        ready = marks.find(source.status.get("conditions"), "Ready")
        errors = sum(len(u.get("errors", ())) for u in source.status.get("units", ()))
        if errors:
            title = f"{errors} error{'s' if errors > 1 else ''} in the specs of {source.name}"
            text = "what was applied before stays in force"
        elif ready is not None and ready.get("status") == "False":
            title, text = f"Source {source.name} is not read", str(ready.get("message", ""))
        else:
            continue
        found.append(
            Banner(f"banner-{source.uid}", Mark("drift", "specs", Tone.WARN), title, text,
                   moment((ready or {}).get("lastTransitionTime")), links.of(source.key), "", 70)
        )  # fmt: skip
    return found
