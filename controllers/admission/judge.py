"""The ruling over one question of the API server: validity for every kind; for acts also who may, and who it is.

The record is committed before the answer is given: an act that the API server lets through without it proves nobody
later. Whatever denies an act by command denies it here, with the same words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from controllers.holds import effective, estop
from controllers.reconcilers import consent
from controllers.sources import kubernetes_acts as acts
from controllers.sources import kubernetes_objects, kubernetes_voices
from controllers.sources.compile import compile_blob
from controllers.sources.kubernetes_acts import Admission
from decisions.approvals import Answer, rule
from decisions.cluster_user import subject_of
from schemas import registry
from schemas.admission import AdmissionRequest, Operation, answered
from schemas.approval_decision import ApprovalDecisionSpec, Transport
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import Refused, StoreError, UnknownName
from schemas.event import EventType
from schemas.hold import HoldScope, HoldSpec
from schemas.kind import ObjectClass
from schemas.resource import RELEASE_PART, RELEASE_REASON, Declared
from store.contract import Snapshot, Store, Transaction

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_MOST_PROBLEMS = 10
_FORBIDDEN, _INVALID, _CONFLICT, _UNAVAILABLE = 403, 422, 409, 503


class Denial(Exception):
    """No, and why, for whoever asked. ``code`` is an HTTP status."""

    def __init__(self, message: str, reason: str, code: int = _FORBIDDEN) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code


class Judge:
    """Answers the questions of one cluster. ``engine_user`` is who the engine is there: nobody else writes records;
    "" where no user is. Thread-safe."""

    def __init__(self, store: Store, *, now: Callable[[], datetime], engine_user: str = "") -> None:
        self._store = store
        self._now = now
        self._engine_user = engine_user

    def answer(self, request: AdmissionRequest) -> dict[str, Any]:
        """The review to send back. A store that does not answer denies."""
        try:
            self._rule(request)
        except Denial as no:
            return answered(request.uid, allowed=False, message=no.message, reason=no.reason, code=no.code)
        except StoreError:
            text = "the store of the engine does not answer: nothing was recorded; the same may be tried again"
            return answered(
                request.uid, allowed=False, message=text, reason="ServiceUnavailable", code=_UNAVAILABLE
            )  # fmt: skip
        return answered(request.uid, allowed=True)

    def _rule(self, request: AdmissionRequest) -> None:
        """Raises Denial."""
        document = request.object if request.object is not None else request.old_object
        if request.sub_resource or document is None or request.operation is Operation.CONNECT:
            return  # status: what stands there is written by the engine, and read from there by nobody
        kind = str(document.get("kind", ""))
        try:
            info = registry.by_kind(kind)
        except UnknownName:
            raise Denial(f"this engine knows no kind {kind[:80]!r}", "Invalid", _INVALID) from None
        if request.user_info.username == self._engine_user:
            return  # what it shows of its own in the cluster; read by nobody, and proving nobody
        leaves = request.operation is Operation.DELETE or _ends(request.object)
        if info.object_class is ObjectClass.RECORD:
            if not leaves and _differ(request):
                text = f"{kind} is a record: the engine writes it and nobody declares it"
                raise Denial(text, "Forbidden")
            return
        if request.operation is Operation.DELETE:
            if kind == "Hold":
                self._act(request, _valid(request.old_object))
            return
        if leaves or not _differ(request):
            return
        declared = _valid(request.object)
        _check_as_written(request)
        if kubernetes_objects.is_made(request.object or {}):
            raise Denial(
                f"{declared.key.short} has the label {kubernetes_objects.MADE_BY}: it shows what the engine made, and"
                " nothing that is written there counts",
                "Forbidden",
            )
        if kind in acts.ACTS | acts.AUTHORED:
            self._act(request, declared)

    def _act(self, request: AdmissionRequest, declared: Declared) -> None:
        subject = subject_of(request.user_info.username)
        if not subject:
            raise Denial("the name of this user cannot stand in a record: nobody would be proven", "Forbidden")
        document = request.old_object if request.object is None else request.object
        assert document is not None
        metadata = document.get("metadata")
        uid = str(metadata.get("uid", "")) if isinstance(metadata, Mapping) else ""
        if not uid:
            raise Denial("the API server did not say the uid of the object: it cannot be proven", "Forbidden")
        admission = Admission(
            key=declared.key,
            uid=uid,
            operation=request.operation.value,
            digest=declared.spec_hash,
            subject=subject,
            request=request.uid,
            groups=request.user_info.groups,
            user_uid=request.user_info.uid,
            voice=kubernetes_voices.mark_of(declared.annotations) if declared.kind == "Hold" else "",
        )
        if request.dry_run:
            with self._store.snapshot() as snapshot:
                _may(snapshot, admission, declared, self._now())
            return
        with self._store.transaction(admission.actor) as tx:
            denial = _denial(tx, admission, declared)
            if denial is None:
                acts.record(tx, admission)
            elif denial.reason != "Quorum":  # who asks too early is told, and has done nothing
                _log(tx, admission, denial)
        if denial is not None:
            raise denial


def _denial(tx: Transaction, admission: Admission, declared: Declared) -> Denial | None:
    try:
        _may(tx, admission, declared, tx.now)
    except Denial as no:
        return no
    return None


def _may(snapshot: Snapshot, admission: Admission, declared: Declared, now: datetime) -> None:
    """Raises Denial where the act has no effect."""
    if declared.kind in acts.AUTHORED:
        return
    if declared.kind == "Hold":
        _may_hold(snapshot, admission, declared, now)
        return
    if admission.operation != acts.CREATE:
        old = snapshot.get(declared.key)
        if old is None or old.spec_hash != declared.spec_hash:
            raise Denial(f"{declared.key.short} cannot be changed: an act is made once", "Invalid", _INVALID)
        return
    if snapshot.get(declared.key) is not None:
        raise Denial(f"{declared.key.short} was made before: make a new one, under another name", "AlreadyExists",
                     _CONFLICT)  # fmt: skip
    if declared.kind == "ApprovalDecision":
        _may_decide(snapshot, admission, declared, now)
    else:
        _may_confirm(snapshot, str(declared.spec["planDigest"]))


def _may_decide(snapshot: Snapshot, admission: Admission, declared: Declared, now: datetime) -> None:
    spec = ApprovalDecisionSpec.model_validate(declared.spec)
    request = snapshot.get(Key("ApprovalRequest", declared.namespace, spec.request_ref.name))
    with_roles = consent.roles_of(snapshot, declared.namespace, admission.subject, admission.groups)
    transport = Transport.KUBERNETES.value
    answer = Answer(declared.name, spec, admission.subject, transport, now, with_roles)
    ruling = rule(answer, consent.question_of(snapshot, request) if request is not None else None, now)
    if not ruling.counts:
        raise Denial(f"it had no effect: {ruling.reason}: {ruling.message}", ruling.reason.value)


def _may_confirm(snapshot: Snapshot, digest: str) -> None:
    waiting = {
        str(plan["digest"])
        for source in snapshot.objects("Source")
        for unit in source.status.get("units", ())
        for plan in unit.get("pending", ())
    }
    if not waiting:
        raise Denial("no plan waits for confirmation", "DigestUnknown")
    if digest not in waiting:
        raise Denial(f"the plan that waits has another digest than {digest[:26]}", "DigestUnknown")


def _may_hold(snapshot: Snapshot, admission: Admission, declared: Declared, now: datetime) -> None:
    spec = HoldSpec.model_validate(declared.spec)
    if admission.operation == acts.CREATE:
        if spec.scope is HoldScope.GLOBAL and declared.namespace != DEFAULT_NAMESPACE:
            text = f"a Hold over everything stands in the namespace {DEFAULT_NAMESPACE}, where everybody looks for it"
            raise Denial(text, "Forbidden")
        return
    hold = snapshot.get(declared.key)
    if hold is None:
        return  # nothing of it is in force
    old = HoldSpec.model_validate(hold.spec)
    if admission.operation == acts.UPDATE and hold.spec_hash == declared.spec_hash:
        _check_voice(declared)
        return
    try:
        part = None if admission.operation == acts.DELETE else acts.released_part(hold, declared.spec)
    except Refused as error:
        raise Denial(str(error), error.reason) from None
    if admission.operation == acts.UPDATE and part is None and spec.scope is HoldScope.GLOBAL is not old.scope:
        raise Denial("a Hold does not grow over everything: place another one", "Forbidden")
    if not acts.in_cluster(hold):
        raise Denial(f"{hold.key.short} is no object of this cluster: {effective.facts_of(hold).remedy}", "Declared")
    if not old.is_estop or (part is not None and not acts.releases_more(hold, part)):
        return
    if not declared.annotations.get(RELEASE_REASON, "").strip():
        how = f"kubectl annotate hold {hold.name} -n {hold.namespace} {RELEASE_REASON}=WHY"
        raise Denial(f"{hold.key.short} is an e-stop: its release needs a reason: {how}", "ReasonMissing")
    missing = estop.missing(snapshot, hold, admission.subject, part, now)
    if missing:
        how = f"kubectl annotate --overwrite hold {hold.name} -n {hold.namespace} {RELEASE_REASON}=WHY"
        if part is not None:
            how += f" {RELEASE_PART}='{json.dumps(part.to_wire())}'"
        raise Denial(f"{missing} more person(s) have to ask for the same first, each by {how}", "Quorum")


def _check_voice(declared: Declared) -> None:
    """Raises Denial for a voice that speaks of no part of anything."""
    try:
        kubernetes_voices.part_of(declared.annotations)
    except Refused as error:
        raise Denial(str(error), error.reason, _INVALID) from None


def _log(tx: Transaction, admission: Admission, denial: Denial) -> None:
    tx.event(
        EventType.DECISION_REFUSED,
        admission.key,
        reason=denial.reason,
        message=denial.message,
        data={"request": admission.request, "operation": admission.operation},
    )


def _ends(document: Mapping[str, Any] | None) -> bool:
    """Whether the object is being deleted: others take their finalizers from it then."""
    metadata = document.get("metadata") if document is not None else None
    return isinstance(metadata, Mapping) and metadata.get("deletionTimestamp") is not None


def _differ(request: AdmissionRequest) -> bool:
    """Whether anything changes that a person writes."""
    if request.object is None or request.old_object is None:
        return True
    return acts.plain(request.object) != acts.plain(request.old_object)


def _valid(document: Mapping[str, Any] | None) -> Declared:
    """Raises Denial with everything that is wrong with it."""
    plain = acts.plain(document or {})
    checked = registry.check_document(plain, default_namespace=DEFAULT_NAMESPACE)
    if isinstance(checked, Declared):
        return checked
    found = problems(plain) or [str(problem) for problem in checked]
    raise Denial(_listed(found), "Invalid", _INVALID)


def problems(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a document, as a file of the same content is told: ``field: message; expected ...``."""
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    said = []
    for found in compile_blob(text, "").diagnostics:
        line = f"{found.field}: {found.message}" if found.field else found.message
        line += f"; expected {found.expected}" if found.expected else ""
        said.append(line + (f" ({found.hint})" if found.hint else ""))
    return said


def _listed(found: list[str]) -> str:
    more = len(found) - _MOST_PROBLEMS
    return "; ".join([*found[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _check_as_written(request: AdmissionRequest) -> None:
    """Refuse what the API server took away in silence: a field that we do not know would be ignored otherwise, and a
    person would believe that it counts. kubectl leaves what it applied in an annotation. Raises Denial."""
    text = _last_applied(request.object)
    if not text or text == _last_applied(request.old_object):
        return
    try:
        written = json.loads(text)
    except ValueError:
        return  # the note of a tool of its own
    if not isinstance(written, dict):
        return
    metadata = written.get("metadata")
    if isinstance(metadata, dict):
        notes = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _LAST_APPLIED}
        written = {**written, "metadata": {**metadata, "annotations": notes}}
        written["metadata"] = {k: v for k, v in written["metadata"].items() if k in _WRITTEN}
    if not isinstance(registry.check_document(written, default_namespace=DEFAULT_NAMESPACE), Declared):
        found = problems(written)
        if found:
            raise Denial(_listed(found), "Invalid", _INVALID)


_WRITTEN = frozenset({"name", "namespace", "labels", "annotations"})


def _last_applied(document: Mapping[str, Any] | None) -> str:
    metadata = document.get("metadata") if document is not None else None
    notes = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    found = notes.get(_LAST_APPLIED) if isinstance(notes, Mapping) else None
    return found if isinstance(found, str) else ""
