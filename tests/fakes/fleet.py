"""A store with something of everything in it, for pages: a fleet in the middle of its day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from schemas import registry
from schemas.base import Key
from schemas.event import EventType
from schemas.quantities import format_time
from schemas.resource import SYSTEM, Actor, ActorKind, Declared, Provenance, Resource, digest
from store.contract import Store, Transaction
from tests.fakes.stores import SettableClock

COMMIT = "3f2a91c0" * 5
REVISION = f"main@sha1:{COMMIT}"
ALICE = Actor(ActorKind.HUMAN, "user:alice", "Store")
AGENTS = ("atlas", "ember", "lumen", "quill", "scout", "wren")
WORK = (
    ("rotate-keys", "Rotate stale feature flags", "Inbox"),
    ("refactor-cache", "Refactor the read cache", "Inbox"),
    ("triage-inbox", "Triage the support inbox", "Assigned"),
    ("audit-access", "Audit access of service accounts", "Assigned"),
    ("backfill-costs", "Backfill costs of March", "InProgress"),
    ("migrate-billing", "Migrate billing webhooks", "InProgress"),
    ("draft-notes", "Draft the release notes", "InProgress"),
    ("summarise-calls", "Summarise calls of the week", "InProgress"),
    ("apply-dns", "Apply the change of DNS", "NeedsApproval"),
    ("mail-customers", "Mail 42 customers", "NeedsApproval"),
    ("backfill-access", "Backfill access policies", "Blocked"),
    ("summarise-hooks", "Summarise billing webhooks", "Blocked"),
    ("review-failures", "Review nightly CI failures", "Review"),
    ("reconcile-books", "Reconcile March invoices", "Review"),
    ("audit-links", "Audit links of the handbook", "Done"),
    ("index-docs", "Index the documentation", "Done"),
    ("tidy-labels", "Tidy labels of issues", "Done"),
    ("write-digest", "Write the weekly digest", "Done"),
    ("rotate-staging", "Rotate staging credentials", "Failed"),
    ("old-migration", "Migrate the old gateway", "Canceled"),
)


def one_line(text: str) -> str:
    """As much of a text as the title of a spec can be."""
    return "".join(c for c in text if c >= " ")[:190].strip()


class Steps:
    """Writes each thing in a transaction of its own, at the time that it is then."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, *given: Any, **more: Any) -> Resource:
        """See ``Transaction.create``."""
        with self._store.transaction(SYSTEM) as tx:
            return tx.create(*given, **more)

    def event(self, *given: Any, **more: Any) -> int:
        """See ``Transaction.event``."""
        with self._store.transaction(SYSTEM) as tx:
            return tx.event(*given, **more)


class Seed:
    """Writes objects with specs and statuses that their kinds accept."""

    def __init__(self, store: Store, clock: SettableClock) -> None:
        self.store = store
        self.clock = clock
        self.uids: dict[Key, str] = {}

    def at(self, minutes: float = 0) -> str:
        """A time so many minutes from now, as it stands in statuses."""
        return format_time(self.clock() + timedelta(minutes=minutes))

    def put(
        self,
        tx: Transaction,
        kind: str,
        name: str,
        spec: dict[str, Any],
        status: dict[str, Any] | None = None,
        *,
        owner: Resource | None = None,
        labels: dict[str, str] | None = None,
    ) -> Resource:
        """An object."""
        info = registry.by_kind(kind)
        typed = info.spec.model_validate(spec).to_wire()
        state = info.status.model_validate(status or {}).to_wire()
        origin = None
        if info.object_class.value == "Intent":
            origin = Provenance("default", ".", REVISION, f"{info.plural}/{name}.yaml", 3, "0" * 40)
        declared = Declared(kind, "default" if info.namespaced else "", name, typed, labels or {}, {}, origin)
        made = tx.create(
            declared, manager="git/default", unit="default/.", owner_uid=owner.uid if owner else "", status=state
        )
        self.uids[made.key] = made.uid
        return made

    def ready(self, reason: str = "Reconciled", status: str = "True", message: str = "", kind: str = "Ready") -> Any:
        """One condition."""
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": self.at(-90),
            "observedGeneration": 1,
        }


def seed(store: Store, clock: SettableClock, *, hostile: str = "") -> Seed:
    """Fill an empty store. With ``hostile`` that text stands wherever agents and people write."""
    made = Seed(store, clock)
    end = clock.moment
    clock.moment = end - timedelta(hours=20)
    with store.transaction(SYSTEM) as tx:
        _declared(made, tx, hostile)
    _work(made, cast(Transaction, Steps(store)), hostile, end)
    clock.moment = end
    return made


def _declared(made: Seed, tx: Transaction, hostile: str) -> None:
    ready = {"conditions": [made.ready()], "observedGeneration": 1}
    now = made.at()
    unit = {
        "path": ".",
        "revision": REVISION,
        "appliedRevision": REVISION,
        "reason": "Synced",
        "objects": 41,
        "appliedAt": now,
        "driftCorrected": 2,
        "pending": [
            {
                "digest": "ab12" * 4,
                "guard": "PruneBlocked",
                "revision": REVISION,
                "deletes": ["agent/vesper"],
                "message": hostile or "deletes 1 of 6 agents",
                "since": now,
            }
        ],
    }
    broken = {
        "path": "teams/ops",
        "revision": REVISION,
        "appliedRevision": f"main@sha1:{'1' * 40}",
        "reason": "Syncing",
        "errors": [f"missions/ops.yaml:12:7: {hostile or 'spec.prioritty: unknown field; did you mean priority?'}"],
        "objects": 3,
    }
    source = {"type": "Git", "url": "https://github.com/acme/specs.git", "path": "."}
    made.put(
        tx,
        "Source",
        "default",
        source,
        {
            **ready,
            "revision": REVISION,
            "lastSyncTime": format_time(made.clock() + timedelta(hours=19, minutes=59)),
            "units": [unit, broken],
        },
    )
    made.put(tx, "Executor", "local", {"type": "Command", "command": {"argv": ["agent"]}}, ready)
    made.put(
        tx,
        "Project",
        "billing",
        {
            "displayName": "Billing",
            "owner": "finance",
            "stage": "Development",
            "description": hostile or None,
            "links": [{"title": "Repository", "url": "https://github.com/acme/billing"}],
        },
        {**ready, "stage": "Development", "openMissions": 9, "doneMissions": 3},
    )
    for name, objective, share in (
        ("ci-red-time", hostile or "Cut CI red time by half", 0.25),
        ("close-books", "Close the books in 3 days", 0.31),
    ):
        made.put(
            tx,
            "Goal",
            name,
            {"objective": objective, "owner": "platform"},
            {
                **ready,
                "progress": share,
                "value": share,
                "missions": {"total": 8, "active": 6, "done": 2, "failed": 0},
                "spend": {"usd": "40.21", "source": "Reported"},
            },
        )
    for index, name in enumerate(AGENTS):
        status = {
            **ready,
            "activeRuns": 1 if index < 4 else 0,
            "enforcement": "Gated" if index % 2 else "Advised",
            "lastHeartbeatTime": format_time(made.clock() + timedelta(hours=20) - timedelta(seconds=7 * index)),
            "spend": {"usd": f"{3 + index * 2.5:.2f}", "source": "Reported"},
            "errorStreak": 0,
            "spendToday": {"usd": f"{1 + index / 2:.2f}", "source": "Reported"},
            "currentMissions": [WORK[4 + index][0]] if index < 4 else [],
        }
        level = ("Intern", "Specialist", "Lead")[index % 3]
        made.put(
            tx,
            "Agent",
            name,
            {
                "executorRef": {"name": "local"},
                "autonomyLevel": level,
                "description": hostile or f"Does what {name} does.",
                "tools": [{"name": "read_file"}, {"name": "shell_exec"}],
            },
            status,
            labels={"team": "platform" if index < 4 else "finance"},
        )
    made.put(
        tx,
        "Policy",
        "house-rules",
        {
            "description": hostile or "What every agent may do.",
            "risk": {"terraform_*": "Red"},
            "rules": [
                {
                    "name": "no-force-push",
                    "match": {"tools": ["git_push"], "when": "args.force == true"},
                    "verdict": "Deny",
                    "reason": hostile or "History is shared.",
                }
            ],
        },
        {**ready, "agents": 6, "allowed": 118, "asked": 9, "denied": 4},
    )
    within = [made.ready(), made.ready("Warning", "True", kind="WithinBudget")]
    made.put(
        tx,
        "Budget",
        "platform-daily",
        {"scope": {"tenant": True}, "limits": {"usd": "50"}, "window": "Day"},
        {
            "conditions": within,
            "spent": {"usd": "47.10"},
            "reserved": {"usd": "1.20"},
            "remaining": {"usd": "1.70"},
            "burnPerHour": "2.35",
            "forecastBreachTime": format_time(made.clock() + timedelta(hours=21)),
        },
    )
    made.put(
        tx,
        "Budget",
        "tokens",
        {"scope": {"tenant": True}, "limits": {"tokens": 9000000}, "window": "Month"},
        {**ready, "spent": {"tokens": 1200000}},
    )
    for name, title, due, who in (
        ("sign-contract", one_line(hostile) or "Sign the hosting contract", "2026-11-19", "user:alice"),
        ("order-badges", "Order badges", "2026-12-04", "user:bob"),
    ):
        made.put(
            tx,
            "Todo",
            name,
            {"title": title, "dueDate": due, "assignee": who, "goalRef": {"name": "close-books"}},
            ready,
        )
    fires = [format_time(made.clock() + timedelta(hours=h)) for h in (21, 45, 69, 93, 117)]
    made.put(
        tx,
        "Schedule",
        "nightly-review",
        {
            "schedule": "0 6 * * *",
            "timeZone": "Europe/Berlin",
            "missionTemplate": {"spec": {"title": "Review the night"}},
        },
        {**ready, "nextFireTimes": fires, "lastScheduleTime": made.at(), "missed": 2},
    )
    made.put(
        tx,
        "Channel",
        "on-call",
        {
            "type": "Webhook",
            "webhook": {"url": "https://hooks.example.org/x"},
            "description": hostile or None,
            "routes": [{"events": ["ApprovalRequired"], "severity": "High"}],
        },
        {**ready, "delivered": 210, "waiting": 1, "lastDeliveryTime": made.at(-5), "lastError": hostile},
    )
    tools = [
        {"name": "search", "digest": "sha256:" + "1" * 64, "state": "Accepted", "firstSeen": now},
        {"name": "delete_all", "digest": "sha256:" + "2" * 64, "state": "New", "firstSeen": now},
    ]
    made.put(
        tx,
        "ToolServer",
        "tracker",
        {"type": "Http", "http": {"url": "https://mcp.example.org/mcp"}, "description": hostile or "Tickets."},
        {**ready, "tools": tools, "accepted": 1, "quarantined": 1},
    )
    made.put(tx, "Tenant", "default", {"displayName": one_line(hostile) or "Acme"}, ready)
    made.put(
        tx,
        "Alert",
        "streak",
        {
            "type": "AgentErrorStreak",
            "severity": "High",
            "subject": "Agent/default/wren",
            "title": hostile or "wren keeps failing",
            "message": hostile or "Three runs in a row failed with the same error.",
            "fingerprint": "sha256:" + "0" * 64,
        },
        {"state": "Open", "count": 3, "lastSeen": now},
    )


def _work(made: Seed, tx: Transaction, hostile: str, end: datetime) -> None:
    for index, (name, title, state) in enumerate(WORK):
        agent = AGENTS[index % 6]
        seconds = 1200 * index
        made.clock.moment = end - timedelta(hours=8) + timedelta(seconds=seconds)
        _mission(made, tx, name, hostile or title, state, agent, index, hostile, end)
    made.clock.moment = end - timedelta(minutes=1)
    tx.event(
        EventType.SYNCED,
        Key("Source", "default", "default"),
        reason="Synced",
        message=hostile or f"specs at main@{COMMIT[:10]}: 2 changed",
    )
    tx.event(
        EventType.DRIFT_CORRECTED,
        Key("Agent", "default", "atlas"),
        reason="Drift",
        message=hostile or "spec.maxConcurrentMissions was 9, is 1 again",
    )
    tx.event(
        EventType.SCHEDULE_FIRED,
        Key("Schedule", "default", "nightly-review"),
        reason="OnTime",
        message="mission/nightly-review-1",
    )
    tx.event(
        EventType.FIRE_SKIPPED,
        Key("Schedule", "default", "nightly-review"),
        reason="TooLate",
        message="the engine was down",
    )


def _mission(
    made: Seed, tx: Transaction, name: str, title: str, state: str, agent: str, index: int, hostile: str, end: datetime
) -> None:
    closed = state in ("Done", "Failed", "Canceled")
    runs = 0 if state in ("Inbox", "Assigned") else 2 if index % 3 == 0 else 1
    begin = made.clock()
    blocked: list[dict[str, Any]] = []
    if state == "Blocked":
        blocked = [
            {
                "type": "Budget",
                "ref": "Budget/default/platform-daily",
                "since": made.at(),
                "hint": hostile or "budget platform-daily is used up",
            }
        ]
    if state in ("NeedsApproval", "Review"):
        blocked = [
            {
                "type": "Approval",
                "ref": f"ApprovalRequest/default/{name}-ask",
                "since": made.at(),
                "hint": "remit describe approval",
            }
        ]
    if state == "Assigned":
        blocked = [{"type": "Dependency", "ref": "Mission/default/draft-notes", "since": made.at()}]
    status: dict[str, Any] = {
        "state": state,
        "attempts": runs,
        "totalRuns": runs,
        "blockedOn": blocked,
        "observedGeneration": 1,
        "conditions": [made.ready("Accepted", kind="Accepted")],
        "spend": {"usd": f"{0.31 + index * 0.29:.2f}", "source": "Reported"},
        "finishedAt": made.at() if closed else None,
    }
    if state != "Inbox":
        status["agent"] = {"name": agent}
    if runs:
        status["lastRun"] = f"{name}-{runs}"
        status["workPlan"] = hostile or "1. Read.\n2. Compare.\n3. Write it down."
    if state in ("NeedsApproval",):
        status["actionRequests"] = [f"{name}-ask"]
    if state in ("Review",):
        status["reviewRequest"] = f"{name}-ask"
    if state == "Done":
        status["deliverable"] = {
            "name": "report.md",
            "size": 812,
            "mediaType": "text/markdown",
            "text": hostile or "# Report\n\nAll links lead somewhere.",
        }
    if state == "Failed":
        status["failure"] = {
            "reason": "NonZeroExit",
            "message": hostile or "exit code 1: the vault said no",
            "run": f"{name}-{runs}",
        }
    spec: dict[str, Any] = {
        "title": one_line(title),
        "description": hostile or None,
        "priority": (20, 50, 80)[index % 3],
        "goalRef": {"name": "ci-red-time" if index % 2 else "close-books"},
        "budget": {"usd": "5"},
        "projectRef": {"name": "billing"},
        "retry": {"maxAttempts": 3},
        "dependsOn": [{"name": "draft-notes"}] if state == "Assigned" else [],
    }
    if state != "Inbox":
        spec["agentRef"] = {"name": agent}
    mission = made.put(tx, "Mission", name, spec, status)
    tx.event(
        EventType.TRANSITIONED,
        mission,
        reason="Accepted",
        message=f"assigned to {agent}",
        data={"from": "Inbox", "to": "Assigned"},
    )
    for number in range(1, runs + 1):
        last = number == runs
        _run(
            made,
            tx,
            mission,
            agent,
            number,
            state if last else "Failed",
            hostile,
            open_=last and not closed,
            index=index,
        )
    if state not in ("Inbox", "Assigned"):
        tx.event(
            EventType.TRANSITIONED,
            mission,
            reason="Running",
            message="run started",
            data={"from": "Assigned", "to": "InProgress"},
        )
        made.clock.moment = begin + timedelta(minutes=14)
        if state != "InProgress":
            tx.event(
                EventType.TRANSITIONED,
                mission,
                reason=state,
                message=hostile or "",
                data={"from": "InProgress", "to": state},
            )
    if state in ("NeedsApproval", "Review"):
        _request(made, tx, mission, agent, hostile, end)
    if index in (4, 8):
        _talk(made, tx, mission, agent, hostile)


def _run(
    made: Seed,
    tx: Transaction,
    mission: Resource,
    agent: str,
    number: int,
    state: str,
    hostile: str,
    *,
    open_: bool,
    index: int,
) -> None:
    begin = made.clock()
    ended = {
        "Done": "Succeeded",
        "Review": "Succeeded",
        "Failed": "Failed",
        "Canceled": "Canceled",
        "Blocked": "Failed",
    }.get(state, "Running")
    name = f"{mission.name}-{number}"
    uid = made.uids[Key("Agent", "default", agent)]
    spec = {
        "missionRef": {"name": mission.name},
        "missionUid": mission.uid,
        "missionGeneration": 1,
        "agentRef": {"name": agent},
        "agentUid": uid,
        "agentGeneration": 1,
        "executorRef": {"name": "local"},
        "executorGeneration": 1,
        "attempt": number,
        "number": number,
        "timeout": "1h",
    }
    usd = f"{0.11 + index * 0.13:.2f}"
    status: dict[str, Any] = {
        "state": ended,
        "reason": "Completed" if ended == "Succeeded" else "Started",
        "startedAt": made.at(0.5),
        "endedAt": None if ended == "Running" else made.at(12),
        "message": hostile or "handed in",
        "spend": {"usd": usd, "inputTokens": 12000 + index, "outputTokens": 800, "source": "Reported"},
        "toolCalls": 2,
        "progress": hostile or "reads the second half",
        "usage": [{"model": hostile[:80] or "sonnet", "source": "Reported", "usd": usd, "inputTokens": 12000}],
    }
    run = made.put(tx, "Run", name, spec, status, owner=mission)
    tx.event(
        EventType.DISPATCHED,
        run,
        reason="Dispatched",
        message=f"attempt {number} of {mission.name} on {agent}",
        data={"related": [mission.uid, uid]},
    )
    made.clock.moment = begin + timedelta(seconds=30)
    tx.event(
        EventType.RUN_STARTED, run, reason="Started", message=f"attempt {number}", data={"related": [mission.uid, uid]}
    )
    for call, (tool, risk, stands) in enumerate(
        (("read_file", "Green", "Succeeded"), ("shell_exec", "Yellow", "Denied"))
    ):
        made.clock.moment = begin + timedelta(minutes=1 + call)
        record = made.put(
            tx,
            "ToolCall",
            f"{name}-call-{call}",
            {
                "runRef": {"name": name},
                "missionRef": {"name": mission.name},
                "agentRef": {"name": agent},
                "tool": hostile[:100] or tool,
                "args": {"text": hostile or "docs/*.md"},
                "argsDigest": "sha256:" + "3" * 64,
                "target": hostile or "docs",
                "idempotencyKey": f"{name}-{call}",
            },
            {
                "state": stands,
                "risk": risk,
                "rule": hostile or "the built-in table",
                "message": hostile or "let through",
                "startedAt": made.at(),
                "endedAt": made.at(0.4),
            },
            owner=run,
        )
        verdict = "Allow" if stands == "Succeeded" else "Deny"
        tx.event(
            EventType.CALL_DECIDED,
            record,
            reason="Rule",
            message=hostile or f"{tool}: {verdict}",
            data={"tool": hostile[:100] or tool, "risk": risk, "verdict": verdict, "rule": "the built-in table"},
            actor=Actor(ActorKind.AGENT, f"agent:default/{agent}", "Token"),
        )
    if ended != "Running":
        made.clock.moment = begin + timedelta(minutes=12)
        tx.event(
            EventType.RUN_FINISHED,
            run,
            reason="Completed",
            message=hostile or "handed in",
            data={"related": [mission.uid, uid], "state": ended, "settledUsdMicros": int(float(usd) * 1_000_000)},
        )


def _request(made: Seed, tx: Transaction, mission: Resource, agent: str, hostile: str, end: datetime) -> None:
    review = mission.state == "Review"
    action = {"tool": "terraform_apply", "args": {"target": hostile or "dns", "plan": "3 to change"}}
    risk = "Green" if review else "Red" if mission.name == "apply-dns" else "Yellow"
    request = made.put(
        tx,
        "ApprovalRequest",
        f"{mission.name}-ask",
        {
            "type": "Review" if review else "Action",
            "subject": f"Mission/default/{mission.name}",
            "subjectUid": mission.uid,
            "run": f"{mission.name}-1",
            "requester": f"agent:default/{agent}",
            "title": hostile
            or (f"Accept the result of {mission.name}?" if review else f"{agent} wants to use terraform_apply"),
            "action": action,
            "actionDigest": digest(action),
            "risk": risk,
            "rule": hostile or "house-rules, spec.risk",
            "expiresAt": format_time(end + timedelta(minutes=35 + 50 * len(made.uids) % 400)),
        },
        {"state": "Pending", "quorum": "0/1", "mayAnswer": "role Approver"},
        owner=mission,
    )
    tx.event(
        EventType.APPROVAL_REQUESTED,
        request,
        reason="Asked",
        message=hostile or request.spec["title"],
        data={"related": [mission.uid]},
    )


def _talk(made: Seed, tx: Transaction, mission: Resource, agent: str, hostile: str) -> None:
    session = made.put(
        tx,
        "Session",
        f"{mission.name}-talk",
        {"agentRef": {"name": agent}, "missionRef": {"name": mission.name}},
        {"state": "Open", "messages": 3, "consecutive": 2, "lastMessageAt": made.at(2), "blocked": 1},
    )
    said = (
        ("Inbound", "user:alice", "How far are you?", "Delivered", False),
        ("Outbound", f"agent:default/{agent}", "Two of three are done.", "Delivered", False),
        ("Outbound", f"agent:default/{agent}", "I go on with the last one.", "Blocked", True),
    )
    for number, (direction, author, text, state, alone) in enumerate(said):
        made.put(
            tx,
            "Message",
            f"{session.name}-{number}",
            {
                "direction": direction,
                "author": author,
                "text": hostile or text,
                "sessionRef": {"name": session.name},
                "autonomous": alone,
                "idempotencyKey": f"{session.name}-{number}",
            },
            {"state": state},
            owner=session,
        )
