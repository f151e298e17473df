"""Short ways to the gate of a world: an agent asks, waits, and reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from controllers.gate.asking import OWN_PROGRAM, Asked
from controllers.gate.authorize import Gate
from controllers.runs import calls, reports
from controllers.runs.once import Once
from controllers.runs.run_record import agent_actor
from schemas.authorize import Decision
from schemas.base import Key
from schemas.mission import Spend
from schemas.passage import Passage
from schemas.protocol import ToolResultMessage
from schemas.quantities import from_micros
from schemas.resource import Resource
from schemas.tool_call import ToolCallStatus
from store.contract import Balance
from tests.fakes.world import World


@dataclass
class Desk:
    """Where the agents of a world ask."""

    world: World
    gate: Gate = field(default_factory=Gate)
    keys: Any = field(default_factory=lambda: count(1))

    def ask(
        self,
        run: str,
        tool: str,
        args: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        target: str = "",
        usd: str | None = None,
        tokens: int = 0,
        settle: bool = True,
        passage: Passage = OWN_PROGRAM,
    ) -> Decision:
        """Authorize a call; a key of its own unless one is given."""
        from decimal import Decimal

        estimate = None
        if usd is not None or tokens:
            estimate = Spend(usd=None if usd is None else Decimal(usd), input_tokens=tokens, source="Estimated")
        asked = Asked(tool, args or {}, key or f"call-{next(self.keys)}", target, estimate, passage=passage)
        resource = self.world.get("Run", run)
        with self.world.store.transaction(agent_actor(resource)) as tx:
            decision = self.gate.authorize(tx, resource.uid, asked)
        if settle:
            self.world.settle()
        return decision

    def collect(self, run: str, decision: Decision) -> Decision:
        """Ask what was decided, as the long poll does."""
        resource = self.world.get("Run", run)
        with self.world.store.transaction(agent_actor(resource)) as tx:
            found = self.gate.collect(tx, resource.uid, decision.decision_id)
        self.world.settle()
        return found

    def report(self, run: str, decision: Decision, *, ok: bool = True, error: str = "", usd: int | None = None) -> None:
        """Report the result of a call."""
        resource = self.world.get("Run", run)
        with self.world.store.transaction(agent_actor(resource)) as tx:
            call = calls.find(tx, resource.uid, decision.decision_id)
            once = Once.of(f"result-{next(self.keys)}")
            cost = None if usd is None else from_micros(usd)
            message = ToolResultMessage(tool=str(call.spec["tool"]), ok=ok, error=error or None, usd=cost)
            reports.tool_result(tx, resource.uid, message, call=call, once=once)
        self.world.settle()

    def call(self, decision: Decision) -> Resource:
        """The record of a call."""
        return self.world.get("ToolCall", decision.tool_call)

    def status(self, decision: Decision) -> ToolCallStatus:
        """Its status."""
        return ToolCallStatus.model_validate(self.call(decision).status)

    def request(self, decision: Decision) -> Resource:
        """What the person is asked."""
        assert decision.approval_request is not None
        return self.world.get("ApprovalRequest", decision.approval_request)

    def balance(self, account: str) -> Balance:
        """What a ledger account holds."""
        with self.world.store.snapshot() as snapshot:
            return snapshot.balance(account)

    def requests(self) -> list[Resource]:
        """Every question about an action."""
        with self.world.store.snapshot() as snapshot:
            return [r for r in snapshot.objects("ApprovalRequest") if r.spec["type"] == "Action"]

    def decide(self, name: str, verdict: str = "Approve", reason: str = "", **spec: object) -> Resource:
        """A person answers a request by its name."""
        from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
        from schemas.resource import Declared
        from tests.fakes.world import ALICE

        request = self.world.get("ApprovalRequest", name)
        subject = str(spec.pop("subject", "user:alice"))
        values = {
            "requestRef": {"name": request.name, "uid": request.uid},
            "actionDigest": request.spec["actionDigest"],
            "verdict": verdict,
            "reason": reason,
            **spec,
        }
        wire = ApprovalDecisionSpec.model_validate(values).to_wire()
        with self.world.store.transaction(ALICE) as tx:
            made = f"d{tx.latest_version()}-{subject.removeprefix('user:')}"
            status = ApprovalDecisionStatus(subject=subject, transport="Store")
            tx.create(Declared("ApprovalDecision", "default", made, wire), manager="cli/x", status=status.to_wire())
        self.world.settle()
        with self.world.store.snapshot() as snapshot:
            found = snapshot.get(Key("ApprovalDecision", "default", made))
        assert found is not None
        return found
