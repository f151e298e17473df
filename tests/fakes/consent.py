"""People and an agent around approvals, in a world: the agent asks for leave and acts as the gate lets it; people
answer under names that are proven as the transport would prove them."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any

from controllers.gate.asking import Asked
from controllers.gate.authorize import Gate
from controllers.reconcilers import consent, leaves
from controllers.runs.run_record import agent_actor
from decisions.approvals import Allowance
from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.approval_request import ApprovalRequestSpec, RequestType
from schemas.base import Key
from schemas.event import EventType
from schemas.resource import SYSTEM, Actor, ActorKind, Declared, Resource, digest
from store.contract import Transaction
from tests.fakes.world import World, agent, executor, mission


def policy(name: str = "house", **approvals: object) -> str:
    """A Policy that says how people are asked."""
    lines = "".join(f"    {key}: {value}\n" for key, value in approvals.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\nspec:\n  approvals:\n{lines}"
        if lines
        else f"apiVersion: remit.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\nspec: {{description: none}}\n"
    )


def tenant(**roles: str) -> str:
    """The tenant ``default`` with these members: name=Role."""
    members = "".join(f"  - {{subject: 'user:{name}', role: {role}}}\n" for name, role in roles.items())
    return "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: default}\nspec:\n" + (
        f"  members:\n{members}" if members else "  displayName: nobody\n"
    )


class Office:
    """One agent at work on mission ``a``, and the people it asks. ``acts`` lists what was let through, in order."""

    worker = agent()

    def __init__(self, world: World, *more: str, start: bool = True, **fields: object) -> None:
        self.world = world
        self.acts: list[str] = []
        self._count = 0
        files = {"fleet.yaml": executor() + "---\n" + self.worker, "m.yaml": mission("a", **fields)}
        world.commit(files | {f"more{i}.yaml": text for i, text in enumerate(more)})
        if start:
            world.sync()

    @property
    def run(self) -> Resource:
        """The run that is open, or was."""
        return self.world.get("Run", str(self.world.get("Mission", "a").status["lastRun"]))

    def number(self) -> int:
        self._count += 1
        return self._count

    # The agent.

    def ask(self, what: str = "mail", *, settle: bool = True) -> Resource:
        """Ask for leave to do ``what``, as the gate does; asking again is the same question."""
        with self.world.store.transaction(SYSTEM) as tx:
            key = self._ask(tx, what)
        if settle:
            self.world.settle()
        return self.world.get("ApprovalRequest", key.name)

    def _ask(self, tx: Transaction, what: str) -> Key:
        run = tx.get(self.run.key)
        assert run is not None
        action = self.action(what)
        open_one = leaves.waiting(tx, run, digest(action))
        if open_one is not None:
            return open_one.key
        owner, asker = tx.get_by_uid(str(run.spec["missionUid"])), tx.get_by_uid(str(run.spec["agentUid"]))
        assert owner is not None
        spec = ApprovalRequestSpec(
            type=RequestType.ACTION,
            subject=str(owner.key),
            subject_uid=owner.uid,
            run=run.name,
            requester="agent:default/worker",
            title=f"{what}?",
            action=action,
            action_digest=digest(action),
            risk="Red",
            rule="the built-in table",
            **asdict(consent.terms(tx, "default", asker, tx.now, authored=owner)),
        )
        name = f"ask-{self.number()}"
        request = tx.create(
            Declared("ApprovalRequest", "default", name, spec.to_wire()),
            manager="controller/gate",
            owner_uid=owner.uid,
            status=consent.first_status(spec, tx.now).to_wire(),
        )
        tx.event(EventType.APPROVAL_REQUESTED, request, reason="Action", message=spec.title)
        return request.key

    def action(self, what: str) -> dict[str, Any]:
        """The exact action; another ``what`` is another one."""
        return {"tool": "send_email", "args": {"text": what}}

    def act(self, what: str = "mail", *, key: str = "", crash: bool = False) -> Allowance | None:
        """Do ``what`` if a leave covers it, in one transaction with the use of the leave; None when none does.
        ``crash``: the transaction is lost at its end."""
        key = key or f"call-{self.number()}"
        try:
            with self.world.store.transaction(SYSTEM) as tx:
                run = tx.get(self.run.key)
                assert run is not None
                wanted = digest(self.action(what))
                request = self._used(tx, run, key) or leaves.standing(tx, run, wanted)
                if request is None:
                    leaves.waiting(tx, run, wanted)
                    return None
                outcome = leaves.consume(tx, request, leaves.By(run, wanted, key))
                if crash:
                    raise Crash
        except Crash:
            return None
        if outcome.granted and not outcome.repeated:
            self.acts.append(what)
        self.world.settle()
        return outcome

    def _used(self, tx: Transaction, run: Resource, key: str) -> Resource | None:
        found = tx.objects("ApprovalRequest", owner_uid=str(run.spec["missionUid"]))
        return next((r for r in found if r.status.get("consumedBy") == key), None)

    # People.

    def answer(
        self, request: Resource, who: str = "alice", verdict: str = "Approve", *, transport: str = "Store",
        digest: str = "", groups: tuple[str, ...] = (), settle: bool = True, **more: object,
    ) -> Key:  # fmt: skip
        """``who`` answers; the key of the decision. ``who`` "" is somebody unproven."""
        values = {
            "requestRef": {"name": request.name, "uid": request.uid},
            "actionDigest": digest or request.spec["actionDigest"],
            "verdict": verdict,
            **more,
        }
        spec = ApprovalDecisionSpec.model_validate(values)
        name = f"d{self.number()}"
        subject = f"user:{who}" if who else ""
        with self.world.store.transaction(Actor(ActorKind.HUMAN, subject or "user:nobody", transport)) as tx:
            tx.create(
                Declared("ApprovalDecision", "default", name, spec.to_wire()),
                manager="cli/x",
                status=ApprovalDecisionStatus(subject=subject, transport=transport, groups=groups).to_wire(),
            )
        if settle:
            self.world.settle()
        return Key("ApprovalDecision", "default", name)

    def judged(self, decision: Key) -> str:
        """``True/Counted`` and the like."""
        return self.world.reason("ApprovalDecision", decision.name, "Succeeded")

    def state(self, request: Resource) -> str:
        """Where a request stands now."""
        return self.world.get("ApprovalRequest", request.name).state


class GateOffice(Office):
    """The same people around the gate itself: asking and acting are one call, under a key."""

    worker = agent(autonomyLevel="Specialist", tools="[{name: push_tag}]")

    def call(self, what: str, key: str, *, crash: bool = False) -> Resource | None:
        """Ask the gate for one act under ``key``; the record of the call, None when the transaction was lost."""
        run = self.run
        try:
            with self.world.store.transaction(agent_actor(run)) as tx:
                decision = self.gate.authorize(tx, run.uid, Asked("push_tag", {"text": what}, key))
                if crash:
                    raise Crash
        except Crash:
            return None
        self.world.settle()
        return self.world.get("ToolCall", decision.tool_call)

    @cached_property
    def gate(self) -> Gate:
        """What holds the compiled policies; one for the life of the engine."""
        return Gate()


class Crash(Exception):
    """The process dies before its transaction commits."""
