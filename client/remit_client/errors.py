"""What can go wrong between an agent and Remit. The class decides what the agent does next.

::

    ClientError
    ├── NotConfigured      started without what the engine hands to a run; nothing was sent
    ├── EngineUnreachable  no answer for the whole retry window; the same call may be made again later
    ├── BadAnswer          something answered that does not speak the agent protocol
    └── Problem            the engine refused; carries status, code, title and detail
        ├── RunOver        401: the token is dead, so the run is over: stop working
        ├── NotInScope     404: the run is not this token's, or has no such resource
        ├── Conflict       409: the run is in a state that does not allow it; ``detail`` says why
        ├── RateLimited    429: too often; ``retry_after_s`` says when it would be heard
        └── Rejected       any other refusal: the request itself is wrong, repeating it is no help

    Failure                raised by an agent's own code: ends the run as failed, in the agent's own words
    ├── Canceled           the run was asked to stop
    └── Denied             the gate, or a person, refused a call; ``decision_id`` names the decision
        └── AlreadyDone    the call was made, and its result is known
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of what the client raises. ``str(error)`` is fit for a person and holds no token."""


class NotConfigured(ClientError):
    """The program was not started by Remit, or what it was given cannot be used. The message names the variable."""


class EngineUnreachable(ClientError):
    """The engine gave no usable answer for the whole retry window. ``tries`` counts the attempts that were made.

    A write that ends like this may have been carried out: repeat it only through the same Run object's methods that
    are safe to repeat (``complete`` and ``fail`` are: their idempotency key is that of the run).
    """

    def __init__(self, message: str, *, tries: int) -> None:
        self.tries = tries
        super().__init__(message)


class BadAnswer(ClientError):
    """An answer that is not of the agent protocol: not JSON, not an object, too large, or a redirect."""


class Problem(ClientError):
    """The engine refused. The fields are those of ``application/problem+json`` (RFC 9457); ``code`` is Remit's word
    for the case, "" when there is none."""

    def __init__(self, message: str, *, status: int, code: str = "", title: str = "", detail: str = "") -> None:
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        super().__init__(message)


class RunOver(Problem):
    """401: the token is dead. The run ended, was canceled or was given to somebody else; nothing more is accepted."""


class NotInScope(Problem):
    """404: outside what this token may see."""


class Conflict(Problem):
    """409: not possible in the run's present state."""


class RateLimited(Problem):
    """429, and waiting for the next chance (``retry_after_s`` from now) would take longer than the retry window."""

    def __init__(
        self, message: str, *, retry_after_s: float, code: str = "", title: str = "", detail: str = ""
    ) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message, status=429, code=code, title=title, detail=detail)


class Rejected(Problem):
    """Any other refusal."""


class Failure(Exception):
    """Raise it inside a run's block to end the run as failed: ``reason`` (a CamelCase word) and ``message`` are
    reported as they stand, so neither may hold a secret. ``retryable`` says whether another attempt may help."""

    def __init__(self, reason: str, message: str, *, retryable: bool = False) -> None:
        self.reason = reason
        self.message = message
        self.retryable = retryable
        super().__init__(f"{reason}: {message}")


class Canceled(Failure):
    """The run was asked to stop."""

    def __init__(self, message: str = "stopped on request") -> None:
        super().__init__("Canceled", message, retryable=False)


class Denied(Failure):
    """A call was refused. Catch it to go on without the call; uncaught, it ends the run as failed, and another attempt
    would be refused as well."""

    def __init__(
        self, message: str, *, code: str = "", rule: str = "", remedy: str = "", decision_id: str = ""
    ) -> None:
        self.code = code
        self.rule = rule
        self.remedy = remedy
        self.decision_id = decision_id
        super().__init__("Denied", message, retryable=False)


class AlreadyDone(Denied):
    """A call of this key was made in this run, and its result was reported: it is not made again. Catch it to go on
    with what it brought then; another call takes another key."""
