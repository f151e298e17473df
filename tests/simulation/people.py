"""What people do in a simulation: they commit specs, answer questions, place and release Holds, confirm plans.

They write past the engine's faults, as another process does (``remit approve`` has its own connection).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.confirmation import ConfirmationReason, ConfirmationSpec, ConfirmationStatus
from schemas.event import EventType
from schemas.hold import HoldSpec, HoldStatus
from schemas.resource import RECONCILE_REQUESTED_AT, RETRY_REQUESTED_AT, Actor, ActorKind, Declared
from schemas.source import SourceStatus
from store.contract import Store
from tests.fakes.memory_source import MemorySource
from tests.fakes.world import agent, executor, mission

ALICE = Actor(ActorKind.HUMAN, "user:alice", "Store")
AGENTS = ("ann", "bob")
LEVELS = ("Intern", "Specialist", "Lead")
POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house}
spec:
  selector: {}
  risk: {read_file: Green}
"""
BROKEN = "apiVersion: remit.dev/v1alpha1\nkind: Mission\nmetadata: {name: x}\nspec: {titel: 1\n"


@dataclass
class Wish:
    """One mission as a person wants it."""

    name: str
    agent: str | None
    review: str
    fields: dict[str, object] = field(default_factory=dict)
    retry: str = ""
    folder: str = ""

    @property
    def path(self) -> str:
        return f"{self.folder}m-{self.name}.yaml"

    def text(self) -> str:
        notes = f"{RETRY_REQUESTED_AT}: {self.retry}" if self.retry else ""
        fields = dict(self.fields)
        if self.agent == "any":
            fields["agentSelector"] = "{matchLabels: {pool: all}}"
        named = None if self.agent == "any" else self.agent
        return mission(
            self.name, agent=named, review=self.review, annotations=notes, labels=f"group: g{len(self.name)}", **fields
        )


class People:
    """Draws from ``random`` what they do next; each method says what was done, in a few words."""

    def __init__(self, random: Random, source: MemorySource, store: Store, now: datetime) -> None:
        self._random = random
        self._source = source
        self.store = store
        self._numbers = 0
        self._unrelated: list[str] = []
        self.wishes: dict[str, Wish] = {}
        self.places = {name: random.choice([1, 1, 2]) for name in AGENTS}
        self.suspended: set[str] = set()
        self.updates = {name: random.choice(["OnIdle", "Drain", "Immediate", "Manual"]) for name in AGENTS}
        self.prompts = dict.fromkeys(AGENTS, 0)
        self.levels = dict.fromkeys(AGENTS, LEVELS[0])
        self.tools = dict.fromkeys(AGENTS, 0)
        self.agents = set(AGENTS)
        self.policy = random.random() < 0.5
        self.broken: set[str] = set()
        for _ in range(random.randint(2, 7)):
            self._add()
        self._commit()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # Commits.

    def files(self) -> dict[str, str]:
        """The tree as they want it."""
        parts = [executor()]
        for name in sorted(self.agents):
            more: dict[str, object] = {"maxConcurrentMissions": self.places[name], "updatePolicy": self.updates[name]}
            if name in self.suspended:
                more["suspend"] = "true"
            if self.levels[name] != LEVELS[0]:
                more["autonomyLevel"] = self.levels[name]
            if self.tools[name]:
                more["tools"] = "[" + ", ".join(f"{{name: tool{n}}}" for n in range(self.tools[name])) + "]"
            if self.prompts[name]:
                more["systemPrompt"] = f"version {self.prompts[name]}"
            parts.append(
                agent(name, **more).replace(f"{{name: {name}}}", f"{{name: {name}, labels: {{pool: all}}}}", 1)
            )
        found = {"fleet.yaml": "---\n".join(parts)}
        found |= {w.path: w.text() for w in self.wishes.values()}
        if self.policy:
            found["policy.yaml"] = POLICY
        found |= {f"{name}.yaml": BROKEN for name in self.broken}
        return found

    def _commit(self, *, unrelated: bool = False) -> None:
        self._source.commit(self.files(), unrelated=unrelated)

    def commit(self) -> str:
        """Change something and commit it."""
        acts = [
            (8, self._add), (4, self._edit), (3, self._cancel), (4, self._assign), (4, self._ask_again),
            (3, self._remove), (1, self._remove_many), (2, self._restore), (2, self._move), (2, self._break),
            (3, self._mend), (2, self._tune), (1, self._drop_agent), (1, self._drop_policy), (1, self._rewrite),
            (1, self._replace), (1, self._touch),
        ]  # fmt: skip
        act = self._random.choices([a for _, a in acts], [w for w, _ in acts])[0]
        return act()

    def _pick(self) -> Wish | None:
        names = sorted(self.wishes)
        return self.wishes[self._random.choice(names)] if names else None

    def _add(self) -> str:
        random = self._random
        name = f"{random.choice('abc')}{self._number()}"
        fields: dict[str, object] = {"priority": random.choice(["Low", "Medium", "High"])}
        if self.wishes and random.random() < 0.35:
            needed = random.sample(sorted(self.wishes), min(len(self.wishes), random.choice([1, 1, 2])))
            fields["dependsOn"] = "[" + ", ".join(f"{{name: {n}}}" for n in needed) + "]"
        if random.random() < 0.5:
            fields["retry"] = f"{{maxAttempts: {random.randint(2, 4)}, backoff: {{initial: 5s, max: 1m}}}}"
        if random.random() < 0.2:
            fields["deadline"] = random.choice(["60s", "10m"])
        if random.random() < 0.3:
            fields["rerunPolicy"] = "OnChange"
        chosen = random.choice([*AGENTS, *AGENTS, "any", None])
        self.wishes[name] = Wish(name, chosen, random.choice(["None", "None", "Human"]), fields)
        self._commit()
        return f"commit: add {name}"

    def _edit(self) -> str:
        wish = self._pick()
        if wish is None:
            return self._add()
        wish.fields["title"] = f"edit {self._number()}"
        wish.fields["suspend"] = "true" if self._random.random() < 0.15 else "false"
        self._commit()
        return f"commit: edit {wish.name}"

    def _cancel(self) -> str:
        wish = self._pick()
        if wish is None:
            return self._add()
        wish.fields["desiredState"] = "Canceled"
        self._commit()
        return f"commit: cancel {wish.name}"

    def _assign(self) -> str:
        wish = self._pick()
        if wish is None:
            return self._add()
        wish.agent = self._random.choice([*AGENTS, *AGENTS, "any", None])
        self._commit()
        return f"commit: assign {wish.name} to {wish.agent}"

    def _ask_again(self) -> str:
        with self.store.snapshot() as snapshot:
            over = {m.name for m in snapshot.objects("Mission", states=["Failed", "Blocked", "Done"])}
        able = [self.wishes[name] for name in sorted(over & self.wishes.keys())]
        wish = self._random.choice(able) if able and self._random.random() < 0.7 else self._pick()
        if wish is None:
            return self._add()
        wish.retry = f"t{self._number()}"
        self._commit()
        return f"commit: retry {wish.name}"

    def _remove(self) -> str:
        wish = self._pick()
        if wish is None:
            return self._add()
        del self.wishes[wish.name]
        self._commit()
        return f"commit: remove {wish.name}"

    def _remove_many(self) -> str:
        self.wishes = {}
        self._commit()
        return "commit: remove all missions"

    def _restore(self) -> str:
        if len(self._source.branch) < 2:
            return self._add()
        self._source.commit(_texts(self._source, self._source.branch[-2]))
        return "commit: revert (what is wanted next stays)"

    def _move(self) -> str:
        wish = self._pick()
        if wish is None:
            return self._add()
        wish.folder = self._random.choice(["", "a/", "b/"])
        self._commit()
        return f"commit: move {wish.name} to {wish.path}"

    def _break(self) -> str:
        self.broken.add(f"bad{self._random.randint(1, 2)}")
        self._commit()
        return "commit: a broken file"

    def _mend(self) -> str:
        self.broken.clear()
        self._commit()
        return "commit: no broken file"

    def _tune(self) -> str:
        name = self._random.choice(AGENTS)
        self.agents.add(name)
        what = self._random.choice(["places", "prompt", "prompt", "suspend", "level", "tools"])
        if what == "places":
            self.places[name] = self._random.choice([1, 2, 3])
        elif what == "prompt":
            self.prompts[name] += 1
        elif what == "level":
            self.levels[name] = self._random.choice(LEVELS)
        elif what == "tools":
            self.tools[name] = self._random.randint(0, 3)
        else:
            self.suspended ^= {name}
        self._commit()
        return f"commit: {what} of {name}"

    def _drop_agent(self) -> str:
        name = self._random.choice(AGENTS)
        self.agents.discard(name)
        self._commit()
        return f"commit: no agent {name}"

    def _drop_policy(self) -> str:
        self.policy = not self.policy
        self._commit()
        return f"commit: policy {self.policy}"

    def _rewrite(self) -> str:
        if len(self._source.branch) > 2:
            self._source.push_force(self._source.branch[: -self._random.randint(1, 2)])
        return "force-push: an older commit"

    def _replace(self) -> str:
        kept = list(self._source.branch)
        self._source.commit({"other.yaml": "# another repository\n"}, unrelated=True)
        self._unrelated = self._unrelated or kept
        return "force-push: an unrelated history"

    def _touch(self) -> str:
        self._commit()
        return "commit: nothing"

    def undo_unrelated(self) -> str:
        """Push the history back that was replaced."""
        if self._unrelated:
            self._source.push_force(self._unrelated)
            self._unrelated = []
        return "force-push: the first history again"

    def mend(self) -> None:
        """Leave a good head: related, nothing broken."""
        with self.store.snapshot() as snapshot:
            source = snapshot.get(Key("Source", "default", "default"))
        applied = source.status.get("revision") if source is not None else None
        if applied:
            self._source.push_force([applied.rpartition(":")[2]])
        self.broken.clear()
        self._commit()

    # Acts.

    def act(self, now: datetime) -> str:
        """Do something past git."""
        return self._random.choices(
            [self._answer, self._hold, self._release, self._confirm, self._request_sync], [6, 2, 3, 3, 1]
        )[0](now)

    def _answer(self, now: datetime) -> str:
        with self.store.snapshot() as snapshot:
            requests = snapshot.objects("ApprovalRequest")
        waiting = [r for r in requests if r.state == "Pending"] or requests
        if not waiting:
            return "nothing to answer"
        request = self._random.choice(waiting)
        verdict = self._random.choices(["Approve", "Deny", "ChangesRequested"], [6, 1, 2])[0]
        stale = self._random.random() < 0.15
        times = 2 if self._random.random() < 0.2 else 1
        for _ in range(times):
            self.decide(
                request.name, request.uid, "sha256:" + "0" * 64 if stale else request.spec["actionDigest"], verdict
            )
        return f"{verdict} {request.name}" + (" (stale)" if stale else "") + (" twice" if times > 1 else "")

    def decide(self, name: str, uid: str, digest: str, verdict: str) -> None:
        """Answer a request."""
        values = {"requestRef": {"name": name, "uid": uid}, "actionDigest": digest, "verdict": verdict, "reason": "so"}
        spec = ApprovalDecisionSpec.model_validate(values)
        status = ApprovalDecisionStatus(subject="user:alice", transport="Store").to_wire()
        self._create("ApprovalDecision", f"d{self._number()}", spec.to_wire(), status, verdict)

    def _hold(self, now: datetime) -> str:
        random = self._random
        mode = random.choice(["Hold", "Drain", "Stop"])
        values: dict[str, Any] = {"mode": mode, "reason": "wait"}
        if random.random() < 0.25:
            values["scope"] = random.choice(["Tenant", "Global"])
        else:
            kind = random.choice(["Mission", "Agent", "Executor"])
            names = {"Mission": sorted(self.wishes) or ["nobody"], "Agent": list(AGENTS), "Executor": ["local"]}[kind]
            values["selector"] = {"kinds": [kind], "names": [random.choice(names)]}
        if random.random() < 0.5:
            values["until"] = now + timedelta(seconds=random.randint(5, 400))
        spec = HoldSpec.model_validate(values)
        status = HoldStatus(placed_by="user:alice", transport="Store").to_wire()
        name = f"h{self._number()}"
        self._create("Hold", name, spec.to_wire(), status, mode)
        return f"{mode} {name} on {values.get('scope') or values['selector']}"

    def _release(self, now: datetime) -> str:
        with self.store.snapshot() as snapshot:
            holds = snapshot.objects("Hold")
        if not holds:
            return "nothing to release"
        self.release(self._random.choice(holds).key)
        return "release a hold"

    def release(self, key: Key) -> None:
        """Take a Hold away."""
        with self.store.transaction(ALICE) as tx:
            found = tx.get(key)
            if found is not None:
                tx.event(EventType.HOLD_RELEASED, found, reason="Released", message="released")
                tx.remove(found)

    def pending(self) -> list[str]:
        """Digests of the plans that wait for confirmation."""
        with self.store.snapshot() as snapshot:
            sources = snapshot.objects("Source")
        found = [SourceStatus.model_validate(source.status) for source in sources]
        return [p.digest for status in found for u in status.units for p in u.pending]

    def _confirm(self, now: datetime) -> str:
        digests = self.pending()
        if not digests:
            return "nothing to confirm"
        if self._random.random() < 0.2:
            self.confirm("sha256:" + f"{self._number():064x}", now)
            return "confirm another plan"
        self.confirm(self._random.choice(digests), now)
        return "confirm a plan"

    def confirm(self, digest: str, now: datetime) -> None:
        """Release a plan."""
        spec = ConfirmationSpec.model_validate({"planDigest": digest})
        conditions = set_condition((), "Succeeded", None, ConfirmationReason.PENDING, "", now=now, generation=1)
        status = ConfirmationStatus(conditions=conditions, confirmed_by="user:alice", transport="Store").to_wire()
        self._create("Confirmation", f"c{self._number()}", spec.to_wire(), status, "Confirmed")

    def _request_sync(self, now: datetime) -> str:
        with self.store.transaction(ALICE) as tx:
            source = tx.get(Key("Source", "default", "default"))
            if source is not None:
                notes = {**source.annotations, RECONCILE_REQUESTED_AT: f"s{self._number()}"}
                tx.put_spec(
                    source, Declared(source.kind, source.namespace, source.name, source.spec, source.labels, notes)
                )
        return "remit sync"

    def _create(self, kind: str, name: str, spec: dict[str, Any], status: dict[str, Any], reason: str) -> None:
        with self.store.transaction(ALICE) as tx:
            made = tx.create(Declared(kind, "default", name, spec), manager="cli/alice", status=status)
            tx.event(EventType.CREATED, made, reason=reason, message="by hand")


def _texts(source: MemorySource, oid: str) -> dict[str, str]:
    kept = list(source.branch)
    source.push_force([oid])
    files = source.files
    source.push_force(kept)
    return files
