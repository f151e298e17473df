"""People, as far as a simulation needs them: somebody who may answer says yes."""

from __future__ import annotations

from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.approval_request import ApprovalRequestSpec, RequestType
from schemas.base import Key
from schemas.resource import Actor, ActorKind, Declared, Resource
from schemas.tenant import TenantSpec
from store.contract import Transaction

ANYBODY = "user:simulated"


def answer(tx: Transaction, request: Resource) -> bool:
    """Approve a request, by as many people as it takes; False for one that only a merge answers."""
    spec = ApprovalRequestSpec.model_validate(request.spec)
    if spec.type is RequestType.CHANGE:
        return False
    people = _people(tx, request, spec)
    for number, subject in enumerate(people[: spec.quorum], 1):
        decision = ApprovalDecisionSpec.model_validate(
            {
                "requestRef": {"name": request.name, "uid": request.uid},
                "actionDigest": spec.action_digest,
                "verdict": "Approve",
                "reason": "simulated",
            }
        )
        with tx.acting(Actor(ActorKind.HUMAN, subject, "Store")):
            tx.create(
                Declared("ApprovalDecision", request.namespace, f"{request.name[:200]}-{number}", decision.to_wire()),
                manager=f"cli/{subject.removeprefix('user:')}",
                status=ApprovalDecisionStatus(subject=subject, transport="Store").to_wire(),
            )
    return True


def _people(tx: Transaction, request: Resource, spec: ApprovalRequestSpec) -> list[str]:
    """Who may answer, as far as the specs name anybody; the requester and the authors last."""
    tenant = tx.get(Key("Tenant", "", request.namespace))
    members = TenantSpec.model_validate(tenant.spec).members if tenant is not None else ()
    named = [*spec.approver_subjects, *(m.subject for m in members if m.role.value in spec.approver_roles)]
    named = [subject for subject in dict.fromkeys(named) if subject.startswith("user:")] or [
        ANYBODY,
        *(f"{ANYBODY}-{number}" for number in range(2, spec.quorum + 1)),
    ]
    return sorted(named, key=lambda subject: subject in (spec.requester, *spec.authors))
