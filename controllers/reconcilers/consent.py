"""How people are asked, and who may answer: what policies and the tenant say of it at this moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from decisions.approvals import Approval, Question, Rules, lacking
from decisions.policy import strictest
from schemas.approval_decision import DecisionScope
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    OnTimeout,
)
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.policy import Approvers, PolicySpec
from schemas.resource import Resource
from schemas.tenant import Role, TenantSpec
from store.contract import Snapshot


@dataclass(frozen=True, slots=True)
class Terms:
    """How one request is made: the fields of its spec that policies decide."""

    approver_roles: tuple[str, ...]
    approver_subjects: tuple[str, ...]
    quorum: int
    separation_of_duties: bool
    authors: tuple[str, ...]
    expires_at: datetime
    remind_at: datetime | None
    on_timeout: OnTimeout


def terms(tx: Snapshot, namespace: str, agent: Resource | None, now: datetime, *, authored: Resource | None) -> Terms:
    """The terms for something that ``agent`` asks now. Authors of ``authored`` are kept apart where a Policy says how
    people are asked; where none does, who declares the work may also answer for it."""
    found = _sections(tx, namespace, agent)
    section = strictest.approvals(found)
    apart = section.separation_of_duties and any(spec.approvals is not None for spec in found)
    remind = section.remind_after if section.remind_after is not None else section.timeout / 2
    return Terms(
        approver_roles=tuple(role.value for role in section.approvers.roles),
        approver_subjects=section.approvers.subjects,
        quorum=section.quorum,
        separation_of_duties=section.separation_of_duties,
        authors=authors_of(authored) if apart and authored is not None else (),
        expires_at=now + section.timeout,
        remind_at=now + remind,
        on_timeout=section.on_timeout,
    )


def authors_of(resource: Resource) -> tuple[str, ...]:
    """Who is proven to have written an object's spec: the signer of its commit, or the user who applied it. What a
    commit's author field says is a claim and names nobody."""
    found = []
    if resource.provenance is not None and resource.provenance.signer:
        found += [f"user:{name}" for name in resource.provenance.signer.split("\n")]
    if resource.manager.startswith("cli/"):
        found.append(f"user:{resource.manager.removeprefix('cli/')}")
    return tuple(found)


def roles_of(tx: Snapshot, namespace: str, subject: str, groups: Sequence[str] = ()) -> frozenset[Role] | None:
    """Roles in the tenant; None where no tenant of this namespace names members or groups: then whoever is proven may
    do anything, as the owner of the store can."""
    tenant = tx.get(Key("Tenant", "", namespace))
    if tenant is None:
        return None
    spec = TenantSpec.model_validate(tenant.spec)
    if not spec.members and not spec.groups:
        return None
    found = {m.role for m in spec.members if m.subject == subject}
    return frozenset(found | {g.role for g in spec.groups if g.claim in groups})


def rules_of(tx: Snapshot, namespace: str, spec: ApprovalRequestSpec) -> Rules:
    """The terms under which a request was made together with those of now: a limit that was tightened since holds."""
    asked = _asked(spec)
    kind, _, name = spec.requester.partition(":")
    place, _, short = name.rpartition("/")
    agent = tx.get(Key("Agent", place or namespace, short)) if kind == "agent" else None
    found = [s for s in _sections(tx, namespace, agent) if s.approvals is not None]
    section = strictest.approvals(found) if found else None
    apart = spec.separation_of_duties or (section is not None and section.separation_of_duties)
    return Rules(
        quorum=max(spec.quorum, section.quorum if section is not None else 1),
        approvers=(asked,) if section is None else (asked, section.approvers),
        apart=frozenset({spec.requester, *spec.authors}) if apart else frozenset(),
    )


def _asked(spec: ApprovalRequestSpec) -> Approvers:
    return Approvers.model_construct(
        roles=tuple(Role(role) for role in spec.approver_roles), subjects=spec.approver_subjects
    )


def _sections(tx: Snapshot, namespace: str, agent: Resource | None) -> list[PolicySpec]:
    """Policies in force for an agent. One that is being deleted holds until it is gone. Without an agent (it is gone,
    or nobody is assigned) every Policy of the namespace counts: the strictest of all is safe."""
    tenant = tx.get(Key("Tenant", "", namespace))
    refs = TenantSpec.model_validate(tenant.spec).defaults.policy_refs if tenant is not None else ()
    named = {ref.key("Policy", namespace) for ref in refs}
    spaces = {namespace, *(key.namespace for key in named)}
    found = []
    for policy in (p for space in sorted(spaces) for p in tx.objects("Policy", namespace=space)):
        if "approvals" not in policy.spec:
            continue
        spec = PolicySpec.model_validate(policy.spec)
        here = policy.namespace == namespace and (agent is None or spec.selector.matches(dict(agent.labels)))
        if here or policy.key in named:
            found.append(spec)
    return found


def first_status(spec: ApprovalRequestSpec, now: datetime) -> ApprovalRequestStatus:
    """The status of a request that is being made."""
    conditions = set_condition(
        (), "Succeeded", None, ApprovalRequestReason.PENDING, "waits for an answer", now=now, generation=1
    )
    rules = Rules(spec.quorum, (_asked(spec),))
    return ApprovalRequestStatus(conditions=conditions, quorum=f"0/{spec.quorum}", may_answer=in_words(rules))


def in_words(rules: Rules) -> str:
    """Who may answer, for people."""
    parts = []
    for section in rules.approvers:
        names = [role.value for role in section.roles]
        if names and Role.ADMIN.value not in names:
            names.append(Role.ADMIN.value)
        parts.append(", ".join([*names, *section.subjects]))
    text = "; and ".join(dict.fromkeys(parts)) or "anybody who is proven"
    apart = sorted(rules.apart)
    return f"{text}; not {', '.join(apart)}" if apart else text


def shown_quorum(approvals: Iterable[Approval], rules: Rules) -> str:
    """``1/2``: approvals that count, of those needed."""
    return f"{rules.quorum - lacking(approvals, rules)}/{rules.quorum}"


def question_of(tx: Snapshot, request: Resource) -> Question:
    """The request as it stands, with its approvals as their givers may give them now."""
    status = ApprovalRequestStatus.model_validate(request.status)
    spec = ApprovalRequestSpec.model_validate(request.spec)
    return Question(
        uid=request.uid,
        spec=spec,
        state=status.state,
        rules=rules_of(tx, request.namespace, spec),
        approvals=approvals_of(tx, request.namespace, status),
        uses=status.uses,
        standing=status.scope not in (None, DecisionScope.ONCE),
    )


def approvals_of(tx: Snapshot, namespace: str, status: ApprovalRequestStatus) -> tuple[Approval, ...]:
    """The approvals that counted, with the roles that their givers have now."""
    return tuple(
        Approval(given.subject, given.scope, given.until, roles_of(tx, namespace, given.subject, given.groups))
        for given in status.approvals
    )
