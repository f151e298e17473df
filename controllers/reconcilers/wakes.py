"""Who has to look again when something changed: from a change to the keys that depend on it, without scanning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from controllers.effects import jobs, posts
from controllers.reconcilers import dispatcher, pools, skimmed, sub_agents, tenancy
from controllers.reconcilers.standings import Standings
from controllers.runtime.workqueue import Priority
from decisions.meters import OWN_LIMIT
from decisions.references import references
from schemas.base import Key
from schemas.hold import HOLDABLE, HoldMode
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES, RunState
from schemas.session import SessionState
from store.contract import Change, Op, Snapshot

Wake = tuple[Key, Priority]

_UNFINISHED = tuple(s.value for s in MissionState if s not in TERMINAL_STATES)
_URGENT = {"ApprovalDecision", "Hold", "Confirmation"}
_USED = frozenset({"Agent", "Executor", "Provider"})
"""Kinds that say who uses them while they are being deleted."""
_NAMED = frozenset({"Agent", "Executor", "Mission", "Project", "Goal", "Policy"})
_COUNTS = frozenset(
    {
        "activeRuns", "currentMissions", "spend", "spendToday", "errorStreak", "lastHeartbeatTime", "lastRunTime",
        "sessions", "evidence",
    }
)  # fmt: skip
"""What changes in an agent's status with every run, and no decision about a mission reads."""
RECORDS_WITHOUT_PASS = frozenset(
    {"Run", "ToolCall", "Session", "Message", "Thread", "Alert", "Notification", "UsageRecord"}
)


class ReferenceIndex:
    """Who names whom, kept from the changes. Not thread-safe: one owner."""

    def __init__(self) -> None:
        self._targets: dict[Key, frozenset[Key]] = {}
        self._referrers: dict[Key, set[Key]] = defaultdict(set)

    def put(self, key: Key, targets: Iterable[Key]) -> frozenset[Key]:
        """Take in what ``key`` names now; returns what it no longer names, and the agents and executors that it names
        for the first time."""
        new = frozenset(targets)
        old = self._targets.get(key, frozenset())
        for gone in old - new:
            self._referrers[gone].discard(key)
            if not self._referrers[gone]:
                del self._referrers[gone]
        for added in new - old:
            self._referrers[added].add(key)
        if new:
            self._targets[key] = new
        else:
            self._targets.pop(key, None)
        return old - new | {key for key in new - old if key.kind in _USED}

    def referrers(self, key: Key) -> list[Key]:
        """Objects that name ``key``, sorted."""
        return sorted(self._referrers.get(key, ()))


class Wakes:
    """Turns changes into keys to look at, and keeps what the dispatcher chooses from."""

    def __init__(self, ready: dispatcher.ReadyMissions, standings: Standings | None = None) -> None:
        self._index = ReferenceIndex()
        self._ready = ready
        self._standings = standings if standings is not None else Standings()
        self._selecting: set[Key] = set()  # missions that wait and have their agent chosen by labels
        self._choices: dict[Key, tuple[object, ...]] = {}  # what such a choice looks at, by agent
        self._shown: dict[Key, tuple[object, ...]] = {}  # what missions and others go by in an agent
        self._over: dict[str, set[Key]] = defaultdict(set)  # missions that wait for room in a budget, by namespace
        self._talking: set[Key] = set()  # sessions with something that is to go out
        self._open: dict[str, set[Key]] = defaultdict(set)  # sessions that are not closed, by the mission's uid
        self._owners: dict[Key, str] = {}  # the mission's uid of each of them
        self._budgets: dict[Key, tuple[object, ...]] = {}  # what is declared of a Budget
        self._awaiting: dict[str, Key] = {}  # missions that wait for a follow-up, by uid
        self._labels: dict[Key, tuple[object, ...]] = {}  # what Policies select agents by
        self._watched: dict[str, set[Key]] = defaultdict(set)  # sub-agents, by what their life depends on
        self._tenants: set[str] = set()
        self._standing: dict[Key, tuple[object, ...]] = {}  # what missions that wait say of a Provider
        self._budgets_of: dict[str, list[Key]] = {}  # by namespace, as the snapshot at hand has them
        self._said: dict[str, tuple[object, ...]] = {}  # what missions go by in their open runs, by uid
        self._names: dict[str, Key] = {}  # uid -> key, to notice a rename: it shows under its new key only

    def everything(self, snapshot: Snapshot, kinds: Iterable[str]) -> Iterator[Wake]:
        """Every object, for the start and the resync; Holds first, so that an e-stop is in force before work starts."""
        fresh = not self._names  # nothing is known yet, so that a mission which says nothing changes nothing
        for run in snapshot.objects("Run", states=ACTIVE_STATES):
            if run.status.get("post"):
                yield posts.timer_key(run), Priority.RESYNC
            if run.status.get("job"):
                yield jobs.timer_key(run), Priority.RESYNC
        for kind in sorted(kinds, key=lambda k: (k != "Hold", k != "ApprovalDecision", k)):
            for resource in skimmed.missions(snapshot) if kind == "Mission" else snapshot.objects(kind):
                if not fresh or kind != "Mission" or resource.spec or resource.status:
                    self._learn(resource)
                key = resource.key
                if kind == "Session" and resource.state == SessionState.CLOSED and not _waits(resource):
                    continue
                if kind in _NAMED:
                    self._names[resource.uid] = key
                yield key, Priority.URGENT if kind in _URGENT else Priority.RESYNC
                if kind == "Agent":
                    # All who go by it are looked at anyway: its next change is compared with what it is now.
                    self._shown_changed(key, resource)
                    self._choice_changed(key, resource)
                    yield dispatcher.key_of(key), Priority.RESYNC
                    if resource.status.get("spawned"):
                        yield sub_agents.key_of(key), Priority.RESYNC

    def of(self, snapshot: Snapshot, changes: Iterable[Change]) -> list[Wake]:
        """Keys that the changes concern, most urgent first, without duplicates."""
        changes = list(changes)
        self._budgets_of.clear()
        found = snapshot.get_many([c.key for c in changes if c.op is Op.PUT])
        wakes: dict[Key, Priority] = {}

        def wake(key: Key, priority: Priority) -> None:
            known = wakes.get(key)
            if known is None or priority > known:
                wakes[key] = priority

        for change in changes:
            resource = found.get(change.key)
            for key in self._renamed(change):
                wake(key, Priority.CHANGE)
            touched = self._forget(change.key) if resource is None else self._learn(resource)
            for target in touched:
                wake(target, Priority.CHANGE)  # it may wait for its last user to go, and say who that is
            if resource is None or not resource.status.get("conditions"):
                for hold in self._holds(snapshot, change.key):
                    wake(hold, Priority.CHANGE)
            for key, priority in self._concerned(snapshot, change, resource):
                wake(key, priority)
            for key in self._sub_agents(change, resource):
                wake(key, Priority.CHANGE)
        return sorted(wakes.items(), key=lambda item: -item[1])

    def _holds(self, snapshot: Snapshot, key: Key) -> Iterator[Key]:
        """Holds count what they match: a new object, and one that went away, concern them."""
        if key.kind in HOLDABLE:
            yield from (hold.key for hold in snapshot.objects("Hold"))

    def _renamed(self, change: Change) -> list[Key]:
        """Who named the object by the name that it no longer has."""
        before = self._names.get(change.uid)
        if change.op is Op.REMOVED:
            self._names.pop(change.uid, None)
        elif change.key.kind in _NAMED:
            self._names[change.uid] = change.key
        if before is None or before == change.key:
            return []
        self._forget(before)
        return self._index.referrers(before)

    def _sub_agents(self, change: Change, resource: Resource | None) -> Iterator[Key]:
        """Sub-agents whose life depends on what changed: themselves, their parent's run, their mission and its run."""
        if change.key.kind == "Agent":
            if resource is not None and resource.status.get("spawned"):
                yield sub_agents.key_of(change.key)
            yield from sorted(self._watched.get(change.uid, ()))
            return
        if change.key.kind not in ("Run", "Mission"):
            return
        if change.key.kind == "Run" and resource is not None and _works_on(resource):
            return
        for uid in (change.uid, change.owner_uid):
            yield from sorted(self._watched.get(uid, ()))

    def _forget(self, key: Key) -> frozenset[Key]:
        self._ready.forget(key)
        self._standing.pop(key, None)
        if key.kind == "Tenant":
            self._tenants.discard(key.name)
        counted = self._standings.forget(key)
        self._selecting.discard(key)
        self._talking.discard(key)
        self._session_closed(key)
        self._over[key.namespace].discard(key)
        if key.kind == "Agent":
            for uid in [uid for uid, watching in self._watched.items() if sub_agents.key_of(key) in watching]:
                self._watched[uid].discard(sub_agents.key_of(key))
                if not self._watched[uid]:
                    del self._watched[uid]
        return self._index.put(key, ()) | counted

    def _session_closed(self, key: Key) -> None:
        owner = self._owners.pop(key, None)
        if owner is not None:
            self._open[owner].discard(key)
            if not self._open[owner]:
                del self._open[owner]

    def _learn(self, resource: Resource) -> frozenset[Key]:
        counted: frozenset[Key] = frozenset()
        key = resource.key
        if resource.kind == "Mission":
            self._ready.learn(resource)
            counted = self._standings.learn(resource)
            if resource.spec.get("agentSelector") is not None and resource.state in ("Inbox", "Assigned"):
                self._selecting.add(key)
            else:
                self._selecting.discard(key)
            if resource.status.get("awaitsFollowUp"):
                self._awaiting[resource.uid] = resource.key
            else:
                self._awaiting.pop(resource.uid, None)
            waits = any(
                # Its own limit counts its own runs, whose end wakes it anyway.
                b.get("type") == "Budget" and b.get("ref") != OWN_LIMIT
                for b in resource.status.get("blockedOn", ())
            )
            (self._over[resource.namespace].add if waits else self._over[resource.namespace].discard)(key)
        elif resource.kind == "Agent":
            self._ready.learn_agent(resource)
        elif resource.kind == "Tenant":
            self._tenants.add(resource.name)
        elif resource.kind == "Provider":
            self._standing.setdefault(key, ())
        elif resource.kind == "Session":
            (self._talking.add if _waits(resource) else self._talking.discard)(key)
            if resource.state == SessionState.CLOSED:
                self._session_closed(key)
            else:
                self._open[resource.owner_uid].add(key)
                self._owners[key] = resource.owner_uid
        spawned = resource.status.get("spawned") if resource.kind == "Agent" else None
        if spawned:
            for uid in (spawned["runUid"], spawned["missionUid"], resource.labels.get(sub_agents.PARENT, "")):
                self._watched[uid].add(sub_agents.key_of(key))
        if resource.kind in ("Mission", "Agent", "Executor", "Tenant", "Waiver", "Schedule", "Goal", "Todo", "Project"):
            # A Tenant has no namespace: it means the one that it owns, which is called like it.
            targets = {r.target for r in references(resource.namespace or resource.name, resource.spec)}
            agent = resource.status.get("agent") if resource.kind == "Mission" else None
            served = resource.status.get("servingExecutor") if resource.kind == "Agent" else None
            if served:
                targets.add(Key("Executor", served.get("namespace") or resource.namespace, served["name"]))
            if agent:  # chosen by selector: the mission depends on it all the same
                targets.add(Key("Agent", agent.get("namespace") or resource.namespace, agent["name"]))
            return self._index.put(key, targets) | counted
        return frozenset()

    def _concerned(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        key = change.key
        waits = key.kind == "Session" and resource is not None and _waits(resource)
        if key.kind not in RECORDS_WITHOUT_PASS or waits:
            yield key, Priority.URGENT if key.kind in _URGENT else Priority.CHANGE
        handler = {
            "Mission": self._mission,
            "Agent": self._agent,
            "Executor": self._executor,
            "Policy": self._named_by,
            "Tenant": self._tenant,
            "Waiver": self._names_policies,
            "Hold": self._hold,
            "Run": self._owned,
            "ApprovalRequest": self._owned,
            "ApprovalDecision": self._decision,
            "Confirmation": self._sources,
            "Budget": self._room,
            "Provider": self._provider,
            "Session": self._session,
        }.get(key.kind)
        if handler is not None:
            yield from handler(snapshot, change, resource)

    def _named_by(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        for referrer in self._index.referrers(change.key):
            yield referrer, Priority.CHANGE

    def _executor(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        for key, priority in self._named_by(snapshot, change, resource):
            yield key, priority
            if key.kind == "Agent":
                yield dispatcher.key_of(key), priority

    def _mission(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        yield from self._named_by(snapshot, change, resource)
        if self._ready.has_parked(change.key.namespace):
            yield from self._taken_in(snapshot, change.key.namespace)
        agent = resource.status.get("agent") if resource is not None else None
        if agent and resource is not None:
            place = Key("Agent", agent.get("namespace") or resource.namespace, agent["name"])
            if resource.status.get("readySince"):
                yield dispatcher.key_of(place), Priority.CHANGE
            pool = self._ready.pool_of(place)
            if pool is not None and pool in self._standing:
                yield pool, Priority.RESYNC  # it says how many wait; many such changes are one
            if resource.state in TERMINAL_STATES or resource.deletion_at is not None:
                yield place, Priority.CHANGE
        if resource is None or resource.state in TERMINAL_STATES:
            self._awaiting.pop(change.uid, None)
            for session in sorted(self._open.get(change.uid, ())):
                yield session, Priority.CHANGE  # it closes
        if change.owner_uid and (resource is None or resource.state in TERMINAL_STATES):
            maker = snapshot.get_by_uid(change.owner_uid)
            if maker is not None and maker.kind in ("Schedule", "Goal", "Todo"):
                yield maker.key, Priority.CHANGE

    def _session(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        """Something was said, or is due now: the mission of an agent that waits for that goes on."""
        mission = self._awaiting.get(change.owner_uid or "")
        if mission is not None:
            yield mission, Priority.CHANGE

    def _agent(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        if self._shown_changed(change.key, resource):
            yield from self._named_by(snapshot, change, resource)
            yield dispatcher.key_of(change.key), Priority.CHANGE  # its counts follow runs, whose end wakes it
        yield from self._policies(snapshot, change.key, resource)
        if resource is not None:
            executor = resource.spec["executorRef"]
            if resource.deletion_at is not None:
                place = Key("Executor", executor.get("namespace") or resource.namespace, executor["name"])
                yield place, Priority.CHANGE
        if not self._choice_changed(change.key, resource):
            return
        for mission in sorted(self._selecting):
            if mission.namespace == change.key.namespace:
                yield mission, Priority.CHANGE

    def _shown_changed(self, key: Key, agent: Resource | None) -> bool:
        """Whether who names the agent has to look: at anything but its counts. Otherwise each run of an agent would
        wake every mission that it ever had."""
        if agent is None:
            self._shown.pop(key, None)
            return True
        rest = {name: value for name, value in agent.status.items() if name not in _COUNTS}
        # Nobody repeats what it says of a condition that holds: of a row of failures, for one, that grows.
        rest["conditions"] = [c | {"message": ""} if c["status"] == "True" else c for c in rest.get("conditions", ())]
        shown = (agent.uid, agent.generation, agent.labels, agent.annotations, agent.deletion_at, rest)
        changed = self._shown.get(key) != shown
        self._shown[key] = shown
        return changed

    def _policies(self, snapshot: Snapshot, key: Key, agent: Resource | None) -> Iterator[Wake]:
        """Policies count the agents that they hold for: one is new or gone, or its labels changed."""
        labels = (agent.labels, agent.deletion_at is None) if agent is not None else None
        if self._labels.get(key) == labels:
            return
        if labels is None:
            self._labels.pop(key, None)
        else:
            self._labels[key] = labels
        for policy in snapshot.objects("Policy"):
            yield policy.key, Priority.CHANGE

    def _names_policies(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        """A Policy that is named counts, and waits with its deletion, for who names it."""
        if resource is not None:
            for reference in references(resource.namespace or resource.name, resource.spec):
                if reference.target.kind == "Policy":
                    yield reference.target, Priority.CHANGE

    def _choice_changed(self, key: Key, agent: Resource | None) -> bool:
        """Whether missions with a selector may choose differently: an agent is new or gone, was edited, or gave away
        or got back its last place."""
        if agent is None:
            self._choices.pop(key, None)
            return True
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in agent.status.get("conditions", ()))
        places = int(agent.spec.get("maxConcurrentMissions", 1)) - int(agent.status.get("activeRuns", 0))
        choice = (ready and places > 0, agent.generation, agent.labels, agent.deletion_at is None)
        changed = self._choices.get(key) != choice
        self._choices[key] = choice
        return changed

    def _owned(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        waits = change.key.kind != "Run" or self._said_changed(change, resource)
        owner = self._owner(snapshot, change.owner_uid) if change.owner_uid and waits else None
        if owner is not None:
            yield owner, Priority.URGENT if change.key.kind == "ApprovalRequest" else Priority.CHANGE
        if change.key.kind == "ApprovalRequest" and (resource is None or resource.status.get("extension")):
            yield from self._room(snapshot, change, resource)
        agent = resource.spec.get("agentRef") if resource is not None and resource.kind == "Run" else None
        if agent is not None and resource is not None:
            place = Key("Agent", agent.get("namespace") or resource.namespace, agent["name"])
            yield place, Priority.CHANGE
            if resource.state not in ACTIVE_STATES:  # it gave its place back
                yield dispatcher.key_of(place), Priority.CHANGE
            if resource.status.get("post") and resource.status.get("report"):
                yield posts.timer_key(resource), Priority.CHANGE
            if resource.state != RunState.RUNNING:  # reserved or settled; a heartbeat moves no balance
                yield from self._room(snapshot, change, resource)
                yield from self._slots(resource, place)

    def _owner(self, snapshot: Snapshot, uid: str) -> Key | None:
        known = self._names.get(uid)
        if known is not None:
            return known
        owner = snapshot.get_by_uid(uid)
        return None if owner is None else owner.key

    def _said_changed(self, change: Change, run: Resource | None) -> bool:
        """Whether a mission makes anything of how its run stands now: not of a start, or of a sign of life."""
        if run is None or run.state not in ACTIVE_STATES:
            self._said.pop(change.uid, None)
            return True
        status = run.status
        post = status.get("post") or {}
        if status.get("job"):
            post = {"waitsFor": status["job"].get("waitsFor", "")}  # nothing else of its Job says more to a mission
        # Whoever orders a run writes its mission in the same transaction, which wakes it.
        before = self._said.get(change.uid, ("", {}, ""))
        said = (status.get("cancelRequestedAt", ""), post, status.get("message", "") if post else "")
        self._said[change.uid] = said
        return before != said

    def _slots(self, run: Resource, agent: Key) -> Iterator[Wake]:
        """A run was ordered or ended: its Provider and tenant count anew, and who waits for either looks again."""
        pool = pools.of_run(run)
        if pool is not None:
            if pool in self._standing:
                yield pool, Priority.CHANGE
            if run.state not in ACTIVE_STATES:
                yield from self._dispatch_pool(pool)
        if agent.namespace in self._tenants:
            yield Key("Tenant", "", agent.namespace), Priority.CHANGE
        if run.state not in ACTIVE_STATES:
            for waiting in self._ready.uncap(agent.namespace):
                yield dispatcher.key_of(waiting), Priority.CHANGE

    def _dispatch_pool(self, pool: Key) -> Iterator[Wake]:
        """Whichever of its agents is looked at, all are."""
        for agent in self._ready.sharing(pool)[:1]:
            yield dispatcher.key_of(agent), Priority.CHANGE

    def _provider(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        yield from self._dispatch_pool(change.key)
        status = resource.status if resource is not None else {}
        ready = next((c["reason"] for c in status.get("conditions", ()) if c["type"] == "Ready"), "")
        spec = resource.spec if resource is not None else {}
        standing = (ready, status.get("backoffUntil"), spec.get("suspend"), spec.get("maxConcurrency"))
        if self._standing.get(change.key) == standing:
            return
        if resource is not None:
            self._standing[change.key] = standing
        for mission in self._ready.next_of(change.key):
            yield mission, Priority.CHANGE

    def _taken_in(self, snapshot: Snapshot, tenant: str) -> Iterator[Wake]:
        """Missions above the ceiling for which there is room."""
        most = tenancy.limits(snapshot, tenant).max_waiting_missions
        for mission in self._ready.unparked(tenant, most - self._ready.count(tenant)):
            yield mission, Priority.CHANGE

    def _tenant(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        yield from self._names_policies(snapshot, change, resource)
        yield from self._room(snapshot, change, resource)
        for agent in self._ready.uncap(change.key.name):
            yield dispatcher.key_of(agent), Priority.CHANGE
        if self._ready.has_parked(change.key.name):
            yield from self._taken_in(snapshot, change.key.name)

    def _room(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        """Limits changed, or what counts against them: who waits for room looks again, and the Budgets count anew."""
        if change.key.kind == "Budget" and not self._budget_changed(change.key, resource):
            return  # its status follows the runs, which have woken everybody
        namespace = change.key.namespace or change.key.name
        for mission in sorted(self._over.get(namespace, ())):
            yield mission, Priority.CHANGE
        if change.key.kind != "Budget":
            if namespace not in self._budgets_of:
                self._budgets_of[namespace] = [b.key for b in snapshot.objects("Budget", namespace=namespace)]
            for budget in self._budgets_of[namespace]:
                yield budget, Priority.CHANGE
        else:
            for agent in snapshot.objects("Agent", namespace=namespace):
                yield dispatcher.key_of(agent.key), Priority.CHANGE

    def _budget_changed(self, key: Key, budget: Resource | None) -> bool:
        if budget is None:
            self._budgets.pop(key, None)
            return True
        declared = (budget.uid, budget.generation, budget.deletion_at)
        changed = self._budgets.get(key) != declared
        self._budgets[key] = declared
        return changed

    def _decision(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        if resource is not None:
            name = resource.spec.get("requestRef", {}).get("name", "")
            yield Key("ApprovalRequest", change.key.namespace, name), Priority.URGENT

    def _hold(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        """Everybody it may concern; first those that are at work where it stops them."""
        if change.key.namespace in self._tenants:
            yield Key("Tenant", "", change.key.namespace), Priority.OPERATOR
        stop = resource is not None and resource.spec.get("mode") == HoldMode.STOP
        for kind in ("Schedule", "Goal", "Project"):
            for maker in snapshot.objects(kind):
                yield maker.key, Priority.OPERATOR
        for agent in snapshot.objects("Agent"):
            yield agent.key, Priority.OPERATOR
            yield dispatcher.key_of(agent.key), Priority.OPERATOR
        for mission in snapshot.objects("Mission", states=_UNFINISHED):
            at_work = stop and mission.status.get("currentRun")
            yield mission.key, Priority.URGENT if at_work else Priority.OPERATOR
        for session in sorted(self._talking):
            yield session, Priority.OPERATOR

    def _sources(self, snapshot: Snapshot, change: Change, resource: Resource | None) -> Iterator[Wake]:
        for source in snapshot.objects("Source"):
            yield source.key, Priority.URGENT


def _waits(session: Resource) -> bool:
    """Whether something of a session is to happen by itself."""
    return bool(session.status.get("queue") or session.status.get("followUps"))


def _works_on(run: Resource) -> bool:
    """Whether a run is at work, and has not said its last word."""
    status = run.status
    return run.state == RunState.RUNNING and not status.get("report") and not status.get("cancelRequestedAt")
