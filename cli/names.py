"""Names that verbs give to the objects they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.base import Key

if TYPE_CHECKING:
    from store.contract import Snapshot


def free(tx: Snapshot, kind: str, namespace: str, name: str) -> str:
    """``name``, or ``name`` with the first number from 2 up that makes it free."""
    number, free = 1, name
    while tx.get(Key(kind, namespace, free)) is not None:
        number += 1
        free = f"{name}-{number}"
    return free
