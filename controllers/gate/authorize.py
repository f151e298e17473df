"""May this call go ahead? Decided, paid for and recorded in one transaction.

One idempotency key is one call, one ToolCall and, at most, one effect. The same key again gets the answer as it stands:
an allowed or refused call stays so; one that waits for a person is decided anew with what holds by then, and the leave
that was given meanwhile is used up by it. Another key is another call, also with the same arguments: it is decided by
itself, shares an open question with its twin, and needs a leave of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from controllers.gate import call_record, leave, money, rules
from controllers.gate.around import Around, Surroundings
from controllers.gate.asking import Asked, Asker
from controllers.gate.held import as_it_stands, held
from controllers.gate.money import Money
from controllers.gate.shown import AS_IT_IS, words
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import missions, spending
from controllers.runs import calls
from controllers.runs.reports import require_open
from controllers.runs.run_record import RunRecord
from decisions.policy.decide import decide
from decisions.policy.facts import Barrier, Call, Circumstances, Finding, Ruling
from schemas.approval_request import RequestState
from schemas.authorize import Decision
from schemas.base import Key
from schemas.errors import Refused
from schemas.mission import DesiredState
from schemas.passage import CallChannel, Passage
from schemas.policy import Risk, Verdict
from schemas.quantities import from_micros
from schemas.redaction import HIDDEN
from schemas.resource import Resource, digest
from schemas.tool_call import ToolCallReason, ToolCallSpec, ToolCallState, ToolCallStatus
from store.contract import Snapshot, Transaction

Limit = Callable[[Transaction, Resource, Call], Barrier | None]
"""What an autonomy limit says of a call of a run."""


KEY_DEAD = "KeyDead"
"""Reason of a refusal: the token counts no more, although its run is open."""


class Gate:
    """Decides for every run of a store. Holds nothing but compiled policies; shared by threads.
    ``stops`` is what stops work beside the store."""

    def __init__(
        self, rulebook: rules.Rulebook | None = None, *, limits: Sequence[Limit] = (), stops: Stops = other.NONE
    ) -> None:
        """``stops`` is what stops work beside the Holds in the store."""
        self.stops = stops
        self._rulebook = rulebook or rules.Rulebook()
        self._surroundings = Surroundings(self._rulebook)
        self._limits = tuple(limits)

    @property
    def rulebook(self) -> rules.Rulebook:
        """What holds for each agent."""
        return self._rulebook

    def authorize(self, tx: Transaction, run_uid: str, asked: Asked) -> Decision:
        """The answer to one call. Raises Refused: RunEnded, AlreadyReported, KeyDead, KeyReused,
        NobodyAsks."""
        target = words(asked.target, call_record.TARGET, AS_IT_IS)
        asked = asked if target == asked.target else replace(asked, target=target)
        record = _open_run(tx, run_uid)
        call = tx.get(calls.key_of(record.run, asked.key))
        if call is not None and not call_record.is_of(asked, ToolCallSpec.model_validate(call.spec)):
            raise Refused(
                "this Idempotency-Key was used for another call of this run; a new call takes a new key",
                reason="KeyReused",
            )
        if call is not None and call.state != ToolCallState.ASKING:
            found = call_record.decision(call, _request_of(tx, call))
            return as_it_stands(tx, record.run, found, self.stops, tx.now)
        record.came_through(asked.passage)
        around = self._surroundings.of(tx, record)
        with tx.acting(around.actor):
            return self._decide(tx, record, around, asked, call)

    def look_up(self, tx: Transaction, asked: Sequence[tuple[str, Asked]]) -> None:
        """Ask in one go which of these calls (uid of the run, what is asked) were made before, for ``authorize``, which
        would ask for each."""
        if len(asked) > 1:
            of_runs = [(tx.get_by_uid(run_uid), one.key) for run_uid, one in asked]
            tx.get_many([calls.key_of(run, key) for run, key in of_runs if run is not None])

    def look(self, snapshot: Snapshot, run: Resource, decision_id: str, now: datetime) -> Decision:
        """The answer as it stands; changes nothing. Raises NotFound for what is no decision of this run."""
        call = calls.find(snapshot, run.uid, decision_id)
        return as_it_stands(snapshot, run, call_record.decision(call, _request_of(snapshot, call)), self.stops, now)

    def question(self, snapshot: Snapshot, namespace: str, decision: Decision) -> Resource | None:
        """The request that a decision waits for, or waited for."""
        name = decision.approval_request
        return snapshot.get(Key("ApprovalRequest", namespace, name)) if name else None

    def is_news(self, snapshot: Snapshot, run_uid: str, decision_id: str) -> bool:
        """Whether ``collect`` has something to do: a call that waits, and a question that does not."""
        call = calls.find(snapshot, run_uid, decision_id)
        if call.state != ToolCallState.ASKING:
            return False
        request = _request_of(snapshot, call)
        return request is None or request.state != RequestState.PENDING

    def collect(self, tx: Transaction, run_uid: str, decision_id: str) -> Decision:
        """The answer, after taking in what a person said: a leave is used up by the call that it allows. Where the
        arguments are not kept as they were, because they held a secret, they are asked for again. Raises NotFound,
        Refused."""
        record = _open_run(tx, run_uid)
        call = calls.find(tx, run_uid, decision_id)
        request = _request_of(tx, call)
        if call.state != ToolCallState.ASKING or (request is not None and request.state == RequestState.PENDING):
            return as_it_stands(tx, record.run, call_record.decision(call, request), self.stops, tx.now)
        spec = ToolCallSpec.model_validate(call.spec)
        if digest(spec.args) != spec.args_digest or HIDDEN in spec.target:
            return call_record.decision(call, request, again=True)
        status = ToolCallStatus.model_validate(call.status)
        passage = Passage(channel=spec.channel or CallChannel.CLIENT, placed=spec.placed)
        asked = Asked(spec.tool, spec.args, spec.idempotency_key, spec.target, spec.estimate, status.risk, passage)
        around = self._surroundings.of(tx, record)
        with tx.acting(around.actor):
            return self._decide(tx, record, around, asked, call)

    def _decide(
        self, tx: Transaction, record: RunRecord, around: Around, asked: Asked, call: Resource | None
    ) -> Decision:
        asker = around.asker(record)
        cost = money.budget(tx, asker, asked, around.falls)
        ruling = self._ruling(tx, asker, around, asked, cost)
        if asker.record.changed:
            asker.record.save()
        if ruling.verdict is Verdict.DENY:
            return _denied(tx, asker, asked, call, ruling, cost)
        if ruling.verdict is Verdict.ALLOW:
            return _allowed(tx, asker, asked, call, ruling, cost)
        action = leave.Action.of(asker, asked, ruling)
        found = leave.find(tx, asker, action)
        if found.state in (RequestState.DENIED, RequestState.EXPIRED, RequestState.APPROVED) and not found.usable:
            assert found.request is not None
            return _turned_down(tx, asker, asked, call, ruling, found.request)
        if found.usable and found.request is not None:
            call = call or call_record.begin(tx, asker, asked)
            if leave.use(tx, asker, found.request, call):
                used = tx.get(found.request.key) or found.request
                return _with_leave(tx, asker, asked, call, ruling, cost, used)
        request = found.request or leave.ask(tx, asker, asked, ruling, action)
        return _asking(tx, asker, asked, call, ruling, request).decision(request)

    def _ruling(self, tx: Transaction, asker: Asker, around: Around, asked: Asked, cost: Money) -> Ruling:
        stopping = _stopping(asker)
        if stopping:
            return Ruling(Verdict.DENY, Risk.RED, (stopping,), around.policies.names)
        call = Call(asked.tool, asked.args, asked.target, asked.hinted_risk)
        limit = next((b for ask in self._limits if (b := ask(tx, asker.run, call)) is not None), None)
        circumstances = Circumstances(
            tx.now,
            mission=around.mission_facts,
            spend=_Spend(tx, asker, asked),
            held=held(tx, asker.run, self.stops, around.holds),
            limit=limit,
            budget=cost.barrier,
        )
        return decide(call, around.agent_facts, around.policies, circumstances)


def _open_run(tx: Transaction, run_uid: str) -> RunRecord:
    record = RunRecord.load(tx, run_uid)
    require_open(record.status)
    until = record.status.hosted_until
    if record.status.token_revoked_at is not None:
        raise Refused(f"it was revoked: {record.status.token_revoked_for}", reason=KEY_DEAD)
    if until is not None and tx.now >= until:
        raise Refused("the time of its sub-agent is over", reason=KEY_DEAD)
    record.start(tx.now)  # whoever asks is running
    return record


def _stopping(asker: Asker) -> Finding | None:
    status, mission = asker.record.status, asker.mission
    if status.cancel_requested_at is not None:
        why = f"the run is being stopped: {status.cancel_reason}"
    elif mission.deletion_at is not None or mission.spec.get("desiredState") == DesiredState.CANCELED:
        why = "the mission was canceled"
    else:
        return None
    return Finding(Verdict.DENY, ToolCallReason.CANCELED, asker.run.key.short, why, remedy="nothing: stop working")


class _Spend(Mapping[str, float]):
    """What rules may ask about money; the ledger is read when one does."""

    def __init__(self, tx: Transaction, asker: Asker, asked: Asked) -> None:
        self._of = (tx, asker, asked)
        self._known: dict[str, float] | None = None

    def __getitem__(self, name: str) -> float:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, float]:
        if self._known is None:
            self._known = _spend(*self._of)
        return self._known


def _spend(tx: Transaction, asker: Asker, asked: Asked) -> dict[str, float]:
    total, _, today, _ = spending.standing_accounts(asker.mission, asker.agent, f"{tx.now:%Y-%m-%d}")
    known = {
        "run": float(asker.record.status.spend.usd or 0),
        "mission": float(from_micros(tx.balance(total).spent.usd_micros)),
        "today": float(from_micros(tx.balance(today).spent.usd_micros)),
    }
    if asked.estimate is not None and asked.estimate.usd is not None:
        known["estimate"] = float(asked.estimate.usd)
    return known


def _request_of(snapshot: Snapshot, call: Resource) -> Resource | None:
    name = call.status.get("approvalRequest")
    return snapshot.get(Key("ApprovalRequest", call.namespace, name)) if name else None


def _found(ruling: Ruling) -> dict[str, Any]:
    first = ruling.decisive
    return {"by": first, "risk": ruling.risk, "rule": first.rule, "remedy": first.remedy}


def _denied(
    tx: Transaction, asker: Asker, asked: Asked, call: Resource | None, ruling: Ruling, cost: Money
) -> Decision:
    _drop_question(tx, call)
    first = ruling.decisive
    over = first.reason is ToolCallReason.OVER_BUDGET and cost.until is not None
    after = cost.until - tx.now if over and cost.until is not None else None
    answered = call_record.answer(
        tx, asker, asked, call, ToolCallState.DENIED, first.reason, first.message, **_found(ruling)
    )
    return answered.decision(after=after)


def _allowed(
    tx: Transaction, asker: Asker, asked: Asked, call: Resource | None, ruling: Ruling, cost: Money
) -> Decision:
    _drop_question(tx, call)
    answered = call_record.answer(
        tx, asker, asked, call, ToolCallState.ALLOWED, ToolCallReason.ALLOWED, ruling.decisive.message,
        **_found(ruling), expires_at=None,
    )  # fmt: skip
    money.reserve(tx, asker, answered.call, cost, new=call is None)
    return answered.decision()


def _with_leave(
    tx: Transaction, asker: Asker, asked: Asked, call: Resource, ruling: Ruling, cost: Money, request: Resource
) -> Decision:
    message = f"{request.status.get('decidedBy') or 'a person'} gave leave"
    answered = call_record.answer(
        tx, asker, asked, call, ToolCallState.ALLOWED, ToolCallReason.APPROVED, message,
        request=request, **_found(ruling), expires_at=None,
    )  # fmt: skip
    money.reserve(tx, asker, answered.call, cost)
    return answered.decision(request)


def _turned_down(
    tx: Transaction, asker: Asker, asked: Asked, call: Resource | None, ruling: Ruling, request: Resource
) -> Decision:
    if request.state == RequestState.DENIED:
        by = request.status.get("decidedBy") or "a person"
        reason, message = ToolCallReason.APPROVAL_DENIED, f"{by} refused: {_why(request)}"
    else:
        reason, message = ToolCallReason.APPROVAL_EXPIRED, "nobody answered in time, or the leave was used too late"
    answered = call_record.answer(
        tx, asker, asked, call, ToolCallState.DENIED, reason, message, request=request, **_found(ruling)
    )
    return answered.decision(request)


def _why(request: Resource) -> str:
    conditions = request.status.get("conditions", ())
    return next((c["message"] for c in conditions if c["type"] == "Succeeded" and c.get("message")), "no reason given")


def _asking(
    tx: Transaction, asker: Asker, asked: Asked, call: Resource | None, ruling: Ruling, request: Resource
) -> call_record.Answered:
    return call_record.answer(
        tx,
        asker,
        asked,
        call,
        ToolCallState.ASKING,
        ToolCallReason.AWAITING_APPROVAL,
        ruling.decisive.message,
        request=request,
        **_found(ruling),
        expires_at=leave.expires_at(request),
    )


def _drop_question(tx: Transaction, call: Resource | None) -> None:
    """The call is decided without an answer: nobody needs to give one. Other calls that share the question are decided
    anew when they look. A leave that was given stays."""
    request = None if call is None else _request_of(tx, call)
    if request is not None and request.state == RequestState.PENDING:
        missions.withdraw(tx, request.key, "it was decided without an answer")
