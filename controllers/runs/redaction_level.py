"""How much is taken out of what an agent writes: the strictest level of the Policies in force for it."""

from __future__ import annotations

from schemas import redaction
from schemas.base import Key, LabelSelector
from schemas.parsed import parsed
from schemas.policy import Redaction
from schemas.resource import Resource
from schemas.run import RunSpec
from schemas.tenant import TenantSpec
from store.contract import Snapshot

_ORDER = {Redaction.OFF: 0, Redaction.STANDARD: 1, Redaction.STRICT: 2}
_REDACTORS = {level: redaction.Redactor((), level) for level in Redaction}


def level_of(snapshot: Snapshot, agent: Resource | None) -> Redaction:
    """The level for an agent; Standard where no Policy holds for it, or where it is gone."""
    if agent is None:
        return Redaction.STANDARD
    tenant = snapshot.get(Key("Tenant", "", agent.namespace))
    refs = () if tenant is None else parsed(TenantSpec, tenant.spec).defaults.policy_refs
    named = {ref.key("Policy", agent.namespace) for ref in refs}
    spaces = {agent.namespace, *(key.namespace for key in named)}
    found = [
        Redaction(policy.spec.get("redaction", Redaction.STANDARD))
        for space in sorted(spaces)
        for policy in snapshot.objects("Policy", namespace=space)
        if policy.key in named or _picks(policy, agent)
    ]
    return max(found, key=_ORDER.__getitem__, default=Redaction.STANDARD)


def redactor_of(snapshot: Snapshot, run: Resource) -> redaction.Redactor:
    """What takes credentials out of what the agent of a run writes, by their shape. Values that were handed out are
    taken out by the store's mask, whatever the level."""
    return _REDACTORS[level_of(snapshot, snapshot.get_by_uid(parsed(RunSpec, run.spec).agent_uid))]


def _picks(policy: Resource, agent: Resource) -> bool:
    if policy.namespace != agent.namespace:
        return False
    return LabelSelector.model_validate(policy.spec.get("selector", {})).matches(dict(agent.labels))
