"""The error tree. The class decides the handling; the message says what failed, on which object, and what to do.

::

    RemitError
    ├── InvalidSpec        bad input; carries Diagnostics with file:line:column      exit 2, condition with the place
    ├── UnknownName        no kind or field of that name; says which there are       exit 2
    ├── Refused            a guard said no; nothing changed                          exit 3
    │   ├── TransitionRefused   not a legal move; names the legal ones
    │   └── OverLimit      used up for now; says when it may be tried again
    ├── Retry              passing fault: try again with backoff, or after `after`
    ├── Waiting            waits for something that will wake the key; no retry
    ├── Stalled            needs a commit or a person; parked until the spec changes
    ├── Terminal           never succeeds as it stands; parked, counted
    ├── SourceUnreadable   a source cannot be read; the last good revision stays
    └── StoreError
        ├── NotFound       no such object
        ├── AlreadyExists  the identity is taken
        ├── Conflict       the object moved since it was read: read again and decide again
        ├── Fenced         the writer's lease is gone: stop writing, a newer holder acts
        ├── StoreLocked    another engine holds the store
        └── StoreUnavailable    the database does not answer or is full
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


class RemitError(Exception):
    """Base of every error that Remit raises on purpose. ``str(error)`` is fit for a person and holds no secret."""


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One thing that is wrong with an input, with its place.

    ``line`` and ``column`` count from 1; 0 means the place is the whole file. ``field`` is a dotted path such as
    ``spec.retry.maxAttempts`` ("" for the document itself). ``expected`` and ``hint`` may be "".
    """

    path: str
    line: int
    column: int
    field: str
    message: str
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = self.path
        if self.line:
            place += f":{self.line}:{self.column}"
        text = f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.hint:
            text += f" ({self.hint})"
        return text

    def at_path(self, path: str) -> Diagnostic:
        """The same finding for another file name (compiled blobs do not know theirs)."""
        return replace(self, path=path)


class InvalidSpec(RemitError):
    """Input that cannot be accepted. ``diagnostics`` is never empty and sorted by place."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(diagnostics))
        super().__init__("\n".join(str(d) for d in self.diagnostics))


class UnknownName(RemitError):
    """No kind or field is called like that. ``known`` lists the names that there are, in stable order."""

    def __init__(self, message: str, *, known: Sequence[str] = ()) -> None:
        self.known = tuple(known)
        super().__init__(message)


class Refused(RemitError):
    """A guard refused; nothing was changed. ``reason`` is a CamelCase word from a closed set of the guard."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class TransitionRefused(Refused):
    """A state change that is not legal. ``legal`` lists the states that are, for this actor, in stable order."""

    def __init__(self, message: str, *, reason: str, legal: Sequence[str]) -> None:
        self.legal = tuple(legal)
        super().__init__(message, reason=reason)


class OverLimit(Refused):
    """A limit is used up for now. ``after`` is in seconds: trying again earlier is no use."""

    def __init__(self, message: str, *, reason: str, after: float) -> None:
        self.after = after
        super().__init__(message, reason=reason)


class Retry(RemitError):
    """A passing fault. ``after`` in seconds overrides the backoff; None takes the key's backoff."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


class Waiting(RemitError):
    """Waits on something whose change wakes the key. ``on`` names it."""

    def __init__(self, message: str, *, on: str) -> None:
        self.on = on
        super().__init__(message)


class Stalled(RemitError):
    """Needs a commit or a person. ``reason`` is a CamelCase condition reason."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class Terminal(RemitError):
    """Never succeeds as it stands: the key is parked until its generation changes."""


class SourceUnreadable(RemitError):
    """A source cannot be read or trusted. ``reason`` is a SourceReason value; never means "empty"."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class StoreError(RemitError):
    """Base of what the store raises; foreign database errors are translated to it, cause chained."""


class NotFound(StoreError):
    """No such object."""


class AlreadyExists(StoreError):
    """The identity (kind, namespace, name), uid or idempotency key is taken."""


class Conflict(StoreError):
    """The object moved since it was read: read again, decide again."""


class Fenced(StoreError):
    """The writer's lease was taken over or has ended; the caller stops writing."""


class StoreLocked(StoreError):
    """Another engine holds the store; the message says which process, since when."""


class StoreUnavailable(StoreError):
    """The database does not answer, is read-only, or its disk is full. Reads may still work."""


class StoreGone(StoreUnavailable):
    """The database was removed or replaced while it was open. What is written now is lost: whoever holds it ends."""


class StoreUnsafe(StoreGone):
    """The disk did not say that it keeps what was written. It may say so of the next write and have lost this one, so
    nothing more is read or written through this store: whoever holds it ends, and the next one reads what is there."""
