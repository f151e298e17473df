"""The spec that a run was pinned to."""

from __future__ import annotations

from typing import Any

from store.contract import Snapshot


def spec_of(snapshot: Snapshot, uid: str, generation: int) -> dict[str, Any] | None:
    """The spec of an object at a generation, canonical; None when it is gone. Mostly it is the present one, which is
    known already."""
    present = snapshot.get_by_uid(uid)
    if present is not None and present.generation == generation:
        return present.spec
    kept = snapshot.spec_at(uid, generation)
    return None if kept is None else kept.spec
