"""Field ownership in a transaction: the timer that ends an override, and the event of a field fight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decisions import ownership as deciding
from schemas import registry
from schemas.base import Key
from schemas.event import EventType
from schemas.ownership import Ownership, Path, leaves, path_text
from schemas.resource import Declared, Resource
from store.contract import Transaction

KIND = "Ownership"
KEY = Key(KIND, "", "fields")
"""What the timers of all overrides wake; the purpose of each is the uid of its object, which a rename keeps."""


def valid(kind: str, spec: dict[str, Any]) -> bool:
    """Whether a kind accepts a spec."""
    try:
        registry.by_kind(kind).spec.model_validate(spec)
    except ValueError:
        return False
    return True


def arrange(tx: Transaction, before: Ownership, resource: Resource) -> None:
    """Set the timer of an object whose ownership was written, and say once that a field is fought for."""
    when = deciding.next_look(resource.ownership)
    if when is None:
        tx.clear_timer(KEY, resource.uid)
    else:
        tx.set_timer(KEY, resource.uid, when)
    if resource.ownership.fight_since is not None and before.fight_since is None:
        names = ", ".join(sorted({path_text(f.path) for f in resource.ownership.flips}))
        text = f"{names} changed {deciding.FIGHT_FLIPS} times in 10 minutes; it is left alone for longer each time"
        tx.event(EventType.FIELD_FIGHT, resource, reason="FieldFight", message=text)


def drifted(want: Declared, current: Resource) -> tuple[Path, ...]:
    """Declared leaves of ``current`` that have another value than they should."""
    fields = want.ownership.fields if want.ownership is not None else {}
    return tuple(
        p for p, _ in leaves(fields) if deciding.value_at(want.spec, p) != deciding.value_at(current.spec, p)
    )  # fmt: skip


def laid_over(declared: Mapping[Key, Declared], current: Mapping[Key, Resource]) -> dict[Key, Declared]:
    """What is declared, with what people claim laid over it. ``current`` is by the key of the declaration."""
    result = dict(declared)
    for key, resource in current.items():
        want = declared[key]
        if resource.ownership.claims or resource.ownership.flips:
            result[key] = deciding.laid_over(want, resource, valid)
    return result
