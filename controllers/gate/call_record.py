"""The ToolCall: what was asked, what was answered, and the answer on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from controllers.gate.asking import Asked, Asker
from controllers.gate.shown import REDACTORS, redacted, words
from controllers.runs import calls
from decisions.policy.facts import Finding
from schemas.authorize import Decision, DecisionWord
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.mission import Spend
from schemas.policy import Verdict
from schemas.quantities import format_money, format_time
from schemas.resource import Declared, Resource
from schemas.tool_call import ToolCallReason, ToolCallSpec, ToolCallState, ToolCallStatus
from store.contract import Transaction

TARGET = 2000
"""Characters of a target that are kept."""
ASK_AGAIN = timedelta(seconds=1)
"""How long an agent that does not wait at the decision should wait before it asks again."""
_WORDS = {ToolCallState.ASKING: DecisionWord.ASK, ToolCallState.ALLOWED: DecisionWord.ALLOW}
_VERDICTS = {
    ToolCallState.ASKING: Verdict.REQUIRE_APPROVAL,
    ToolCallState.ALLOWED: Verdict.ALLOW,
    ToolCallState.DENIED: Verdict.DENY,
}
COUNTED_BY = "countedBy"
"""In the event of a call that was decided: the Policies, or the Waiver, that count it, as kind/namespace/name."""
_DONE = "this call was made and its result is known: another call takes another Idempotency-Key"


_NEW = ToolCallStatus()
_SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Answered(NamedTuple):
    """A call with what was answered, as it was written."""

    call: Resource
    status: ToolCallStatus

    def decision(self, request: Resource | None = None, *, after: timedelta | None = None) -> Decision:
        """The answer on the wire: see ``decision``."""
        return decision(self.call, request, status=self.status, after=after)


def is_of(asked: Asked, spec: ToolCallSpec) -> bool:
    """Whether a recorded call is this one, at whatever level its target was cleaned of credentials."""
    targets = (words(asked.target, TARGET, redactor) for redactor in REDACTORS.values())
    return asked.is_call_of(spec) or any(replace(asked, target=target).is_call_of(spec) for target in targets)


def answer(
    tx: Transaction,
    asker: Asker,
    asked: Asked,
    call: Resource | None,
    state: ToolCallState,
    reason: ToolCallReason,
    message: str,
    *,
    request: Resource | None = None,
    by: Finding | None = None,
    **fields: object,
) -> Answered:
    """Write what was decided of a call, with its event; ``call`` None makes its record. The same answer again writes
    nothing. ``by`` is what decided; its owners count the call where that is the answer, and not a person's."""
    message = words(message, 2000, asker.redactor)
    if call is None and request is None:
        first, wire = _first(state, reason, message, tx.now, fields)
        call = _create(tx, asker, asked, wire)
        return _told(tx, asker, call, first, wire, state, reason, message, None, by, counts=True)
    old = _NEW if call is None else ToolCallStatus.model_validate(call.status)
    succeeded = False if state is ToolCallState.DENIED else None
    generation = 1 if call is None else call.generation
    conditions = set_condition(
        old.conditions, "Succeeded", succeeded, reason, message, now=tx.now, generation=generation
    )
    new = old.model_copy(
        update={
            "state": state,
            "conditions": conditions,
            "observed_generation": generation,
            "verdict": _VERDICTS[state],
            "message": message,
            "approval_request": request.name if request is not None else old.approval_request,
            "started_at": old.started_at or tx.now,
            "ended_at": tx.now if state is ToolCallState.DENIED else None,
            **fields,
        }
    )
    if call is not None and new == old:
        return Answered(call, new)
    wire = new.to_wire()
    call = _create(tx, asker, asked, wire) if call is None else tx.put_status(call, wire)
    counts = _VERDICTS[state] is not old.verdict
    return _told(tx, asker, call, new, wire, state, reason, message, request, by, counts=counts)


def _first(
    state: ToolCallState, reason: ToolCallReason, message: str, now: datetime, fields: Mapping[str, Any]
) -> tuple[ToolCallStatus, dict[str, Any]]:
    """The status of a call that is answered as it is asked, as a model and on the wire; the model's times are those of
    another call of the same answer."""
    status, wire = _first_like(state, reason, message, tuple(fields.items()))
    at = _time(now)
    wire = {**wire, "startedAt": at, "conditions": [{**wire["conditions"][0], "lastTransitionTime": at}]}
    if state is ToolCallState.DENIED:
        wire["endedAt"] = at
    return status, wire


@lru_cache(maxsize=1024)
def _first_like(
    state: ToolCallState, reason: ToolCallReason, message: str, fields: tuple[tuple[str, Any], ...]
) -> tuple[ToolCallStatus, dict[str, Any]]:
    ended = state is ToolCallState.DENIED
    status = _NEW.model_copy(
        update={
            "state": state,
            "conditions": set_condition(
                (), "Succeeded", False if ended else None, reason, message, now=_SOME_TIME, generation=1
            ),
            "observed_generation": 1,
            "verdict": _VERDICTS[state],
            "message": message,
            "started_at": _SOME_TIME,
            "ended_at": _SOME_TIME if ended else None,
            **dict(fields),
        }
    )
    return status, status.to_wire()


_time = lru_cache(maxsize=16)(format_time)


def _told(
    tx: Transaction,
    asker: Asker,
    call: Resource,
    new: ToolCallStatus,
    wire: dict[str, Any],
    state: ToolCallState,
    reason: ToolCallReason,
    message: str,
    request: Resource | None,
    by: Finding | None,
    *,
    counts: bool,
) -> Answered:
    """Write the event of an answer that was written."""
    if call.status is not wire and call.status != wire:  # the store took a secret out
        new = ToolCallStatus.model_validate(call.status)
    related = [asker.run.uid, asker.mission.uid, asker.agent.uid]
    data: dict[str, object] = {
        "related": related if request is None else [*related, request.uid],
        "verdict": _VERDICTS[state].value,
        "tool": call.spec["tool"],
        "argsDigest": call.spec["argsDigest"],
        "rule": new.rule,
        "risk": "" if new.risk is None else new.risk.value,
    }
    if counts and by is not None and by.owners and by.verdict is _VERDICTS[state]:
        data[COUNTED_BY] = [str(owner) for owner in by.owners]
    if request is not None:
        data |= {"request": request.name, "digest": request.spec["actionDigest"]}
    tx.event(EventType.CALL_DECIDED, call, reason=reason, message=f"{call.spec['tool']}: {message}", data=data)
    return Answered(call, new)


def begin(tx: Transaction, asker: Asker, asked: Asked) -> Resource:
    """The record of a call that is about to be answered, in the same transaction: a leave is used by it."""
    conditions = set_condition((), "Succeeded", None, ToolCallReason.AWAITING_APPROVAL, "", now=tx.now, generation=1)
    return _create(tx, asker, asked, ToolCallStatus(conditions=conditions, observed_generation=1).to_wire())


def _create(tx: Transaction, asker: Asker, asked: Asked, status: dict[str, Any]) -> Resource:
    place = calls.key_of(asker.run, asked.key)
    return tx.create(
        Declared("ToolCall", place.namespace, place.name, spec_wire(asker, asked)),
        manager="controller/gate",
        owner_uid=asker.run.uid,
        status=status,
    )


def spec_wire(asker: Asker, asked: Asked) -> dict[str, Any]:
    """What ``ToolCallSpec.to_wire`` gives, without the model: every part was checked when it was asked for."""
    namespace, agent = asker.run.namespace, asker.agent
    wire: dict[str, Any] = {
        "runRef": {"name": asker.run.name},
        "missionRef": {"name": asker.mission.name},
        "agentRef": {"name": agent.name},
        "tool": asked.tool,
        "args": redacted(asked.args, asker.redactor),
        "argsDigest": asked.args_digest,
        "target": words(asked.target, TARGET, asker.redactor),
        "idempotencyKey": asked.key,
        "channel": asked.passage.channel.value,
        "placed": asked.passage.placed,
    }
    if agent.namespace != namespace:
        wire["agentRef"]["namespace"] = agent.namespace
    if asked.estimate is not None:
        wire["estimate"] = _estimate(asked.estimate)
    return wire


def _estimate(spend: Spend) -> dict[str, Any]:
    """What its ``to_wire`` gives."""
    wire: dict[str, Any] = {
        "inputTokens": spend.input_tokens, "outputTokens": spend.output_tokens, "source": spend.source
    }  # fmt: skip
    if spend.usd is not None:
        wire["usd"] = format_money(spend.usd)
    return wire


def decision(
    call: Resource,
    request: Resource | None = None,
    *,
    status: ToolCallStatus | None = None,
    again: bool = False,
    after: timedelta | None = None,
) -> Decision:
    """The answer on the wire. ``request`` is what it waits for, or waited for; ``after`` is when another call like it
    may be answered otherwise. ``status`` is that of the call, for who has it as a model."""
    status = status or ToolCallStatus.model_validate(call.status)
    condition = find(status.conditions, "Succeeded")
    ended = status.state not in _WORDS and status.state is not ToolCallState.DENIED
    word = _WORDS.get(status.state, DecisionWord.DENY)
    wait = ASK_AGAIN if word is DecisionWord.ASK else after
    return Decision(
        decision=word,
        code=ToolCallReason(condition.reason) if condition is not None else ToolCallReason.AWAITING_APPROVAL,
        reason=_DONE if ended else status.message,
        rule=status.rule,
        remedy=status.remedy if word is not DecisionWord.ALLOW else "",
        decision_id=call.uid,
        tool_call=call.name,
        risk=status.risk,
        approval_request=status.approval_request,
        action_digest=None if request is None else str(request.spec["actionDigest"]),
        expires_at=status.expires_at,
        retry_after_ms=None if wait is None else max(0, wait // timedelta(milliseconds=1)),
        authorize_again=again,
    )
