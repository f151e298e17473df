"""What was checked of a source last, kept beside the compiled files so that the next process knows it too.

A restart over an unchanged commit then costs a look at the head and not a comparison of every object. Nothing that the
record says is believed for longer, or under other circumstances, than the process that wrote it would have believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.sources.compile import BlobCache, compiler_version
from schemas.quantities import format_time, parse_time


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


def keep(cache: BlobCache, uid: str, checked: Checked) -> None:
    """Record it for the source with that uid."""
    form = [
        checked.head, checked.generation, format_time(checked.at), checked.settled, sorted(checked.confirmations),
        checked.trust,
    ]  # fmt: skip
    cache.cache_blobs(compiler_version(), {_name(uid): json.dumps(form).encode()})


def recall(cache: BlobCache, uid: str) -> Checked | None:
    """The last record, None when there is none or another version of the compiler made it."""
    wanted: Iterable[str] = [_name(uid)]
    for _, data in cache.cached_blobs(compiler_version(), wanted):
        head, generation, at, settled, confirmations, trust = json.loads(data)
        return Checked(head, generation, parse_time(at), settled, frozenset(confirmations), trust)
    return None


def _name(uid: str) -> str:
    return f"checked:{uid}"  # no blob id of git has a colon
