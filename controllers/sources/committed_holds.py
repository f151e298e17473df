"""The Holds that a source declares at its head, read without a store: what is committed to stop work stops it also
while the store does not answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from controllers.sources import provenance
from controllers.sources.compile import compile_blob
from controllers.sources.tree import Entry, SourceReader
from decisions import cross_check
from decisions.holds import HoldFacts
from schemas.errors import SourceUnreadable
from schemas.hold import HoldSpec
from schemas.source import SourceReason, SourceSpec

_KIND = b"Hold"


class CommittedHolds:
    """Reads one source; nothing is read again while its head stays. ``open_reader`` is called once, when first needed.
    Belongs to one thread at a time."""

    def __init__(
        self, spec: SourceSpec, open_reader: Callable[[], SourceReader], *, now: Callable[[], datetime]
    ) -> None:
        self._spec = spec
        self._open = open_reader
        self._now = now
        self._reader: SourceReader | None = None
        self._head = ""
        self._found: list[HoldFacts] = []

    def __call__(self) -> list[HoldFacts]:
        """Those of the current head, if it may be applied. Raises SourceUnreadable: what was found before counts."""
        if self._spec.suspend:
            return []
        if self._reader is None:
            self._reader = self._open()
        self._reader.fetch()
        head = self._reader.head()
        if head == self._head:
            return self._found
        commit = head.rpartition(":")[2]
        if any(commit.startswith(prefix) for prefix in self._spec.quarantine):
            raise SourceUnreadable(f"{head} is in spec.quarantine", reason=SourceReason.QUARANTINED)
        trust = provenance.trusted(self._reader, self._spec)
        who = provenance.signer(self._reader, trust, head, self._now())
        self._found = self._holds(self._reader, head, who)
        self._head = head
        return self._found

    def _holds(self, reader: SourceReader, head: str, who: str) -> list[HoldFacts]:
        entries: dict[str, Entry] = {entry.blob: entry for entry in reader.read_tree(head).entries}
        found = []
        for entry, data in reader.read_blobs(entries.values()):
            if _KIND not in data:
                continue
            for declared, line in compile_blob(data, entry.path).declared:
                if declared.kind == "Hold" and not cross_check.check([declared]):
                    place = f"{entry.path}:{line}"
                    spec = HoldSpec.model_validate(declared.spec)
                    by = f"user:{who}" if who else "the source"
                    found.append(HoldFacts(declared.key, spec, by, self._now(), place=place))
        return found

    def close(self) -> None:
        """Let go of the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
