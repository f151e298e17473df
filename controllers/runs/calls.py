"""The end of tool calls: what was reserved for them is booked, and those without a result end with their run."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from controllers.runs.companions import end_companions
from controllers.runs.text import MESSAGE, line
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.errors import NotFound, Refused
from schemas.event import EventType
from schemas.mission import Spend
from schemas.quantities import from_micros
from schemas.redaction import Redactor
from schemas.resource import Resource
from schemas.tool_call import ToolCallReason, ToolCallSpec, ToolCallState, ToolCallStatus
from store.contract import NOTHING, Amounts, EntryKind, LedgerEntry, Snapshot, Transaction

MOST_USD_MICROS = 10**12
"""What a call is booked with at most: an agent may report any nonsense."""
OPEN = (ToolCallState.ASKING.value, ToolCallState.ALLOWED.value)


def on_top_key(call_uid: str) -> str:
    """Ledger key of what a call reserves beside its run: what the run's own reservation does not cover."""
    return f"reserve/call/{call_uid}"


def inside_key(call_uid: str) -> str:
    """Ledger key of what a call takes out of its run's reservation while it is open."""
    return f"inside/call/{call_uid}"


def on_top_account(run_uid: str) -> str:
    """Adds up what the calls of a run reserve and book beside the run."""
    return f"run/{run_uid}/calls"


def inside_account(run_uid: str) -> str:
    """Adds up what the open calls of a run take out of its reservation."""
    return f"run/{run_uid}/inside"


def settle(tx: Transaction, call: Resource, usd_micros: int | None) -> Spend:
    """End what was reserved for a call: book ``usd_micros``, or what was estimated when nobody knows. Returns what it
    cost, for the run to add up; money and tokens of a call without reservation are nobody's estimate and count as
    reported. Idempotent."""
    spec = ToolCallSpec.model_validate(call.spec)
    known = usd_micros is not None
    estimated = Amounts()
    on_top = tx.open_reservation(on_top_key(call.uid))
    if on_top is not None:
        estimated = on_top.amounts
        booked = Amounts(
            usd_micros=min(usd_micros, MOST_USD_MICROS) if usd_micros is not None else estimated.usd_micros,
            tokens=estimated.tokens,
            tool_calls=estimated.tool_calls,
        )
        tx.post(
            LedgerEntry(
                key=f"settle/call/{call.uid}",
                kind=EntryKind.SETTLE,
                accounts=on_top.accounts,
                amounts=booked,
                at=tx.now,
                reservation=on_top.key,
                note={"call": call.name, "source": "Reported" if known else "Estimated"},
            )
        )
        end_companions(tx, on_top.key, booked)
    inside = tx.open_reservation(inside_key(call.uid))
    if inside is not None:
        estimated = estimated + inside.amounts
        tx.post(
            LedgerEntry(
                key=f"left/call/{call.uid}",
                kind=EntryKind.RELEASE,
                accounts=inside.accounts,
                amounts=inside.amounts,
                at=tx.now,
                reservation=inside.key,
                note={"call": call.name},
            )
        )
    if usd_micros is None:
        usd = from_micros(estimated.usd_micros) if estimated.usd_micros else None
    else:
        usd = from_micros(min(usd_micros, MOST_USD_MICROS))
    tokens = (spec.estimate.input_tokens if spec.estimate is not None else 0) if estimated != NOTHING else 0
    return Spend(usd=usd, input_tokens=tokens, source="Reported" if known and not tokens else "Estimated")


def find(snapshot: Snapshot, run_uid: str, decision_id: str) -> Resource:
    """The call of a run that a decision is about. Raises NotFound."""
    call = snapshot.get_by_uid(decision_id)
    if call is None or call.kind != "ToolCall" or call.owner_uid != run_uid:
        raise NotFound("this run has no such decision")
    return call


def key_of(run: Resource, key: str) -> Key:
    """Where the call of a run with this idempotency key is recorded."""
    return _key_of(run.uid, run.namespace, run.name, key)


@lru_cache(maxsize=512)
def _key_of(run_uid: str, namespace: str, run: str, key: str) -> Key:
    mark = hashlib.sha256(f"{run_uid}\n{key}".encode()).hexdigest()[:16]
    return Key("ToolCall", namespace, f"{run[:230].rstrip('-.')}-{mark}")


def find_open(tx: Transaction, run: Resource, key: str | None, tool: str, args_digest: str | None) -> Resource | None:
    """The allowed call without a result that a report speaks of: the one with this key, else, without a key, the oldest
    of this tool and these arguments. None when there is none: nobody asked, or the call was made all the same."""
    if key is not None:
        call = tx.get(key_of(run, key))
        return call if call is not None and call.state == ToolCallState.ALLOWED else None
    if args_digest is None:
        return None
    open_calls = tx.objects("ToolCall", owner_uid=run.uid, states=(ToolCallState.ALLOWED.value,))
    found = [c for c in open_calls if c.spec["tool"] == tool and c.spec["argsDigest"] == args_digest]
    return min(found, key=lambda c: (c.status.get("startedAt") or "", c.uid), default=None)


@dataclass(frozen=True, slots=True)
class CallResult:
    """What an agent reports of a call. ``usd_micros`` None: it does not say what it cost."""

    ok: bool
    error: str = ""
    output_digest: str = ""
    usd_micros: int | None = None
    duration_ms: int | None = None


def report(tx: Transaction, call: Resource, result: CallResult, redactor: Redactor) -> Spend | None:
    """Close an allowed call with its result and book what it cost, which comes back for its run; None when that is
    nothing. Raises Refused (CallEnded) for a call that ended, or that nobody allowed."""
    if call.state != ToolCallState.ALLOWED:
        said = "was not allowed" if call.state in (ToolCallState.ASKING, ToolCallState.DENIED) else "has a result"
        raise Refused(f"{call.key.short} {said}: {call.state}", reason="CallEnded")
    spent = settle(tx, call, result.usd_micros)
    error = line(result.error, MESSAGE, redactor)
    close(
        tx,
        call,
        ToolCallState.SUCCEEDED if result.ok else ToolCallState.FAILED,
        ToolCallReason.REPORTED if result.ok else ToolCallReason.REPORTED_FAILURE,
        "" if result.ok else error,
        output_digest=result.output_digest,
        duration_ms=result.duration_ms,
        error_signature="" if result.ok else signature(error),
        spend=spent,
    )
    return spent if spent.usd is not None or spent.input_tokens else None


def signature(error: str) -> str:
    """What two failures of the same sort have in common: their words, without figures and what is quoted."""
    plain = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|0x[0-9a-fA-F]+|[0-9]+", "#", error.lower())
    return hashlib.sha256(" ".join(plain.split())[:500].encode()).hexdigest()[:16] if error else "none"


def end_with_run(tx: Transaction, run_uid: str) -> Spend | None:
    """End the calls of a run that ends: nobody answers those that wait any more, and of those that were allowed nobody
    can know. Returns what the latter are booked with; None when that is nothing."""
    total: Decimal | None = None
    tokens = 0
    for call in tx.objects("ToolCall", owner_uid=run_uid, states=OPEN):
        asking = call.state == ToolCallState.ASKING
        if not asking:
            spent = settle(tx, call, None)
            tokens += spent.input_tokens
            total = total if spent.usd is None else (total or Decimal(0)) + spent.usd
        close(
            tx,
            call,
            ToolCallState.DENIED if asking else ToolCallState.UNKNOWN,
            ToolCallReason.RUN_ENDED,
            "its run ended before it was answered" if asking else "its run ended without a result",
        )
    if total is None and not tokens:
        return None
    return Spend(usd=total, input_tokens=tokens, source="Estimated")


def close(
    tx: Transaction,
    call: Resource,
    state: ToolCallState,
    reason: ToolCallReason,
    message: str,
    **fields: object,
) -> Resource:
    """Bring a call to its end, with its event."""
    status = ToolCallStatus.model_validate(call.status)
    succeeded = {ToolCallState.SUCCEEDED: True, ToolCallState.UNKNOWN: None}.get(state, False)
    conditions = set_condition(
        status.conditions, "Succeeded", succeeded, reason, message, now=tx.now, generation=call.generation
    )
    new = status.model_copy(update={"state": state, "conditions": conditions, "ended_at": tx.now, **fields})
    call = tx.put_status(call, new.to_wire())
    tx.event(EventType.CALL_ENDED, call, reason=reason, message=message, data={"related": related(tx, call)})
    return call


def related(tx: Transaction, call: Resource) -> list[str]:
    """The uids of run, mission and agent: a call shows in the history of each."""
    run = tx.get_by_uid(call.owner_uid)
    if run is None:
        return [call.owner_uid]
    return [run.uid, str(run.spec.get("missionUid", "")), str(run.spec.get("agentUid", ""))]
