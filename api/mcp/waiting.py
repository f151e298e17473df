"""Calls that wait for a person: what names them when the same call comes again, and the state that a client carries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from schemas.resource import digest

MOST = 2000
"""Waiting calls that are remembered. One that is forgotten is asked about as a new call, and finds its leave."""
_MOST_STATE = 2000


class BadState(Exception):
    """A request state that this proxy did not make for this call of this caller, or that was used or is too old."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that waits. ``key`` is its name to the engine: one key is one call."""

    caller: str
    identity: str
    key: str
    decision_id: str = ""
    request: str = ""


def identity(caller: str, tool: str, args: dict[str, Any]) -> str:
    """What makes two calls of one caller identical."""
    return digest([caller, tool, args])


class Pending:
    """The calls that wait, each held by nobody or by one request at a time: what was allowed once is done once."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, list[Asked]] = OrderedDict()
        self._count = 0

    def take(self, call: str) -> Asked | None:
        """The oldest identical call that waits and that no request holds; it is this request's now."""
        found = self._waiting.get(call)
        if not found:
            return None
        taken = found.pop(0)
        self._count -= 1
        if not found:
            del self._waiting[call]
        return taken

    def take_exactly(self, call: str, key: str) -> Asked | None:
        """The one of that key."""
        for asked in self._waiting.get(call, ()):
            if asked.key == key:
                self._waiting[call].remove(asked)
                self._count -= 1
                if not self._waiting[call]:
                    del self._waiting[call]
                return asked
        return None

    def leave(self, asked: Asked) -> None:
        """Give it back: it waits on."""
        self._waiting.setdefault(asked.identity, []).append(asked)
        self._count += 1
        while self._count > MOST:
            oldest = next(iter(self._waiting))
            self.take(oldest)


@dataclass(slots=True)
class States:
    """Request states: signed, bound to caller and call, with an end, good once. The client is not trusted with them."""

    secret: bytes = field(repr=False)
    monotonic: Callable[[], float]
    lifetime_s: float = 1800.0
    _open: OrderedDict[str, None] = field(default_factory=OrderedDict, repr=False)

    def make(self, asked: Asked, nonce: str) -> str:
        """A state for a call that waits. ``nonce`` is new for each."""
        body = {
            "n": nonce,
            "k": asked.key,
            "c": hashlib.sha256(asked.caller.encode()).hexdigest(),
            "i": asked.identity,
            "e": self.monotonic() + self.lifetime_s,
        }
        raw = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
        self._open[nonce] = None
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return f"{_packed(raw)}.{_packed(self._tag(raw))}"

    def redeem(self, state: str, caller: str, call: str) -> str:
        """The key of the call that the state was made for. Raises BadState."""
        if len(state) > _MOST_STATE:
            raise BadState
        body, _, tag = state.partition(".")
        try:
            raw, given = _unpacked(body), _unpacked(tag)
        except ValueError:
            raise BadState from None
        if not hmac.compare_digest(self._tag(raw), given):
            raise BadState
        found = json.loads(raw)
        if found["c"] != hashlib.sha256(caller.encode()).hexdigest() or found["i"] != call:
            raise BadState
        if self.monotonic() > found["e"] or found["n"] not in self._open:
            raise BadState
        del self._open[found["n"]]
        return str(found["k"])

    def _tag(self, raw: bytes) -> bytes:
        return hmac.new(self.secret, b"remit-mcp-state\0" + raw, hashlib.sha256).digest()


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    if not text.isascii():
        raise ValueError("not base64")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
