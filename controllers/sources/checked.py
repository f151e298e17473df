"""What was checked of a source last, kept beside the compiled files so that the next process knows it too.

A restart over an unchanged commit then costs a look at the head and not a comparison of every object, and one over a
commit that changed a few files costs these. Nothing that the record says is believed for longer, or under other
circumstances, than the process that wrote it would have believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controllers.sources.compile import BlobCache, compiler_version
from controllers.sources.increment import Ground
from controllers.sources.tree import Extent
from schemas.quantities import format_time, parse_time

_MOST = 500
"""More files than this that others lean on are not written down at each pass."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A pass that compared a whole source with the store: its head, the generation of the source, when it was, whether
    nothing was left waiting, and the circumstances (digests of confirmations, digest of what is trusted or "")."""

    head: str
    generation: int
    at: datetime
    settled: bool
    confirmations: frozenset[str]
    trust: str

    def stands(self, now: Checked, longest: timedelta) -> bool:
        """Whether it was made under the circumstances of ``now``, less than ``longest`` ago. A clock that was set back
        makes an end of it."""
        return self.settled and replace(self, at=now.at) == now and timedelta(0) <= now.at - self.at < longest


def record(uid: str, checked: Checked, ground: Ground | None) -> dict[str, bytes]:
    """Rows for the cache: what was checked of the source with that uid, and from where the next pass may go on."""
    form = [
        checked.head, checked.generation, format_time(checked.at), checked.settled, sorted(checked.confirmations),
        checked.trust, _packed(ground),
    ]  # fmt: skip
    return {_name(uid): json.dumps(form).encode()}


def recall(cache: BlobCache, uid: str) -> tuple[Checked, Ground | None] | None:
    """The last record, None when there is none or another version of the compiler made it."""
    wanted: Iterable[str] = [_name(uid)]
    for _, data in cache.cached_blobs(compiler_version(), wanted):
        head, generation, at, settled, confirmations, trust, ground = json.loads(data)
        found = Checked(head, generation, parse_time(at), settled, frozenset(confirmations), trust)
        return found, _unpacked(ground)
    return None


def _packed(ground: Ground | None) -> list[Any] | None:
    if ground is None or ground.tree is not None or ground.extent is None:
        return None
    if len(ground.units) + len(ground.with_schema) + len(ground.prompts) > _MOST:
        return None
    return [ground.extent.files, ground.extent.nodes, ground.units, ground.with_schema, ground.prompts]


def _unpacked(form: list[Any] | None) -> Ground | None:
    if form is None:
        return None
    files, nodes, units, schemas, prompts = form
    return Ground(Extent(files, nodes), tuple(units), tuple(map(tuple, schemas)), tuple(map(tuple, prompts)))


def _name(uid: str) -> str:
    return f"look:{uid}"  # no blob id of git has a colon
