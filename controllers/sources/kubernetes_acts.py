"""What people do with kubectl: ApprovalDecisions, Holds and Confirmations of a cluster, as acts of the store.

A custom resource says what is done, and nothing of who does it that could be believed. The API server knows who asks,
and asks the engine before it keeps the object: that is the **admission**. The engine writes it into the log
(``ActAdmitted``) before it answers, with the user, the uid that the cluster gave to the object, and the digest of its
spec. The object that the source reads afterwards is an act of that user if name, uid and digest are the same. Without
an admission it proves nobody.

Nothing here asks the cluster, and all of it may run twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controllers.holds import estop
from decisions.identity import Identity
from decisions.plan import Action, Plan
from schemas.approval_decision import Transport
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.confirmation import ConfirmationReason, ConfirmationStatus
from schemas.errors import Refused
from schemas.event import EventType
from schemas.hold import HoldSpec, HoldStatus, Released
from schemas.resource import Actor, ActorKind, Declared, Provenance, Resource
from store.contract import Snapshot, Transaction

ACTS = frozenset({"ApprovalDecision", "Confirmation", "Hold"})
"""Kinds whose objects are acts of whoever makes them."""
AUTHORED = frozenset({"Mission"})
"""Kinds whose author is written down, too: policies keep authors apart from those who approve."""
CREATE, UPDATE, DELETE = "CREATE", "UPDATE", "DELETE"
_CLUSTER = "kubernetes@"
"""How revisions of a cluster begin."""
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
    voice: str = ""
    """Of a Hold: what its reason to be released tells apart, see ``kubernetes_voices``."""

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
    if any(known.request == admission.request for known in recorded(tx, admission.key, admission.uid)):
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
            **({"voice": admission.voice} if admission.voice else {}),
        },
        actor=admission.actor,
    )
    return True


def recorded(snapshot: Snapshot, key: Key, uid: str) -> list[Admission]:
    """What was written down about one object, the newest first."""
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
            voice=row.data.get("voice", ""),
        )
        for row in rows
        if row.subject == key and row.data.get("uid") == uid
    ]


class AdmittedUser:
    """The transport of acts by kubectl: whoever the API server authenticated when it asked about the object."""

    transport = Transport.KUBERNETES

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def identify(self, evidence: Declared) -> Identity:
        """Who made the object, as its provenance and spec tell it from others."""
        uid = cluster_uid(evidence.provenance)
        # The cluster makes the uid while it keeps the object, and asks us before anybody can know it: whatever says
        # later that another one made it was said by somebody else than the cluster.
        seen = [
            known
            for known in recorded(self._snapshot, evidence.key, uid)
            if known.operation == CREATE and known.digest == evidence.spec_hash
        ]
        if not seen:
            return Identity(self.transport, unproven=_UNSEEN)
        if len({known.subject for known in seen}) > 1:
            return Identity(self.transport, unproven=_TWO)
        found = seen[-1]
        return Identity(self.transport, found.subject, found.groups, found.proof)


def author_of(snapshot: Snapshot, declared: Declared) -> str:
    """The user who gave an object of AUTHORED its spec, as ``schemas.resource.Provenance.signer`` wants it; "" when the
    engine was not asked about it, or a service account did it. Where several are said to have, each of them counts:
    who makes up a review that names another one does not get rid of the true one, which names its user."""
    users = {
        known.subject.removeprefix("user:")
        for known in recorded(snapshot, declared.key, cluster_uid(declared.provenance))
        if known.digest == declared.spec_hash and known.subject.startswith("user:")
    }
    return "\n".join(sorted(users))


@dataclass(frozen=True, slots=True)
class Proven:
    """What admissions make of one plan: ``declared`` with authors, the first statuses of acts, the changes of Holds
    that are not to be made, with the reason, and those that somebody is proven to have made: no guard holds them
    back, as whoever released a Hold meant it."""

    declared: Mapping[Key, Declared]
    statuses: Mapping[Key, dict[str, Any]]
    withheld: Mapping[Key, str]
    meant: frozenset[Key] = frozenset()


def prove(
    snapshot: Snapshot, plan: Plan, declared: Mapping[Key, Declared], live: Mapping[Key, Resource], now: datetime
) -> Proven:  # fmt: skip
    """Who is behind the entries of the plan of a source. One that is no cluster has nothing to do with admissions."""
    if not plan.revision.startswith(_CLUSTER):
        return Proven(declared, {}, {})
    new = [declared[e.key] for e in plan.entries if e.action is Action.CREATE]
    changes = [
        (live[e.key], declared.get(e.key))
        for e in plan.entries
        if e.action in (Action.UPDATE, Action.DELETE) and e.key.kind == "Hold"
    ]
    authors = dict(declared)
    for entry in (*plan.entries, *plan.relocations):
        want = declared.get(entry.key)
        if want is not None and want.provenance is not None and entry.key.kind in AUTHORED:
            signed = replace(want.provenance, signer=author_of(snapshot, want))
            authors[entry.key] = replace(want, provenance=signed)
    held = withheld(snapshot, changes)
    meant = frozenset(hold.key for hold, _ in changes) - held.keys()
    return Proven(authors, first_statuses(snapshot, new, now), held, meant)


def first_statuses(snapshot: Snapshot, new: Iterable[Declared], now: datetime) -> dict[Key, dict[str, Any]]:
    """The status with which each act among new objects of a cluster begins: who made it, or why nobody is proven. What
    proves nobody has no effect, but for a Hold: that stops work whoever placed it."""
    prover = AdmittedUser(snapshot)
    return {each.key: _first_status(each, prover.identify(each), now) for each in new if each.kind in ACTS}


def withheld(snapshot: Snapshot, changes: Iterable[tuple[Resource, Declared | None]]) -> dict[Key, str]:
    """Which changes of Holds are not to be made, and why: (what is in force, what the cluster has now) with None for a
    Hold that it has no more. Nobody is proven to have asked for them, so what is stopped stays stopped."""
    found = {}
    for live, now in changes:
        if live.kind != "Hold":
            continue
        if now is None:
            if not _is_admitted(snapshot, live, DELETE, live.spec_hash):
                found[live.key] = (
                    f"{live.key.short} stays: nobody is proven to have released it; apply it again, and delete it while"
                    " the engine is asked"
                )
        elif now.spec_hash != live.spec_hash and not (
            _is_admitted(snapshot, live, UPDATE, now.spec_hash)
            or (_is_admitted(snapshot, live, DELETE, live.spec_hash)
                and _is_admitted(snapshot, live, CREATE, now.spec_hash))
        ):  # fmt: skip
            found[live.key] = f"{live.key.short} stays as it was: nobody is proven to have changed it"
    return found


def refuse(tx: Transaction, holds: Mapping[Key, str]) -> None:
    """Say which changes are not made; once, however often the cluster is read."""
    for key, why in holds.items():
        hold = tx.get(key)
        last = tx.events(subject=key, types=[EventType.DECISION_REFUSED], limit=1, newest_first=True)
        if hold is not None and (not last or last[0].message != why):
            tx.event(EventType.DECISION_REFUSED, hold, reason="IdentityUnproven", message=why)


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of a cluster without what the cluster and other tools added: as a person would have written it."""
    metadata = document.get("metadata")
    kept = ("name", "namespace", "labels", "annotations")
    made: dict[str, Any] = {key: document[key] for key in ("apiVersion", "kind", "spec") if key in document}
    if isinstance(metadata, Mapping):
        made["metadata"] = {key: metadata[key] for key in kept if metadata.get(key) is not None}
    return made


def of_cluster(revision: str) -> bool:
    """Whether a revision is one of a cluster."""
    return revision.startswith(_CLUSTER)


def in_cluster(hold: Resource) -> bool:
    """Whether a cluster declares it."""
    return bool(hold.unit) and hold.provenance is not None and hold.provenance.revision.startswith(_CLUSTER)


def cluster_uid(provenance: Provenance | None) -> str:
    """The uid that the cluster gave to an object; "" for what comes from elsewhere."""
    if provenance is None or not provenance.revision.startswith(_CLUSTER):
        return ""
    return provenance.blob.partition(".")[0]


def _is_admitted(snapshot: Snapshot, live: Resource, operation: str, spec_digest: str) -> bool:
    rows = snapshot.events(
        subject=live.key, types=[EventType.ACT_ADMITTED], since=live.created_at, limit=_MOST_ADMISSIONS,
        newest_first=True,
    )  # fmt: skip
    return any(row.data["operation"] == operation and row.data["digest"] == spec_digest for row in rows)


def _first_status(declared: Declared, who: Identity, now: datetime) -> dict[str, Any]:
    if declared.kind == "ApprovalDecision":
        return who.first_status().to_wire()
    if declared.kind == "Hold":
        return HoldStatus(placed_by=who.subject or "nobody proven", transport=who.transport.value).to_wire()
    reason, said = (ConfirmationReason.PENDING, None) if who.subject else (ConfirmationReason.IDENTITY_UNPROVEN, False)
    conditions = set_condition((), "Succeeded", said, reason, who.unproven, now=now, generation=1)
    status = ConfirmationStatus(conditions=conditions, confirmed_by=who.subject, transport=who.transport.value)
    return status.to_wire()


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
