"""What people granted on top of a limit: booked once, and taken back at its end, after which the declared limit counts.

An engine that was down at that end takes it back before it lets anything else use the account: ``end_due`` is called
where limits are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from controllers.reconcilers import writing
from controllers.runtime.result import Result
from decisions import extension
from decisions.meters import shown
from schemas.amounts import NOTHING, Amounts
from schemas.approval_request import (
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    Extension,
    GivenApproval,
    RequestState,
    RequestType,
)
from schemas.event import EventType
from schemas.quantities import format_time, from_micros, to_micros
from schemas.resource import Resource
from store.contract import EntryKind, LedgerEntry, Transaction


def of(spec: ApprovalRequestSpec, given: Iterable[GivenApproval]) -> Extension:
    """What the people who approved a request of type Budget grant together."""
    amounts, until = extension.granted([approval.grant for approval in given], extension.asked(spec.action))
    return Extension(
        usd=from_micros(amounts.usd_micros),
        tokens=amounts.tokens,
        tool_calls=amounts.tool_calls,
        wall_time=timedelta(milliseconds=amounts.wall_ms),
        until=until,
    )


def extend(tx: Transaction, mission: Resource, request: Resource) -> None:
    """Add to a budget what was granted; once, however often the mission is looked at, and not after its end."""
    action, status = request.spec["action"], ApprovalRequestStatus.model_validate(request.status)
    found = status.extension
    amounts = extension.asked(action) if found is None else _amounts(found)
    if found is not None and found.until is not None and tx.now >= found.until:
        return
    entry = LedgerEntry(
        key=_key(request),
        kind=EntryKind.GRANT,
        accounts=(str(action["account"]),),
        amounts=amounts,
        at=tx.now,
        note={"request": request.name, "mission": mission.name},
    )
    if tx.post(entry):
        until = found.until if found is not None else None
        end = "" if until is None else f", until {format_time(until)}"
        tx.event(
            EventType.BUDGET_EXTENDED,
            mission,
            reason="Granted",
            message=f"{_said(amounts)} more for {action['budget']}{end}",
            data={"related": [request.uid], "account": action["account"], "usdMicros": amounts.usd_micros},
        )


def keep(tx: Transaction, request: Resource, status: ApprovalRequestStatus) -> Result:
    """Take a grant back when its time is over."""
    found = status.extension
    if found is None or found.until is None or found.ended_at is not None:
        return writing.wake_at(tx, request, None)
    if tx.now < found.until:
        return writing.wake_at(tx, request, found.until)
    return writing.wake_at(tx, end(tx, request, "its time is over"), None)


def end(tx: Transaction, request: Resource, why: str) -> Resource:
    """The declared limit counts again. Nothing changes where nothing was granted for a time, or it ended before."""
    status = ApprovalRequestStatus.model_validate(request.status)
    found = status.extension
    if found is None or found.until is None or found.ended_at is not None:
        return request
    update = {"extension": found.model_copy(update={"ended_at": tx.now})}
    request = writing.put_status(tx, request, status.model_copy(update=update))
    if status.consumed_at is None:
        return request  # the budget never got it
    account, amounts = str(request.spec["action"]["account"]), _amounts(found)
    entry = LedgerEntry(
        key=f"end/{_key(request)}",
        kind=EntryKind.RELEASE,
        accounts=(account,),
        amounts=amounts,
        at=tx.now,
        reservation=_key(request),
        note={"request": request.name},
    )
    if tx.post(entry):
        tx.event(
            EventType.BUDGET_EXTENSION_ENDED,
            request,
            reason="Ended",
            message=f"{_said(amounts)} less for {request.spec['action']['budget']}: {why}",
            data={"related": [request.owner_uid], "account": account, "usdMicros": amounts.usd_micros},
        )
    return request


def end_due(tx: Transaction, namespace: str, account: str) -> None:
    """Take back what was granted to an account for a time that is over, before anybody uses it."""
    if tx.balance(account).granted == NOTHING:
        return
    for request in tx.objects("ApprovalRequest", namespace=namespace, states=[RequestState.APPROVED.value]):
        if request.spec["type"] != RequestType.BUDGET or request.spec["action"].get("account") != account:
            continue
        found = ApprovalRequestStatus.model_validate(request.status).extension
        if found is not None and found.until is not None and found.ended_at is None and tx.now >= found.until:
            end(tx, request, "its time is over")


def _key(request: Resource) -> str:
    return f"grant/{request.uid}"


def _amounts(found: Extension) -> Amounts:
    wall_ms = found.wall_time // timedelta(milliseconds=1)
    return Amounts(to_micros(found.usd), found.tokens, found.tool_calls, wall_ms)


def _said(amounts: Amounts) -> str:
    named = {name: getattr(amounts, name) for name in ("usd_micros", "tokens", "tool_calls", "wall_ms")}
    return ", ".join(shown(name, value) for name, value in named.items() if value) or "nothing"
