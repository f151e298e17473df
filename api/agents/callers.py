"""Who is speaking: the bearer token, the run it stands for, and whether that run may still speak."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request

from api.agents.limits import TokenBuckets
from api.problems import Problem
from controllers.runs.tokens import HOOK, RUN, RunTokens
from controllers.runtime.blocking import Blocking
from schemas.passage import CallChannel, Passage
from schemas.resource import Resource
from schemas.run import ENDED, RunStatus
from store.contract import Store

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="remit"'}
_MOST_TOKEN = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """An agent whose token was checked. ``run`` is its run as it was then, not ended; decide nothing by it that a
    transaction has to hold."""

    run: Resource
    status: RunStatus

    @property
    def uid(self) -> str:
        """Of the run."""
        return self.run.uid


class Callers:
    """Checks tokens."""

    def __init__(
        self, store: Store, tokens: RunTokens, buckets: TokenBuckets, blocking: Blocking, *, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._buckets = buckets
        self._blocking = blocking
        self._now = now

    async def admit(self, request: Request, run: str, *, place: bool = False) -> Caller:
        """The caller, who asks for ``run`` (name or uid); ``place`` also admits a place that the engine put before the
        run's calls. Raises Problem as ``identify``, and 404 for any run but its own."""
        caller = await self.identify(request, place=place)
        if run not in (caller.run.name, caller.uid):
            raise Problem(404, "NotFound", "this token's run has nothing of that name")
        return caller

    async def identify(self, request: Request, *, place: bool = False) -> Caller:
        """The caller, by its token alone. Raises Problem: 401 for no token, a false one or one whose run is over, 429
        for too many requests."""
        return await self.open(self._run_of(bearer(request), place=place)[0])

    async def open(self, run_uid: str) -> Caller:
        """The caller of a run that may still speak. Raises Problem (401)."""
        return await self._blocking.run(self._find, run_uid)

    def asker(self, request: Request, channel: CallChannel | None = None) -> tuple[str, Passage]:
        """The uid of the run that a token stands for, and where its call comes through; nobody looked whether it still
        may speak. ``channel`` is what the endpoint is; without one the token of a place says it, else the header
        Remit-Channel, which is only the caller's word. Raises Problem: 401 for no token or a false one, 429 for too
        many requests."""
        token = basic(request) if channel is CallChannel.INTERCEPTOR else bearer(request)
        run_uid, kind = self._run_of(token, place=True)
        if channel is None:
            channel = CallChannel.HOOK if kind == HOOK else channel_named(request.headers.get("remit-channel", ""))
        return run_uid, Passage(channel=channel, placed=kind == HOOK)

    def known(self, token: str) -> tuple[str, str] | None:
        """The run and the kind of a token; None for one that nobody was given."""
        return self._tokens.identify(token) if 0 < len(token) <= _MOST_TOKEN else None

    def may_ask(self, run_uid: str) -> bool:
        """Whether the run asks not too often; counts a request where it does."""
        return not self._buckets.take(run_uid)

    def _run_of(self, token: str, *, place: bool) -> tuple[str, str]:
        known = self._tokens.identify(token)
        if known is None or (known[1] != RUN and not place):
            raise Problem(401, "TokenInvalid", "this is not a run's token", headers=CHALLENGE)
        run_uid = known[0]
        # Before the store is asked: a flood of one run must not cost the others anything.
        wait_s = self._buckets.take(run_uid)
        if wait_s:
            raise Problem(429, "TooManyRequests", "this run asks too often", retry_after_s=wait_s)
        return known

    def _find(self, run_uid: str) -> Caller:
        with self._store.snapshot() as snapshot:
            caller = find(snapshot.get_by_uid(run_uid))
        until = caller.status.hosted_until
        if until is not None and self._now() >= until:
            raise dead_token("the time of its sub-agent is over")
        return caller


def find(run: Resource | None) -> Caller:
    """The caller for a run that was looked up. Raises Problem (401)."""
    if run is None or run.kind != "Run":
        raise dead_token("its run does not exist any more")
    status = RunStatus.model_validate(run.status)
    if status.state in ENDED:
        raise dead_token(f"its run has ended: {status.state}, {status.reason}")
    if status.token_revoked_at is not None:
        raise dead_token(f"it was revoked: {status.token_revoked_for}")
    return Caller(run, status)


def dead_token(why: str) -> Problem:
    """401 for a token that was good once."""
    return Problem(401, "TokenDead", f"this token is not valid any more: {why}", headers=CHALLENGE)


_CHANNELS = {channel.value: channel for channel in CallChannel}


def channel_named(text: str) -> CallChannel:
    """What the header Remit-Channel says."""
    return _CHANNELS.get(text, CallChannel.CLIENT)


def basic(request: Request) -> str:
    """The token of a request whose sender can only put it into the address: the password of Basic, else the bearer
    token. Raises Problem (401)."""
    given = request.headers.getlist("authorization")
    scheme, _, words = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "basic":
        return bearer(request)
    try:
        token = base64.b64decode(words.strip(), validate=True).decode("ascii").partition(":")[2]
    except ValueError:
        token = ""
    if not token or len(token) > _MOST_TOKEN:
        raise Problem(401, "TokenMissing", "put the run's token into the address: http://run:TOKEN@...")
    return token


def bearer(request: Request, whose: str = "the run's token: Authorization: Bearer $REMIT_TOKEN") -> str:
    """The bearer token of a request. Raises Problem (401), which says ``whose`` to send."""
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MOST_TOKEN:
        raise Problem(401, "TokenMissing", f"send {whose}", headers=CHALLENGE)
    return token
