"""Voices for the end of an e-stop, by kubectl: whoever gives a Hold its reason to be released asks for its release.

A voice counts where two things agree: a review named its user, and the cluster keeps what that review was about. Who
could only make up reviews adds nothing, since no object changes by it; who changes the object is named by a review that
is true, so that there are two users then, and neither is proven. A deletion that is denied leaves nothing in the
cluster: nobody is counted for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controllers.holds import estop
from controllers.sources import kubernetes_acts as acts
from decisions.plan import Action, Plan
from schemas.base import Key
from schemas.errors import Refused
from schemas.event import EventType
from schemas.hold import HoldSpec, Released
from schemas.resource import RELEASE_PART, RELEASE_REASON, Declared, Resource, digest
from store.contract import Transaction

_NOBODY = "the engine was not asked who gave the reason"
_SEVERAL = "two users are said to have given that reason"


def mark_of(annotations: Mapping[str, str]) -> str:
    """What tells a voice from others: the digest of its reason, and of the part that it speaks of; "" for none."""
    reason = annotations.get(RELEASE_REASON, "").strip()
    return digest([reason, annotations.get(RELEASE_PART, "")]) if reason else ""


def part_of(annotations: Mapping[str, str]) -> Released | None:
    """The part of an e-stop that a voice speaks of; None for all of it. Raises Refused for what is no part."""
    text = annotations.get(RELEASE_PART, "").strip()
    if not text:
        return None
    try:
        return Released.model_validate_json(text)
    except ValueError:
        raise Refused(
            f'{RELEASE_PART} is JSON like spec.released: {{"agents": [{{"name": "links"}}]}}', reason="Invalid"
        ) from None


def hear(tx: Transaction, plan: Plan, declared: Mapping[Key, Declared], live: Mapping[Key, Resource]) -> None:
    """Note the voices that the updates of a plan bring. One that proves nobody is told, and counts for nothing."""
    if acts.of_cluster(plan.revision):
        changes = [(live[e.key], declared[e.key]) for e in plan.entries if e.action is Action.UPDATE]
        note(tx, changes)


def note(tx: Transaction, changes: Iterable[tuple[Resource, Declared]]) -> None:
    """See ``hear``: (what was in force, what the cluster has now)."""
    for before, now in changes:
        mark = mark_of(now.annotations) if now.kind == "Hold" else ""
        if not mark or mark == mark_of(before.annotations):
            continue
        hold = tx.get(now.key)
        if hold is None or not HoldSpec.model_validate(hold.spec).is_estop or not acts.in_cluster(hold):
            continue
        seen = [known for known in acts.recorded(tx, now.key, acts.cluster_uid(now.provenance)) if known.voice == mark]
        if len({known.subject for known in seen}) != 1:
            why = f"no voice for the release of {now.key.short}: {_SEVERAL if seen else _NOBODY}; give another one"
            tx.event(EventType.DECISION_REFUSED, hold, reason="IdentityUnproven", message=why)
            continue
        try:
            part = part_of(now.annotations)
        except Refused:
            continue  # the API server was told when it asked
        estop.ask(tx, hold, now.annotations[RELEASE_REASON].strip(), part, actor=seen[0].actor)
