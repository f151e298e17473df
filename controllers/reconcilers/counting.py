"""Counting in what was spent before a limit was declared.

A Budget that is added in the middle of a month limits that month, not the rest of it; so does one whose time zone or
scope was changed. The accounts that it adds up in are therefore brought to what the entries of the ledger say when they
are first read for a generation of the Budget, in the transaction that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from controllers.runs.settlement import companions_account
from decisions.meters import Work, account_of, covers
from decisions.windows import Span
from schemas.agent import AutonomyLevel
from schemas.amounts import NOTHING
from schemas.base import Key
from schemas.budget import BudgetSpec
from schemas.mission import Limits
from schemas.resource import Resource
from store.contract import Amounts, EntryKind, LedgerEntry, Transaction

LARGEST = 2**53
_EVERYTHING = 10**9
_UNITS = ("usd_micros", "tokens", "tool_calls", "wall_ms")


def about(work: Work) -> dict[str, Any]:
    """What a Reserve entry notes of the work that it is for, so that limits declared later can count it."""
    return {
        "tenant": work.tenant,
        "project": "" if work.project is None else f"{work.project.namespace}/{work.project.name}",
        "agent": f"{work.agent.namespace}/{work.agent.name}",
        "agentUid": work.agent_uid,
        "agentLabels": dict(work.agent_labels),
        "mission": f"{work.mission.namespace}/{work.mission.name}",
        "missionUid": work.mission_uid,
        "missionLabels": dict(work.mission_labels),
        "missionType": work.mission_type,
    }


def count_in(tx: Transaction, budget: Resource, spec: BudgetSpec, account: str, window: Span) -> None:
    """Bring ``account``, in which the Budget adds up ``window``, to what was spent and is reserved already. Once for
    each generation of the Budget; later entries count by themselves. What an account holds beyond that it keeps."""
    if _is_complete(account):
        return
    marker = f"count/{account}/{budget.uid}@{budget.generation}/{budget.name}"
    note = {"budget": budget.key.short}
    if not tx.post(LedgerEntry(marker, EntryKind.GRANT, (), NOTHING, tx.now, note=note)):
        return
    spent = NOTHING
    reserved: dict[str, LedgerEntry] = {}
    for entry in _entries(tx, budget.namespace, account, window):
        if entry.kind is EntryKind.RESERVE:
            if _is_within(entry.at, window) and _counts(tx, entry, budget, spec, account, window):
                reserved[entry.key] = entry
        elif entry.kind in (EntryKind.SETTLE, EntryKind.RELEASE) and entry.reservation in reserved:
            del reserved[entry.reservation]
            spent = spent + (entry.amounts if entry.kind is EntryKind.SETTLE else NOTHING)
    _add_spent(tx, marker, account, _beyond(spent, tx.balance(account).spent), note)
    for entry in reserved.values():
        if account not in entry.accounts:
            _reserve_too(tx, account, entry)


def _is_complete(account: str) -> bool:
    """Whether it is one of the accounts that every run has counted in from its first day on, whatever was declared."""
    kind, _, rest = account.partition("/")
    window = rest.partition("/")[2]
    if kind in ("agent", "mission") and window == "total":
        return True
    return kind in ("agent", "tenant") and window.startswith("day/") and window.count("/") == 1


def _entries(tx: Transaction, namespace: str, account: str, window: Span) -> Iterator[LedgerEntry]:
    """Entries that may count in it, each with its reservation before it: of a mission or an agent its own, else those
    of the namespace."""
    kind, _, rest = account.partition("/")
    if kind == "mission":
        yield from tx.ledger(account=f"mission/{rest.partition('/')[0]}/total", limit=_EVERYTHING)
        return
    place = f"agent/{rest.partition('/')[0]}" if kind == "agent" else f"tenant/{namespace}"
    begin = window.start
    if begin is None:
        first = tx.ledger(limit=1)
        begin = first[0].at if first else tx.now
    day = begin.astimezone(UTC).date()
    while day <= tx.now.astimezone(UTC).date():
        yield from tx.ledger(account=f"{place}/day/{day:%Y-%m-%d}", limit=_EVERYTHING)
        day += timedelta(days=1)


def _is_within(at: datetime, window: Span) -> bool:
    """Runs count in the window in which they were reserved, as those do that start now."""
    return (window.start is None or at >= window.start) and (window.end is None or at < window.end)


def _counts(
    tx: Transaction, entry: LedgerEntry, budget: Resource, spec: BudgetSpec, account: str, window: Span
) -> bool:
    if account in entry.accounts:
        return True
    work = _work(tx, entry, budget.namespace)
    return covers(budget.key, spec, work) and account_of(budget.key, spec, work, window) == account


def _work(tx: Transaction, entry: LedgerEntry, namespace: str) -> Work:
    """What an entry was for: as it noted, else as its agent and mission are today."""
    found: dict[str, Any] = dict(entry.note.get("for", {}))
    if not found:
        for kind in ("agent", "mission"):
            uid = next(
                (a.split("/")[1] for a in entry.accounts if a.startswith(f"{kind}/") and a.endswith("/total")), ""
            )
            thing = tx.get_by_uid(uid)
            found[f"{kind}Uid"] = uid
            if thing is None:
                continue
            found |= {kind: f"{thing.namespace}/{thing.name}", f"{kind}Labels": thing.labels}
            project = thing.spec.get("projectRef")
            if kind == "mission":
                found["missionType"] = thing.spec.get("type", "Ops")
                if project:
                    found["project"] = f"{project.get('namespace') or thing.namespace}/{project['name']}"
    project = _key("Project", found.get("project", ""))
    return Work(
        tenant=found.get("tenant", namespace),
        project=project if project.name else None,
        agent=_key("Agent", found.get("agent", "")),
        agent_uid=found.get("agentUid", ""),
        agent_labels=found.get("agentLabels", {}),
        level=AutonomyLevel.INTERN,
        priced=True,
        mission=_key("Mission", found.get("mission", "")),
        mission_uid=found.get("missionUid", ""),
        mission_labels=found.get("missionLabels", {}),
        mission_type=found.get("missionType", ""),
        limits=Limits(),
    )


def _key(kind: str, text: str) -> Key:
    namespace, _, name = text.partition("/")
    return Key(kind, namespace, name)


def _beyond(wanted: Amounts, there: Amounts) -> Amounts:
    return Amounts(**{unit: max(0, getattr(wanted, unit) - getattr(there, unit)) for unit in _UNITS})


def _add_spent(tx: Transaction, marker: str, account: str, amounts: Amounts, note: dict[str, Any]) -> None:
    """Post what is missing; in parts, where it is more than an entry holds."""
    part = 0
    while amounts != NOTHING:
        part += 1
        now = Amounts(**{unit: min(LARGEST, getattr(amounts, unit)) for unit in _UNITS})
        amounts = amounts + -now
        reserve = LedgerEntry(f"{marker}/{part}", EntryKind.RESERVE, (account,), NOTHING, tx.now, note=note)
        tx.post(reserve)
        tx.post(
            LedgerEntry(f"{marker}/{part}/spent", EntryKind.SETTLE, (account,), now, tx.now, reserve.key, note)
        )  # fmt: skip


def _reserve_too(tx: Transaction, account: str, entry: LedgerEntry) -> None:
    """Reserve in ``account`` what is reserved elsewhere; it ends together with that (see ``runs.settlement``)."""
    tx.post(
        LedgerEntry(
            key=f"{entry.key}/{account}",
            kind=EntryKind.RESERVE,
            accounts=(account, companions_account(entry.key)),
            amounts=entry.amounts,
            at=tx.now,
            note={"with": entry.key},
        )
    )
