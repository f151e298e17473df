"""The history checker: looks at the event log and the store, never at what an engine keeps in memory.

``observe`` runs after every step, ``rest`` when nothing moves, ``end`` after everything has healed. Each raises
``Violation`` that names the invariant and the object.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from decisions.moves import legal_moves
from schemas import condition_check, registry
from schemas.base import Key
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.quantities import parse_time
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES
from store.contract import Event, Snapshot, Store
from tests.fakes.scripted_executor import ScriptedExecutor

_PEOPLE = frozenset({"Review", "Person", "Hold", "Dependency", "Agent"})
"""What a mission may wait for when nothing happens any more without a person."""
_CLOCK_PROBLEMS = ("changed before the object was made", "ends before it began")
"""What a clock that was set back makes of honest times."""


UNITS = ("default:.", "team:.")


@dataclass(frozen=True)
class Before:
    """What there was before a look at a source."""

    declared: set[Key]
    busy: set[Key]
    foreign: set[Key]


class Violation(AssertionError):
    """An invariant does not hold."""


def require(holds: bool, what: str) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(what)


class History:
    """Follows one store."""

    def __init__(self, store: Store, executor: ScriptedExecutor) -> None:
        self.store = store
        self._executor = executor
        self._seq = 0
        self._states: dict[str, MissionState] = {}
        self.dispatched: dict[str, str] = {}
        self.finished: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.guards: set[str] = set()
        self.clock_set_back = False

    # After each step.

    def observe(self, now: datetime) -> list[Event]:
        """Check what the last step appended, and what must hold between any two transactions."""
        with self.store.snapshot() as snapshot:
            events = snapshot.events(after=self._seq, limit=100_000)
            for event in events:
                require(event.seq == self._seq + 1, f"the log has a gap after {self._seq}")
                self._seq = event.seq
                self.counts[event.type] += 1
                if event.type == "GuardRaised":
                    self.guards.add(event.reason)
                if event.type == "Transitioned":
                    self._transition(event)
                elif event.type == "Dispatched":
                    self._dispatch(snapshot, event, now)
                elif event.type == "RunFinished":
                    require(event.subject_uid not in self.finished, f"{event.subject} ended twice")
                    self.finished[event.subject_uid] = str(event.data["state"])
            if events:
                self._runs(snapshot)
        twice = [uid for uid, count in self._executor.starts.items() if count > 1]
        require(not twice, f"runs started twice: {twice}")
        unknown = [uid for uid in self._executor.starts if uid not in self.dispatched]
        require(not unknown, f"runs started that nobody ordered: {unknown}")
        return events

    def _transition(self, event: Event) -> None:
        before = self._states.get(event.subject_uid, MissionState.INBOX)
        origin, to = MissionState(event.data["from"]), MissionState(event.data["to"])
        require(origin is before, f"{event.subject} moved from {origin}, but it was {before}")
        legal = legal_moves(origin, event.actor.kind)
        require(to in legal, f"{event.subject}: {origin} -> {to} by {event.actor.kind}")
        self._states[event.subject_uid] = to

    def _dispatch(self, snapshot: Snapshot, event: Event, now: datetime) -> None:
        """Holds and dependencies are as they were when it was ordered: its transaction touched neither."""
        run = snapshot.get(event.subject)
        require(run is not None, f"{event.subject} was ordered and is not there")
        assert run is not None
        require(run.uid not in self.dispatched, f"{event.subject} was ordered twice")
        self.dispatched[run.uid] = run.owner_uid
        mission = snapshot.get_by_uid(run.owner_uid)
        assert mission is not None
        agent = snapshot.get_by_uid(str(run.spec["agentUid"]))
        assert agent is not None
        objects = [mission, agent]
        executor = snapshot.get(Key("Executor", "default", str(run.spec["executorRef"]["name"])))
        if executor is not None:
            objects.append(executor)
        for hold in snapshot.objects("Hold"):
            require(
                not _bites(hold, objects, now), f"{mission.key} was ordered while {hold.key} was in force: {hold.spec}"
            )
        for ref in mission.spec.get("dependsOn", ()):
            needed = snapshot.get(Key("Mission", "default", ref["name"]))
            require(needed is not None and needed.state == "Done", f"{mission.key} was ordered before {ref['name']}")
        require(mission.spec.get("desiredState") != "Canceled", f"{mission.key} is declared canceled and was ordered")
        require(not mission.spec.get("suspend"), f"{mission.key} is suspended and was ordered")
        require(mission.deletion_at is None, f"{mission.key} is being deleted and was ordered")
        require(agent.deletion_at is None, f"{agent.key} is being deleted and got {mission.key}")
        require(not agent.spec.get("suspend"), f"{agent.key} is suspended and got {mission.key}")
        open_runs = [r for r in snapshot.objects("Run", states=ACTIVE_STATES) if r.spec["agentUid"] == agent.uid]
        places = int(agent.spec.get("maxConcurrentMissions", 1))
        require(len(open_runs) <= places, f"{agent.key} has {places} places and {len(open_runs)} open runs")

    def _runs(self, snapshot: Snapshot) -> None:
        open_runs = snapshot.objects("Run", states=ACTIVE_STATES)
        owners = Counter(r.owner_uid for r in open_runs)
        many = [uid for uid, count in owners.items() if count > 1]
        require(not many, f"missions with several open runs: {many}")
        reserved = {e.key for e in snapshot.open_reservations()}
        expected = {f"reserve/run/{r.uid}" for r in open_runs}
        require(reserved == expected, f"reservations {sorted(reserved ^ expected)} do not fit the open runs")
        for run in open_runs:
            require(run.uid not in self.finished, f"{run.key} ended and is open")
            mission = snapshot.get_by_uid(run.owner_uid)
            current = mission.status.get("currentRun") if mission is not None else None
            require(current == run.name, f"{run.key} is open and its mission works on {current}")

    # Around a look at the source.

    def before_sync(self, unit: str) -> Before:
        """What is declared in the unit and not ending, what has open runs, what belongs to other units."""
        with self.store.snapshot() as snapshot:
            declared = {r.key for r in snapshot.list_unit(unit) if r.deletion_at is None}
            foreign = {key for other in UNITS if other != unit for key in snapshot.unit_keys(other)}
            busy: set[Key] = set()
            for run in snapshot.objects("Run", states=ACTIVE_STATES):
                busy.add(Key("Mission", run.namespace, run.spec["missionRef"]["name"]))
                busy.add(Key("Agent", run.namespace, run.spec["agentRef"]["name"]))
        return Before(declared, busy, foreign)

    def after_sync(self, before: Before, events: list[Event], *, usable: bool) -> None:
        """Deletions were few, of what rests, or confirmed; an unusable source changed nothing, and none what is
        another's."""
        declared, busy = before.declared, before.busy
        taken = {e.subject for e in events if e.type in ("Updated", "Moved", "Widened", "DeletionRequested")}
        require(not taken & before.foreign, f"changed what is another's: {sorted(map(str, taken & before.foreign))}")
        gone = {e.subject for e in events if e.type == "DeletionRequested" and e.reason == "NotDeclared"}
        touched = [str(e.subject) for e in events if e.type in ("Created", "Updated", "Widened", "Moved")]
        if not usable:
            require(not gone and not touched, f"an unusable source changed {sorted(map(str, gone))} {touched}")
        if not gone or any(e.type == "GuardConfirmed" for e in events):
            return
        require(not any(k.kind in ("Policy", "Budget", "Hold") for k in gone), f"a limit went unconfirmed: {gone}")
        limit = max(5, len(declared) // 5)
        require(len(gone) <= limit and gone != declared, f"{len(gone)} of {len(declared)} deleted unconfirmed")
        require(not gone & busy, f"deleted at work and unconfirmed: {sorted(map(str, gone & busy))}")

    # When nothing moves.

    def everything(self) -> list[Resource]:
        """Every object there is."""
        with self.store.snapshot() as snapshot:
            return [r for name in registry.NAMES for r in snapshot.objects(name.kind)]

    def rest(self) -> list[Resource]:
        """Conditions are sound; who does not move says why; states agree with the log."""
        resources = self.everything()
        problems = [str(p) for p in condition_check.all_problems(resources)]
        if self.clock_set_back:
            problems = [p for p in problems if not any(text in p for text in _CLOCK_PROBLEMS)]
        require(not problems, f"conditions: {problems[:3]}")
        for resource in resources:
            if resource.kind == "Mission":
                known = self._states.get(resource.uid, MissionState.INBOX)
                require(resource.state == known, f"{resource.key} is {resource.state}, the log says {known}")
                waits = resource.status.get("blockedOn") or resource.status.get("currentRun")
                if any(w["type"] == "Capacity" for w in resource.status.get("blockedOn", ())):
                    self._full(resource, resources)
                require(bool(waits) or known in TERMINAL_STATES, f"{resource.key} is {known} and says nothing")
            elif resource.kind == "Run":
                ended = self.finished.get(resource.uid)
                wanted = ended or "Pending/Running"
                require(resource.state in wanted, f"{resource.key} is {resource.state}, the log says {wanted}")
        return resources

    def _full(self, mission: Resource, resources: list[Resource]) -> None:
        """Who waits for a place of its agent waits for one that has none."""
        agent = next(r for r in resources if r.kind == "Agent" and r.name == mission.status["agent"]["name"])
        taken = sum(
            r.kind == "Run" and r.uid not in self.finished and r.spec["agentUid"] == agent.uid for r in resources
        )
        places = int(agent.spec.get("maxConcurrentMissions", 1))
        require(taken >= places, f"{mission.key} waits for a place of {agent.key}, which has {places - taken} free")

    def end(self, acknowledged: dict[int, str], now: datetime) -> None:
        """After healing: all of it came to an end, or waits for a person; and nothing was forgotten."""
        resources = {r.key: r for r in self.rest()}
        with self.store.snapshot() as snapshot:
            report = snapshot.verify_events()
            require((report.broken_seq, report.problem) == (0, ""), f"chain: {report}")
            log = {e.seq: f"{e.type} {e.subject}" for e in snapshot.events(limit=1_000_000)}
            lost = {seq: text for seq, text in acknowledged.items() if log.get(seq) != text}
            require(not lost, f"acknowledged events are lost: {lost}")
            effects = [e for e in snapshot.effects(limit=100_000) if e.state in ("Pending", "Claimed")]
            require(not effects, f"effects are left: {[(e.key, e.state, e.last_error) for e in effects]}")
            require(not snapshot.open_reservations(), "a reservation is left")
        left = sorted(uid for uid in self.dispatched if uid not in self.finished)
        require(not left, f"runs never ended: {left}")
        for resource in resources.values():
            if resource.deletion_at is not None:
                require(resource.kind in ("Agent", "Executor"), f"{resource.key} is still being deleted")
            if resource.kind == "Mission" and MissionState(resource.state) not in TERMINAL_STATES:
                waits = {b["type"] for b in resource.status.get("blockedOn", ())}
                require(bool(waits & _PEOPLE), f"{resource.key} is {resource.state} and waits for {sorted(waits)}")
                self._believable(resource, resources, now)

    def _believable(self, mission: Resource, resources: dict[Key, Resource], now: datetime) -> None:
        """What it says it waits for is there."""
        for wait in mission.status["blockedOn"]:
            if wait["type"] == "Hold" and wait["ref"].startswith("Hold/"):
                key = Key("Hold", *wait["ref"].split("/")[1:])
                require(key in resources, f"{mission.key} waits for {key}, which is gone")
            elif wait["type"] == "Dependency":
                needed = resources.get(Key("Mission", *wait["ref"].split("/")[1:]))
                require(
                    needed is None or needed.state != "Done", f"{mission.key} waits for {wait['ref']}, which is Done"
                )
            elif wait["type"] == "Agent":
                agent = resources.get(Key("Agent", *wait["ref"].split("/")[1:]))
                ready = agent is not None and any(
                    c["type"] == "Ready" and c["status"] == "True" and c["reason"] != "Draining"
                    for c in agent.status.get("conditions", ())
                )
                ending = agent is not None and agent.deletion_at is not None
                require(not ready or ending, f"{mission.key} waits for {wait['ref']}, which is ready")
            elif wait["type"] in ("Review", "Person") and wait["ref"].startswith("ApprovalRequest/"):
                request = resources.get(Key("ApprovalRequest", *wait["ref"].split("/")[1:]))
                require(request is not None, f"{mission.key} waits for {wait['ref']}, which is not there")
                assert request is not None
                pending = request.state == "Pending"
                require(pending, f"{mission.key} waits for {wait['ref']}, which is {request.state}")


def _bites(hold: Resource, objects: list[Resource], now: datetime) -> bool:
    """Whether a Hold is in force on any of the objects; told apart from ``decisions.holds`` on purpose."""
    until = hold.spec.get("until")
    if hold.deletion_at is not None or (until and parse_time(until) <= now):
        return False
    if hold.spec.get("scope"):
        return True
    selector = hold.spec["selector"]
    return any(o.kind in selector["kinds"] and o.name in selector["names"] for o in objects)
