"""Placing an e-stop, and releasing Holds: all of one, or of an e-stop a part after the other.

An e-stop (a Hold with a scope and mode Stop) ends with a reason, and with the voices of so many people as the highest
``approvals.quorum`` of the Policies that it covers asks for. Everything here is part of the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.base import DEFAULT_NAMESPACE, Key, ObjectRef
from schemas.errors import Refused
from schemas.event import EventType
from schemas.hold import HoldMode, HoldScope, HoldSpec, HoldStatus, Released, ReleaseVoice
from schemas.policy import PolicySpec
from schemas.resource import Actor, Declared, Resource, digest
from store.contract import Snapshot, Transaction

GLOBAL, TENANT = "estop", "estop-tenant"
"""Names of the Holds that the verb places."""
VOICE_LIFE = timedelta(hours=24)
"""So long a voice for a release counts, where more than one is needed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a wish to release. ``missing`` voices are needed yet; 0 means that it was done."""

    hold: Resource
    missing: int = 0
    quorum: int = 1


def place(tx: Transaction, reason: str, *, tenant: str = "") -> tuple[Resource, bool]:
    """Stop everything, or all of a tenant; (the Hold, whether anything changed). One that stands is left as it is; one
    that was released in part stops everything again. Idempotent."""
    scope = HoldScope.TENANT if tenant else HoldScope.GLOBAL
    key = _place_of(tx, Key("Hold", tenant or DEFAULT_NAMESPACE, TENANT if tenant else GLOBAL), scope)
    spec = HoldSpec(scope=scope, mode=HoldMode.STOP, reason=reason).to_wire()
    declared = Declared(key.kind, key.namespace, key.name, spec)
    status = HoldStatus(placed_by=tx.actor.subject, transport=tx.actor.transport)
    manager = manager_of(tx.actor)
    found = tx.get(key)
    if found is None:
        hold = tx.create(declared, manager=manager, status=status.to_wire())
        tx.event(EventType.CREATED, hold, reason=HoldMode.STOP, message=reason)
        return hold, True
    standing = HoldSpec.model_validate(found.spec)
    if standing.is_estop and standing.scope is scope and standing.released is None and standing.until is None:
        return found, False
    hold = tx.put_spec(found, declared, manager=manager)
    old = HoldStatus.model_validate(hold.status)
    update = {"placed_by": status.placed_by, "transport": status.transport, "voices": ()}
    hold = tx.put_status(hold, old.model_copy(update=update).to_wire())
    message = f"again, by {tx.actor}: {reason}"
    tx.event(EventType.HOLD_PLACED, hold, reason=HoldMode.STOP, message=message, data={"estop": True})
    return hold, True


def _place_of(tx: Transaction, key: Key, scope: HoldScope) -> Key:
    """Where the Hold goes: under its name, unless something else has that."""
    number = 1
    while True:
        wanted = key if number == 1 else key._replace(name=f"{key.name}-{number}")
        found = tx.get(wanted)
        spec = HoldSpec.model_validate(found.spec) if found is not None else None
        if found is None or spec is None or (not found.unit and spec.is_estop and spec.scope is scope):
            return wanted
        number += 1


def manager_of(actor: Actor) -> str:
    """Who manages what this person makes by command."""
    return f"cli/{actor.subject.removeprefix('user:')}"


def standing(snapshot: Snapshot, tenant: str = "") -> list[Resource]:
    """The e-stops over everything, or those over a tenant alone, by namespace and name."""
    scope = HoldScope.TENANT if tenant else HoldScope.GLOBAL
    found = []
    for hold in snapshot.objects("Hold", namespace=tenant or None):
        spec = HoldSpec.model_validate(hold.spec)
        if spec.is_estop and spec.scope is scope and hold.deletion_at is None:
            found.append(hold)
    return found


def release(tx: Transaction, hold: Resource, reason: str, part: Released | None = None) -> Answer:
    """End a Hold, or let ``part`` of what an e-stop holds work again. Where more voices are needed this one is noted,
    and nothing else happens. Raises Refused when a source declares the Hold, or a reason is missing."""
    spec = HoldSpec.model_validate(hold.spec)
    if hold.unit:
        raise Refused(f"{hold.key.short} is declared {_taken_out(hold)}", reason="Declared")
    if spec.is_estop and not reason.strip():
        raise Refused(f"{hold.key.short} is an e-stop: its release needs --reason", reason="ReasonMissing")
    whole = part is None
    merged = None if part is None else merge(spec.released, part)
    if spec.is_estop:
        asked = ask(tx, hold, reason, part)
        if asked.missing:
            return asked
        hold = asked.hold
    if whole:
        tx.event(EventType.HOLD_RELEASED, hold, reason="Released", message=reason or "released")
        tx.remove(hold)
        return Answer(hold)
    assert merged is not None
    declared = Declared(
        hold.kind, hold.namespace, hold.name, spec.model_copy(update={"released": merged}).to_wire(), hold.labels,
        hold.annotations,
    )  # fmt: skip
    hold = tx.put_spec(hold, declared)
    tx.event(
        EventType.HOLD_RELEASED,
        hold,
        reason="Partly",
        message=f"{describe(merged, hold.namespace)}: {reason}",
        data={"released": merged.to_wire()},
    )
    return Answer(hold)


def ask(
    tx: Transaction, hold: Resource, reason: str, part: Released | None = None, *, actor: Actor | None = None
) -> Answer:
    """Note the voice of ``actor``, whoever acts when None, for the end of an e-stop, or of a part of it, where more
    than one is needed."""
    needed, actor = quorum(tx, hold), actor or tx.actor
    if needed < 2:
        return Answer(hold)
    lacking = missing(tx, hold, actor.subject, part, tx.now)
    hold = _note_voice(tx, hold, actor, reason, _mark(HoldSpec.model_validate(hold.spec), part))
    if lacking:
        message = f"by {actor}: {reason}; {lacking} more of {needed}"
        tx.event(EventType.RELEASE_ASKED, hold, reason="Quorum", message=message, actor=actor)
    return Answer(hold, lacking, needed)


def _taken_out(hold: Resource) -> str:
    """Where a source declares it, and how it is ended there."""
    if hold.provenance is None:
        return "by a source: take it out there, by a commit"
    if hold.provenance.revision.startswith("kubernetes@"):
        return f"in the cluster: kubectl delete hold {hold.name} -n {hold.namespace}"
    return f"at {hold.provenance.place}: take it out there, by a commit"


def missing(snapshot: Snapshot, hold: Resource, subject: str, part: Released | None, now: datetime) -> int:
    """How many more people have to ask for the end of an e-stop, or of a part of it, when ``subject`` does."""
    mark = _mark(HoldSpec.model_validate(hold.spec), part)
    return max(0, quorum(snapshot, hold) - len(_voices(hold, mark, now) | {subject}))


def _mark(spec: HoldSpec, part: Released | None) -> str:
    return "" if part is None else digest(merge(spec.released, part).to_wire())


def merge(old: Released | None, more: Released) -> Released:
    """Both together: a part that was released stays so."""
    if old is None:
        return more
    agents = {(ref.namespace or "", ref.name): ref for ref in (*old.agents, *more.agents)}
    return Released(
        tenants=tuple(sorted({*old.tenants, *more.tenants})),
        agents=tuple(agents[key] for key in sorted(agents)),
        percent=max(old.percent, more.percent),
    )


def describe(part: Released, namespace: str) -> str:
    """A part in words."""
    words = [f"tenant {name}" for name in part.tenants]
    words += [_agent(ref, namespace) for ref in part.agents]
    words += [f"{part.percent} % of the agents"] if part.percent else []
    return "released: " + ", ".join(words) if words else "nothing is released"


def _agent(ref: ObjectRef, namespace: str) -> str:
    return ref.key("Agent", namespace).short


def quorum(snapshot: Snapshot, hold: Resource) -> int:
    """How many people have to ask for the end of an e-stop: as many as the strictest Policy that it covers wants for an
    approval; one where there is none."""
    everywhere = HoldSpec.model_validate(hold.spec).scope is HoldScope.GLOBAL
    policies = snapshot.objects("Policy", namespace=None if everywhere else hold.namespace)
    rules = [PolicySpec.model_validate(policy.spec).approvals for policy in policies]
    return max((rule.quorum for rule in rules if rule is not None), default=1)


def _voices(hold: Resource, mark: str, now: datetime) -> set[str]:
    """Who asked for the same before, not too long ago."""
    voices = HoldStatus.model_validate(hold.status).voices
    return {v.subject for v in voices if v.part == mark and now - v.at < VOICE_LIFE}


def _note_voice(tx: Transaction, hold: Resource, actor: Actor, reason: str, mark: str) -> Resource:
    status = HoldStatus.model_validate(hold.status)
    voice = ReleaseVoice(subject=actor.subject, transport=actor.transport, at=tx.now, reason=reason[:2000], part=mark)
    others = [v for v in status.voices if (v.subject, v.part) != (voice.subject, voice.part)]
    kept = [v for v in others if tx.now - v.at < VOICE_LIFE]
    return tx.put_status(hold, status.model_copy(update={"voices": (*kept, voice)}).to_wire())
