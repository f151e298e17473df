"""Idempotency keys of an agent's writes, kept in the run's status and so in the same transaction as the write."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from schemas.errors import Refused
from schemas.run import RunStatus

KEPT = 200
"""The latest keys that are known. A client repeats a request within minutes, or never."""


@dataclass(frozen=True, slots=True)
class Once:
    """One logical request: its idempotency key and its content, both as digests."""

    key: str
    content: str

    @classmethod
    def of(cls, key: str, *content: bytes) -> Once:
        """``content`` are the parts of the request that have to be the same when its key is used again."""
        hashed = hashlib.sha256()
        for part in content:
            hashed.update(len(part).to_bytes(8, "big") + part)
        return cls(hashlib.sha256(key.encode()).hexdigest()[:20], hashed.hexdigest()[:20])

    def seen(self, status: RunStatus) -> bool:
        """Whether this request was carried out already. Raises Refused (KeyReused) when its key was used for another
        one."""
        mine = f"{self.key}:"
        for known in status.seen_keys:
            if known.startswith(mine):
                if known != mine + self.content:
                    raise Refused(
                        "this Idempotency-Key was used for another request of this run; a new request takes a new key",
                        reason="KeyReused",
                    )
                return True
        return False

    def remembered(self, status: RunStatus) -> tuple[str, ...]:
        """The keys to keep once it is carried out."""
        return (*status.seen_keys, f"{self.key}:{self.content}")[-KEPT:]
