"""What people do with kubectl: ApprovalDecisions, Holds and Confirmations of a cluster, as acts of the store.

A custom resource says what is done, and nothing of who does it that could be believed. The API server knows who asks,
and asks the engine before it keeps the object: that is the **admission**. The engine writes it into the log
(``ActAdmitted``) before it answers, with the user, the uid that the cluster gave to the object, and the digest of its
spec. The object that the watch brings afterwards is taken for an act of that user if uid, name, operation and digest
are the same, once. Without an admission it proves nobody.

Everything here is part of the caller's transaction, reads no cluster, and may run twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controllers.holds import estop
from decisions.identity import Identity
from schemas import registry
from schemas.approval_decision import Transport
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.conditions import set_condition
from schemas.confirmation import ConfirmationReason, ConfirmationStatus
from schemas.errors import Refused
from schemas.event import EventType
from schemas.hold import HoldSpec, HoldStatus, Released
from schemas.resource import RELEASE_REASON, Actor, ActorKind, Declared, Resource
from store.contract import Snapshot, Transaction

ACTS = frozenset({"ApprovalDecision", "Confirmation", "Hold"})
"""Kinds whose objects are acts of whoever makes them."""
AUTHORED = frozenset({"Mission"})
"""Kinds whose author is written down, too: policies keep authors apart from those who approve."""
CREATE, UPDATE, DELETE = "CREATE", "UPDATE", "DELETE"
_MOST_GROUPS = 200
_MOST_ADMISSIONS = 50
_UNSEEN = (
    "the engine was not asked who made it: its ValidatingWebhookConfiguration was missing at that moment; "
    "make a new one, under another name"
)
_TWO = "two users are said to have made it; make a new one, under another name"


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is about to do what to one object. ``uid`` is that of the object, ``request`` that of the question;
    ``digest`` is that of the canonical spec. ``subject`` is one of ours (``user:alice``), never empty."""

    key: Key
    uid: str
    operation: str
    digest: str
    subject: str
    request: str
    groups: tuple[str, ...] = ()
    user_uid: str = ""

    @property
    def actor(self) -> Actor:
        """Who acts, for the log."""
        return Actor(ActorKind.HUMAN, self.subject, Transport.KUBERNETES.value)

    @property
    def proof(self) -> str:
        """What proved it."""
        return f"admission {self.request}"


def record(tx: Transaction, admission: Admission) -> bool:
    """Write it down; False where the same question was written down before. The log keeps it, whatever comes of the
    object."""
    if any(known.request == admission.request for known in _recorded(tx, admission.key, admission.uid)):
        return False
    tx.event(
        EventType.ACT_ADMITTED,
        admission.key,
        reason=admission.operation.title(),
        message=f"{admission.operation.lower()} by {admission.subject}",
        data={
            "related": [admission.uid],
            "uid": admission.uid,
            "operation": admission.operation,
            "digest": admission.digest,
            "request": admission.request,
            "groups": list(admission.groups[:_MOST_GROUPS]),
            "userUid": admission.user_uid,
        },
        actor=admission.actor,
    )
    return True


def admission_of(snapshot: Snapshot, key: Key, uid: str, operation: str, spec_digest: str) -> Admission | None:
    """The latest admission of exactly that; None when there is none."""
    for known in _recorded(snapshot, key, uid):
        if known.operation == operation and known.digest == spec_digest:
            return known
    return None


def _recorded(snapshot: Snapshot, key: Key, uid: str) -> list[Admission]:
    if not uid:
        return []
    rows = snapshot.events(
        subject_uid=uid, types=[EventType.ACT_ADMITTED], limit=_MOST_ADMISSIONS, newest_first=True
    )  # fmt: skip
    return [
        Admission(
            key=row.subject,
            uid=uid,
            operation=row.data["operation"],
            digest=row.data["digest"],
            subject=row.actor.subject,
            request=row.data["request"],
            groups=tuple(row.data["groups"]),
            user_uid=row.data["userUid"],
        )
        for row in rows
        if row.subject == key and row.data.get("uid") == uid
    ]


class AdmittedUser:
    """The transport of acts by kubectl: whoever the API server authenticated when it asked about the object."""

    transport = Transport.KUBERNETES

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def identify(self, evidence: tuple[Declared, str]) -> Identity:
        """Who made the object with that uid."""
        declared, uid = evidence
        # The cluster makes the uid while it keeps the object, and asks us before anybody can know it: whatever says
        # later that another one made it was said by somebody else than the cluster.
        seen = [
            known
            for known in _recorded(self._snapshot, declared.key, uid)
            if known.operation == CREATE and known.digest == declared.spec_hash
        ]
        if not seen:
            return Identity(self.transport, unproven=_UNSEEN)
        if len({known.subject for known in seen}) > 1:
            return Identity(self.transport, unproven=_TWO)
        found = seen[-1]
        return Identity(self.transport, found.subject, found.groups, found.proof)


def author_of(snapshot: Snapshot, declared: Declared, uid: str) -> str:
    """The user who gave an object of AUTHORED its spec, as ``schemas.resource.Provenance.signer`` wants it; "" when the
    engine was not asked about it."""
    rows = [a for a in _recorded(snapshot, declared.key, uid) if a.digest == declared.spec_hash]
    return rows[0].subject.removeprefix("user:") if rows and rows[0].subject.startswith("user:") else ""


def take(
    tx: Transaction, document: Mapping[str, Any], *, default_namespace: str = DEFAULT_NAMESPACE
) -> Resource | None:
    """Take in an ApprovalDecision, Hold or Confirmation as the cluster has it: make it in the store, or bring a Hold to
    its new spec. Returns the object of the store; None for a document that is not valid, and for an act that the store
    had before and has no longer: it is not done again.

    A decision or Confirmation without admission is kept and has no effect, with the reason IdentityUnproven. A Hold
    stops work whoever placed it; what loosens one without admission is left undone.
    """
    declared = _declared(document, default_namespace)
    if declared is None:
        return None
    uid = str(document["metadata"].get("uid", ""))
    found = tx.get(declared.key)
    if found is None:
        return _make(tx, declared, uid)
    if declared.kind == "Hold" and found.spec_hash != declared.spec_hash:
        return _change(tx, found, declared, uid)
    return found


def gone(tx: Transaction, document: Mapping[str, Any], *, default_namespace: str = DEFAULT_NAMESPACE) -> bool:
    """The cluster has the object no longer; ``document`` is what it was last. Returns whether the store is without it,
    too: a Hold stays where nobody is proven to have released it, and then ends by ``remit release``."""
    declared = _declared(document, default_namespace)
    found = None if declared is None else tx.get(declared.key)
    if declared is None or found is None:
        return True
    if declared.kind != "Hold":
        tx.request_deletion(found)  # what it did stays done
        return True
    uid = str(document["metadata"].get("uid", ""))
    admission = admission_of(tx, declared.key, uid, DELETE, declared.spec_hash)
    if admission is None:
        _refuse(tx, found, "the engine was not asked who released it; it stays: remit release ends it")
        return False
    try:
        with tx.acting(admission.actor):
            return not estop.release(tx, found, declared.annotations.get(RELEASE_REASON, "")).missing
    except Refused as error:
        _refuse(tx, found, str(error))
        return False


def _declared(document: Mapping[str, Any], default_namespace: str) -> Declared | None:
    if document.get("kind") not in ACTS:
        return None
    checked = registry.check_document(plain(document), default_namespace=default_namespace)
    return checked if isinstance(checked, Declared) else None


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of a cluster without what the cluster added: as a person would have written it."""
    metadata = document.get("metadata")
    kept = ("name", "namespace", "labels", "annotations")
    made: dict[str, Any] = {key: document[key] for key in ("apiVersion", "kind", "spec") if key in document}
    if isinstance(metadata, Mapping):
        made["metadata"] = {key: metadata[key] for key in kept if metadata.get(key) is not None}
    return made


def _make(tx: Transaction, declared: Declared, uid: str) -> Resource | None:
    if uid and tx.spec_at(uid, 1) is not None:
        return None
    who = AdmittedUser(tx).identify((declared, uid))
    status = _first_status(tx, declared, who)
    name = who.subject.partition(":")[2] or "unproven"
    made = tx.create(declared, manager=f"kubernetes/{name}", status=status, uid=uid or None)
    admission = who.proof.removeprefix("admission ")
    tx.event(
        EventType.CREATED,
        made,
        reason="Applied",
        message=f"by {who.subject}" if who.subject else who.unproven,
        data={"related": [uid], "admission": admission} if admission else {"related": [uid]},
        actor=_actor(who),
    )
    return made


def _first_status(tx: Transaction, declared: Declared, who: Identity) -> dict[str, Any]:
    if declared.kind == "ApprovalDecision":
        return who.first_status().to_wire()
    if declared.kind == "Hold":
        return HoldStatus(placed_by=who.subject or "nobody proven", transport=who.transport.value).to_wire()
    reason, said = (ConfirmationReason.PENDING, None) if who.subject else (ConfirmationReason.IDENTITY_UNPROVEN, False)
    conditions = set_condition((), "Succeeded", said, reason, who.unproven, now=tx.now, generation=1)
    return ConfirmationStatus(
        conditions=conditions, confirmed_by=who.subject, transport=who.transport.value
    ).to_wire()  # fmt: skip


def _actor(who: Identity) -> Actor:
    return Actor(ActorKind.HUMAN, who.subject or "unproven", who.transport.value)


def _change(tx: Transaction, hold: Resource, declared: Declared, uid: str) -> Resource:
    """Bring a Hold to another spec. What loosens an e-stop is a release, of the part that it names."""
    admission = admission_of(tx, declared.key, uid, UPDATE, declared.spec_hash)
    if admission is None:
        _refuse(tx, hold, "the engine was not asked who changed it; it stays as it was")
        return hold
    try:
        part = released_part(hold, declared.spec)
        with tx.acting(admission.actor):
            if part is not None:
                if not releases_more(hold, part):
                    return hold
                return estop.release(tx, hold, declared.annotations.get(RELEASE_REASON, ""), part).hold
            changed = tx.put_spec(hold, declared)
            tx.event(EventType.UPDATED, changed, reason="Applied", message=f"by {admission.subject}")
            return changed
    except Refused as error:
        _refuse(tx, hold, str(error))
        return hold


def released_part(hold: Resource, spec: Mapping[str, Any]) -> Released | None:
    """The part of an e-stop that its new spec lets work again; None for a Hold that is no e-stop, whose spec may be
    changed as a whole. Raises Refused where the new spec changes anything else of an e-stop."""
    old = HoldSpec.model_validate(hold.spec)
    if not old.is_estop:
        return None
    new = HoldSpec.model_validate(dict(spec))
    if new.model_copy(update={"released": None}) != old.model_copy(update={"released": None}):
        raise Refused(
            f"{hold.key.short} is an e-stop: of its spec only released can be changed; delete it to end it",
            reason="Estop",
        )
    nothing = Released()
    if new.released is None or estop.merge(old.released, new.released) != estop.merge(nothing, new.released):
        raise Refused(f"{hold.key.short} takes no part back: place another Hold", reason="Estop")
    return new.released


def releases_more(hold: Resource, part: Released) -> bool:
    """Whether ``part`` lets anything work again that the Hold stops yet, in whatever order it is written."""
    old = HoldSpec.model_validate(hold.spec).released or Released()
    return estop.merge(Released(), part) != estop.merge(Released(), old)


def _refuse(tx: Transaction, hold: Resource, why: str) -> None:
    """Say it once, however often the cluster is read."""
    last = tx.events(subject_uid=hold.uid, types=[EventType.DECISION_REFUSED], limit=1, newest_first=True)
    if not last or last[0].message != why:
        tx.event(EventType.DECISION_REFUSED, hold, reason="IdentityUnproven", message=why)
