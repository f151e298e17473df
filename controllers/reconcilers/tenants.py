"""Tenant: whether it works, how much of its limits is used, and its end.

A tenant that is not Active is held: this reconciler keeps one Hold over it, so that everything that asks about Holds
(dispatch, gate, schedules, goals, sub-agents) goes by its lifecycle in the same transaction, and says so.
"""

from __future__ import annotations

from datetime import datetime

from controllers.holds.effective import TENANT_MANAGER
from controllers.reconcilers import pools, writing
from controllers.runtime.result import DONE, Result
from schemas import registry
from schemas.base import Key
from schemas.conditions import Conditions, set_condition
from schemas.event import EventType
from schemas.hold import HoldMode, HoldScope, HoldSpec, HoldStatus
from schemas.resource import RECONCILE_REQUESTED_AT, Declared, Resource
from schemas.tenant import Lifecycle, TenantReason, TenantSpec, TenantStatus
from store.contract import Transaction

HOLD = "tenant-lifecycle"
"""Name of the Hold, in the tenant's namespace."""
BATCH = 200
"""Objects whose removal begins in one transaction."""
LOOK_S = 5.0
"""How often it is looked whether what goes is gone."""
SUB_AGENT = {"remit.dev/sub-agent": "true"}
_STAYS = frozenset({"Tenant", "Event", "Effect", "Timer", "Run", "Session", "Message", "ToolCall", "UsageRecord"})
"""Not removed by themselves: they go with what they belong to, or are the record of what happened."""


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a tenant."""
    tenant = tx.get(key)
    if tenant is None or tenant.deletion_at is not None:
        _release(tx, key.name)
        if tenant is None:
            return writing.gone(tx, key)
        tx.event(EventType.DELETED, tenant, reason="Finalized", message="nothing to undo")
        tx.clear_timer(key, writing.WAKE)
        tx.remove(tx.put_finalizers(tenant, ()) if tenant.finalizers else tenant)
        return DONE
    spec, old = TenantSpec.model_validate(tenant.spec), TenantStatus.model_validate(tenant.status)
    pending = spec.lifecycle is Lifecycle.PENDING_DELETION
    since = (old.pending_since or tx.now) if pending else None
    removal = since + spec.deletion_grace_period if since is not None else None
    over = removal is not None and removal <= tx.now
    _keep_hold(tx, tenant, spec, over)
    left = _remove(tx, tenant) if over else 0
    if over and old.removal_time is not None and not _was_removed(old):
        message = "its grace period is over: what the engine made in it goes; what is declared stays held"
        tx.event(EventType.TENANT_REMOVED, tenant, reason="GracePeriodOver", message=message)
    runs = [run for run in pools.active(tx) if _agent_namespace(run) == tenant.name]
    conditions = _ready(tx, tenant, spec, old, removal, over)
    status = old.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": tenant.generation,
            "active_agents": len({run.spec["agentUid"] for run in runs}),
            "sub_agents": len(tx.objects("Agent", namespace=tenant.name, labels=SUB_AGENT)),
            "pending_since": since,
            "removal_time": removal,
            "remaining": _remaining(tx, tenant.name) if over else 0,
            "last_handled_reconcile": tenant.annotations.get(RECONCILE_REQUESTED_AT, old.last_handled_reconcile),
        }
    )
    tenant = writing.put_status(tx, tenant, status)
    writing.note_ready(tx, tenant, old.conditions, conditions)
    if over:
        return writing.wake_in(tx, tenant, LOOK_S if left or status.remaining else None)
    return writing.wake_at(tx, tenant, removal)


def _was_removed(old: TenantStatus) -> bool:
    return any(c.type == "Ready" and c.reason == TenantReason.REMOVED for c in old.conditions)


def _agent_namespace(run: Resource) -> str:
    return str(run.spec["agentRef"].get("namespace") or run.namespace)


def _ready(
    tx: Transaction, tenant: Resource, spec: TenantSpec, old: TenantStatus, removal: datetime | None, over: bool
) -> Conditions:
    missing = _missing(tx, tenant.name, spec)
    ready, reason, message = not missing, TenantReason.REFERENCE_NOT_FOUND, missing
    if not missing:
        reason = TenantReason.RECONCILED
    if spec.lifecycle is Lifecycle.SUSPENDED:
        ready, reason, message = False, TenantReason.SUSPENDED, "nothing new starts, and no call is let through"
    elif over:
        ready, reason = False, TenantReason.REMOVED
        message = "what the engine made in it is removed; take what is declared out of its source, then the Tenant"
    elif removal is not None:
        ready, reason = False, TenantReason.PENDING_DELETION
        message = "nothing new starts; everything goes at status.removalTime, unless spec.lifecycle is Active by then"
    return set_condition(old.conditions, "Ready", ready, reason, message, now=tx.now, generation=tenant.generation)


def _missing(tx: Transaction, name: str, spec: TenantSpec) -> str:
    """What its defaults name, and is not there."""
    refs = [("Policy", ref) for ref in spec.defaults.policy_refs]
    if spec.defaults.budget_ref is not None:
        refs.append(("Budget", spec.defaults.budget_ref))
    gone = [ref.key(kind, name).short for kind, ref in refs if tx.get(ref.key(kind, name)) is None]
    return f"there is no {', '.join(gone)}" if gone else ""


# The Hold.


def _keep_hold(tx: Transaction, tenant: Resource, spec: TenantSpec, over: bool) -> None:
    if spec.lifecycle is Lifecycle.ACTIVE:
        _release(tx, tenant.name)
        return
    key = Key("Hold", tenant.name, HOLD)
    reason = f"tenant/{tenant.name} is {spec.lifecycle}"
    wanted = HoldSpec(scope=HoldScope.TENANT, mode=HoldMode.STOP if over else HoldMode.HOLD, reason=reason).to_wire()
    hold = tx.get(key)
    declared = Declared("Hold", key.namespace, key.name, wanted)
    if hold is None:
        status = HoldStatus(placed_by=f"tenant:{tenant.name}", transport="Source")
        hold = tx.create(declared, manager=TENANT_MANAGER, owner_uid=tenant.uid, status=status.to_wire())
        tx.event(EventType.CREATED, hold, reason=spec.lifecycle, message=reason, data={"related": [tenant.uid]})
    elif hold.manager == TENANT_MANAGER and hold.spec != wanted:
        tx.put_spec(hold, declared, manager=TENANT_MANAGER)


def _release(tx: Transaction, namespace: str) -> None:
    hold = tx.get(Key("Hold", namespace, HOLD))
    if hold is not None and hold.manager == TENANT_MANAGER:
        tx.event(EventType.HOLD_RELEASED, hold, reason="Released", message=f"tenant/{namespace} is Active, or is gone")
        tx.clear_timer(hold.key, writing.WAKE)
        tx.remove(tx.put_finalizers(hold, ()) if hold.finalizers else hold)


# Its end.


def _kinds() -> list[str]:
    return [name.kind for name in registry.NAMES if name.kind not in _STAYS and registry.by_kind(name.kind).namespaced]


def _remove(tx: Transaction, tenant: Resource) -> int:
    """Begin the removal of what no source declares in its namespace; how many such objects are still there. Each goes
    by the finalizers of its kind: runs are stopped, keys are dead, reservations are given back."""
    left = 0
    for kind in _kinds():
        for resource in tx.objects(kind, namespace=tenant.name, limit=10 * BATCH):
            if resource.unit or resource.key.name == HOLD or resource.kind == "Source":
                continue
            if kind == "Agent" and resource.status.get("spawned"):
                left += 1  # it ends with its run, and is put away
                continue
            left += 1
            if resource.deletion_at is None and left <= BATCH:
                tx.request_deletion(resource)
    return left


def _remaining(tx: Transaction, namespace: str) -> int:
    own = tx.get(Key("Hold", namespace, HOLD)) is not None
    return sum(tx.count(kind, namespace=namespace) for kind in _kinds()) - own
