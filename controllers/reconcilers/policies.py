"""Policy: whether it compiles, whom it holds for, and its end."""

from __future__ import annotations

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from decisions.policy.compiled import CompiledPolicy, Document, compile_policy
from schemas.base import Key
from schemas.conditions import Conditions, set_condition
from schemas.event import EventType
from schemas.policy import PolicyReason, PolicySpec, PolicyStatus
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from store.contract import Snapshot, Transaction

_SHOWN = 3


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Policy."""
    policy = tx.get(key)
    if policy is None:
        return writing.gone(tx, key)
    users = in_use_by(tx, policy) if policy.deletion_at is not None else ()
    if policy.deletion_at is not None and not users:
        tx.event(EventType.DELETED, policy, reason="Finalized", message="nothing refers to it")
        tx.remove(tx.put_finalizers(policy, ()) if policy.finalizers else policy)
        return DONE
    status = PolicyStatus.model_validate(policy.status)
    compiled = compile_policy(document(policy))
    agents = _agents(tx, policy, compiled)
    conditions = _conditions(tx, policy, status.conditions, compiled, agents, users)
    token = policy.annotations.get(RECONCILE_REQUESTED_AT, "")
    new = status.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": policy.generation,
            "agents": agents,
            "last_handled_reconcile": token or status.last_handled_reconcile,
        }
    )
    policy = writing.put_status(tx, policy, new)
    writing.note_ready(tx, policy, status.conditions, conditions)
    return DONE


def document(policy: Resource) -> Document:
    """A stored Policy as the compiler takes it."""
    place = policy.provenance.place if policy.provenance is not None else ""
    return Document(policy.key, PolicySpec.model_validate(policy.spec), place)


def _conditions(
    tx: Transaction, policy: Resource, old: Conditions, compiled: CompiledPolicy, agents: int, users: tuple[str, ...]
) -> Conditions:
    ready, reason = True, PolicyReason.RECONCILED
    message = f"{len(compiled.rules)} rules for {agents} agents"
    if users:
        ready, reason = False, PolicyReason.IN_USE
        message = "deletion waits: in use by " + ", ".join(users[:5])
    elif compiled.problems:
        ready, reason = False, PolicyReason.EXPRESSION_INVALID
        where = f"{compiled.document.place} " if compiled.document.place else ""
        message = "; ".join(f"{where}{field}: {text}" for field, text in compiled.problems[:_SHOWN])
    elif agents == 0:
        reason, message = PolicyReason.MATCHES_NOBODY, "no agent carries the labels of spec.selector"
    return set_condition(old, "Ready", ready, reason, message, now=tx.now, generation=policy.generation)


def _agents(tx: Snapshot, policy: Resource, compiled: CompiledPolicy) -> int:
    """Agents that it holds for. A tenant that names it makes it hold for all of its own."""
    named = {tenant.name for tenant in tx.objects("Tenant") if policy.key in _named_by(tenant)}
    return sum(
        agent.namespace in named or compiled.applies_to(agent.namespace, agent.labels)
        for agent in tx.objects("Agent")
        if agent.deletion_at is None
    )


def _named_by(tenant: Resource) -> list[Key]:
    refs = tenant.spec.get("defaults", {}).get("policyRefs", ())
    return [Key("Policy", str(ref.get("namespace") or tenant.name), str(ref["name"])) for ref in refs]


def in_use_by(tx: Snapshot, policy: Resource) -> tuple[str, ...]:
    """Tenants and Waivers that refer to it and are not being deleted, sorted."""
    users = [t.key.short for t in tx.objects("Tenant") if t.deletion_at is None and policy.key in _named_by(t)]
    for waiver in tx.objects("Waiver"):
        ref = waiver.spec.get("policyRef")
        if ref is None or waiver.deletion_at is not None:
            continue
        if Key("Policy", ref.get("namespace") or waiver.namespace, ref["name"]) == policy.key:
            users.append(waiver.key.short)
    return tuple(sorted(users))
