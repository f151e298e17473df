"""No sequence of moves by agent, approvers, clock, policies, crashes and restarts lets an action through that people
did not approve, or lets one through twice.

The model keeps what was said, by whom and when, and works out from that alone whether an act was covered. The engine
under test is the whole of it: reconcilers, wakes, timers and store, under a clock that the test moves.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.base import Key
from schemas.mission import MissionState, Spend
from schemas.quantities import format_time, parse_time
from schemas.resource import Declared, Resource
from schemas.run import RunReason, RunState
from tests.fakes.consent import GateOffice
from tests.fakes.scratch import scratch
from tests.fakes.world import ALICE, World

HOUR = 3600.0
NOTHING = Spend(usd=Decimal(0), source="Reported")
WHATS = ("one", "two")
PEOPLE = ("ada", "bob", "cyd")
HELPERS = ("alice", "dora", "emil")
"""Admins who stay what they are, and never object."""
ROLES = ("Approver", "Approver", "Admin", "Viewer")

whats = st.sampled_from(WHATS)
people = st.sampled_from([*PEOPLE, "ada@example.org", "vic", "stranger", ""])
transports = st.sampled_from(["Store", "Git", "Git", "Chat", "Email"])
scopes = st.sampled_from(["Once", "Once", "Once", "Session", "Until"])
verdicts = st.sampled_from(["Approve", "Approve", "Approve", "Deny", "Revoke"])


@dataclass
class Said:
    """One answer that could count: somebody proven who might, to exactly this action."""

    at: datetime
    person: str
    verdict: str
    scope: str
    until: datetime | None


@dataclass
class Asked:
    """One request, and everything that was said to it. ``used`` holds the keys of the acts it let through."""

    name: str
    what: str
    run: str
    expires_at: datetime
    quorum: int
    said: list[Said] = field(default_factory=list)
    used: list[str] = field(default_factory=list)


class ConsentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="remit-consent-", dir=scratch()))
        self.world = World(self.folder)
        self.roles = dict.fromkeys(PEOPLE, "Approver") | {"vic": "Viewer"}
        self.quorum = 1
        self.asked: dict[str, Asked] = {}
        self.calls: dict[str, tuple[str, str]] = {}  # key -> (run, what)
        self.done: set[str] = set()  # keys of calls that were let through
        self.unheard: list[tuple[Asked, Said]] = []  # recorded, and no pass has looked at it yet

    @initialize(quorum=st.sampled_from([1, 1, 2]))
    def begin(self, quorum: int) -> None:
        self.office = GateOffice(self.world, retry="{maxAttempts: 20, backoff: {initial: 1s, max: 1s, jitter: 0}}")
        self._put("Tenant", "", "default", self._members())
        self.change_policy(quorum)

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What people declare.

    def _members(self) -> dict[str, object]:
        return {"members": [{"subject": f"user:{who}", "role": role} for who, role in self.roles.items()]
                + [{"subject": f"user:{who}", "role": "Admin"} for who in HELPERS]
                + [{"subject": "user:ada@example.org", "role": "Approver"}]}  # fmt: skip

    def _put(self, kind: str, namespace: str, name: str, spec: dict[str, object]) -> None:
        from schemas import registry

        typed = registry.by_kind(kind).spec.model_validate(spec).to_wire()
        with self.world.store.transaction(ALICE) as tx:
            current = tx.get(Key(kind, namespace, name))
            wanted = Declared(kind, namespace, name, typed)
            tx.create(wanted, manager="test") if current is None else tx.put_spec(current, wanted)
        self.world.settle()

    @rule(quorum=st.sampled_from([1, 1, 1, 2, 3]), who=st.sampled_from(["", *PEOPLE]), role=st.sampled_from(ROLES))
    def govern(self, quorum: int, who: str, role: str) -> None:
        self.change_policy(quorum)
        if who:
            self.roles[who] = role
            self._put("Tenant", "", "default", self._members())

    def change_policy(self, quorum: int) -> None:
        self.quorum = quorum
        self._put("Policy", "default", "house", {"approvals": {"quorum": quorum}})

    # The agent.

    @property
    def works(self) -> bool:
        mission = self.world.find("Mission", "a")
        run = mission.status.get("currentRun") if mission is not None else None
        return bool(run) and self.world.get("Run", str(run)).state in ("Pending", "Running")

    @precondition(lambda self: self.works)
    @rule(what=whats)
    def ask(self, what: str) -> None:
        self.act(what=what, again=False, crash=False, heard=False)

    @precondition(lambda self: self.works)
    @rule(what=whats, again=st.booleans(), crash=st.sampled_from([False, False, True]), heard=st.booleans())
    def act(self, what: str, again: bool, crash: bool, heard: bool) -> None:
        """Ask the gate. Under a key that was used before, it is the same act."""
        if heard:
            self.world.settle()
            self._hear()
        run = self.office.run.name
        earlier = [key for key, call in self.calls.items() if call == (run, what)]
        key = earlier[-1] if again and earlier else f"key-{self.office.number()}"
        sure = heard and not crash and key not in self.done and self._surely_covered(what)
        call = self.office.call(what, key, crash=crash)
        granted = call is not None and call.state == "Allowed"
        denied = key in earlier and call is not None and call.state == "Denied"  # what was refused stays so
        assert granted or not sure or denied, f"{what} was approved, and not let through"
        self._register()
        if call is None:
            return
        self.calls[key] = (run, what)
        assert granted or key not in self.done, "what was let through is answered otherwise"
        if not granted or key in self.done:
            return
        self.done.add(key)
        used = self.asked[str(call.status["approvalRequest"])]
        used.used.append(key)
        self._require_leave(used, what)

    def _register(self) -> None:
        for request in self.world.everything():
            if request.kind != "ApprovalRequest" or request.spec["type"] != "Action" or request.name in self.asked:
                continue
            expires = parse_time(str(request.spec["expiresAt"]))
            what = str(request.spec["action"]["args"]["text"])
            self.asked[request.name] = Asked(request.name, what, str(request.spec["run"]), expires, self.quorum)

    @precondition(lambda self: self.works and self._given())
    @rule(data=st.data(), times=st.sampled_from([1, 2, 2]))
    def act_at_once(self, data: st.DataObject, times: int) -> None:
        self.act_on_what_was_given(data, 0, times)

    @precondition(lambda self: self.works and self._given())
    @rule(data=st.data(), hours=st.sampled_from([0, 0, 0, 0.5, 2, 111, 112]), times=st.sampled_from([1, 2]))
    def act_on_what_was_given(self, data: st.DataObject, hours: float, times: int) -> None:
        """Soon, or so late that the leave has ended, before any pass has looked at the time."""
        what = self.asked[data.draw(st.sampled_from(self._given()))].what
        self.world.clock.tick(hours * HOUR)
        for _ in range(times):
            self.act(what=what, again=False, crash=False, heard=hours == 0)

    def _given(self) -> list[str]:
        return sorted(name for name, asked in self.asked.items() if self._request(asked).state == "Approved")

    @precondition(lambda self: self.works)
    @rule(how=st.sampled_from([*[""] * 5, "waits", "waits", "timeout", "fails", "unknown", "done"]))
    def end_run(self, how: str) -> None:
        if not how:
            return
        run = self.office.run.name
        if how == "waits":
            self.world.finish(run, spend=NOTHING, state=RunState.FAILED, reason=RunReason.AWAITING_APPROVAL)
        elif how == "timeout":
            self.world.finish(run, spend=NOTHING, state=RunState.TIMED_OUT)
        elif how == "unknown":
            self.world.finish(run, spend=NOTHING, state=RunState.UNKNOWN)
        elif how == "fails":
            self.world.finish(run, spend=NOTHING, state=RunState.FAILED)
        else:
            self.world.finish(run, spend=NOTHING)
        self.world.advance(2)

    @precondition(lambda self: self.world.find("Mission", "a") is not None and not self.works)
    @rule()
    def begin_anew(self) -> None:
        state = self.world.state("a")
        if state is MissionState.BLOCKED and self.world.status("a").review_request:
            request = self.world.get("ApprovalRequest", str(self.world.get("Mission", "a").status["reviewRequest"]))
            for who in HELPERS:
                self.office.answer(request, who)
        elif state in (MissionState.DONE, MissionState.FAILED):
            mission = self.world.get("Mission", "a")
            notes = {"remit.dev/retry-requested-at": f"t{self.office.number()}"}
            with self.world.store.transaction(ALICE) as tx:
                current = tx.get(mission.key)
                assert current is not None
                tx.put_spec(current, Declared("Mission", "default", "a", current.spec, current.labels, notes))
            self.world.settle()

    # People.

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), who=people, verdict=verdicts, transport=transports, scope=scopes, settle=st.booleans())
    def answer(self, data: st.DataObject, who: str, verdict: str, transport: str, scope: str, settle: bool) -> None:
        names = sorted(self.asked)
        asked = self.asked[data.draw(st.sampled_from(names))]
        stale = data.draw(st.sampled_from([False, False, False, True]))
        other = self.asked[data.draw(st.sampled_from(names))] if stale else asked
        request = self._request(asked)
        digest = str(self._request(other).spec["actionDigest"])
        until = self.world.now + timedelta(hours=data.draw(st.sampled_from([1, 50]))) if scope == "Until" else None
        more = {"scope": scope, **({"until": format_time(until)} if until is not None else {})}
        self.office.answer(request, who, verdict, transport=transport, digest=digest, settle=settle, **more)
        if transport == "Email" or not who or digest != request.spec["actionDigest"]:
            return
        if self._may(who):
            self.unheard.append((asked, Said(self.world.now, who, verdict, scope, until)))

    def _hear(self) -> None:
        for asked, said in self.unheard:
            asked.said.append(said)
        self.unheard.clear()

    @precondition(lambda self: self._open())
    @rule(data=st.data(), scope=scopes)
    def everybody_approves(self, data: st.DataObject, scope: str) -> None:
        """The way it should go: as many as it takes, each for themselves."""
        asked = self.asked[data.draw(st.sampled_from(self._open()))]
        request = self._request(asked)
        until = self.world.now + timedelta(hours=1) if scope == "Until" else None
        more = {"scope": scope, **({"until": format_time(until)} if until is not None else {})}
        for who in (*HELPERS, *PEOPLE):
            self.office.answer(request, who, **more)
            if self._may(who):
                self.unheard.append((asked, Said(self.world.now, who, "Approve", scope, until)))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), who=st.sampled_from(PEOPLE), verdict=st.sampled_from(["Deny", "Revoke"]))
    def somebody_objects(self, data: st.DataObject, who: str, verdict: str) -> None:
        asked = self.asked[data.draw(st.sampled_from(sorted(self._open() + self._given()) or sorted(self.asked)))]
        self.office.answer(self._request(asked), who, verdict)
        if self._may(who):
            self.unheard.append((asked, Said(self.world.now, who, verdict, "Once", None)))

    def _open(self) -> list[str]:
        return sorted(name for name, asked in self.asked.items() if self._request(asked).state == "Pending")

    def _may(self, who: str) -> bool:
        return who == "ada@example.org" or who in HELPERS or self.roles.get(who) in ("Approver", "Admin")

    # Time and trouble.

    @rule(hours=st.sampled_from([0.01, 0.01, 0.5, 1, 1, 20, 56, 112]))
    def wait(self, hours: float) -> None:
        self.world.advance(hours * HOUR)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    # What must hold.

    def _request(self, asked: Asked) -> Resource:
        return self.world.get("ApprovalRequest", asked.name)

    def _approvers(self, asked: Asked) -> set[str]:
        """People whose approval was in time and would be accepted now, each once."""
        said = [s for s in asked.said if s.verdict == "Approve" and s.at < asked.expires_at and self._may(s.person)]
        return {s.person.partition("@")[0] for s in said}

    def _require_leave(self, asked: Asked, what: str) -> None:
        now = self.world.now
        assert asked.what == what, "leave for one action let another through"
        assert len(self._approvers(asked)) >= max(asked.quorum, self.quorum), "too few people approved"
        assert not [s for s in asked.said if s.verdict == "Deny"], "it was refused"
        assert not [s for s in asked.said if s.verdict == "Revoke" and s.at > asked.said[0].at and self._was_given(s)]
        longest = max([asked.expires_at, *(s.until for s in asked.said if s.until is not None)])
        assert now < longest, "the leave had ended"
        approvals = [s for s in asked.said if s.verdict == "Approve"]
        if len(asked.used) > 1:
            assert any(s.scope != "Once" for s in approvals), "one approval, two acts"
        if all(s.scope != "Until" for s in approvals):
            assert now < asked.expires_at

    def _was_given(self, revoke: Said) -> bool:
        """Whether a Revoke took something back, as its own event says."""
        return any(
            e.reason == "Counted" and e.data.get("verdict") == "Revoke" and e.at == revoke.at
            for e in self.world.events("ApprovalDecided")
        )

    def _surely_covered(self, what: str) -> bool:
        """Whether nothing at all speaks against the act: plain approvals by enough people, unused, in time."""
        for asked in self.asked.values():
            request = self._request(asked)
            plain = asked.said and all((s.verdict, s.scope) == ("Approve", "Once") for s in asked.said)
            counted = {str(a["subject"]).removeprefix("user:").partition("@")[0] for a in request.status["approvals"]}
            enough = len(counted & self._approvers(asked)) >= max(asked.quorum, self.quorum)
            alive = request.state == "Approved" and not asked.used and self.world.now < asked.expires_at
            if asked.what == what and plain and enough and alive:
                return True
        return False

    @invariant()
    def each_act_used_a_leave_and_each_use_was_one_act(self) -> None:
        if not self.asked:
            return
        uses = {a.name: int(self._request(a).status.get("uses", 0)) for a in self.asked.values()}
        assert uses == {a.name: len(a.used) for a in self.asked.values()}
        assert len(self.done) == sum(uses.values())
        for asked in self.asked.values():
            status = self._request(asked).status
            assert status.get("scope") in ("Session", "Until") or uses[asked.name] <= 1

    @invariant()
    def nothing_is_dispatched_while_it_waits(self) -> None:
        if self.world.find("Mission", "a") is None:
            return
        status = self.world.status("a")
        if status.state is MissionState.NEEDS_APPROVAL:
            assert status.ready_since is None
            assert status.action_requests

    @invariant()
    def the_world_is_sound(self) -> None:
        decisions = [r for r in self.world.everything() if r.kind == "ApprovalDecision"]
        if all(r.status.get("conditions") for r in decisions):
            self._hear()
            self.world.check()


TestConsent = ConsentMachine.TestCase
TestConsent.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
