"""The endpoints of the gate: may I, and what was decided."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from api.agents.bodies import Bodies, named_key, parse
from api.agents.callers import Caller, Callers, dead_token
from api.agents.limits import Places
from api.agents.runs import answer_with, watch_client
from api.agents.wakes import Wakes
from api.problems import Problem
from controllers.gate.asking import Asked
from controllers.gate.authorize import KEY_DEAD, Gate
from controllers.gate.batches import Batches
from controllers.gate.held import before_it_goes_out
from controllers.runs.run_record import agent_actor
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from schemas.authorize import AuthorizeMessage, Decision, DecisionWord, Estimate
from schemas.errors import NotFound, Refused
from schemas.mission import Spend
from schemas.passage import Passage
from store.contract import Store

_SMALL = 16 * 1024
"""A body of so many bytes is read in less time than a thread takes to begin."""


class DecisionEndpoints:
    """Answers for one store. Everything that blocks runs in threads; belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        *,
        callers: Callers,
        bodies: Bodies,
        places: Places,
        polls: Places,
        clock: Clock,
        blocking: Blocking,
        wakes: Wakes,
    ) -> None:
        self._store = store
        self._gate = gate
        self.batches = Batches(store, gate, blocking)
        """Calls that are decided together."""
        self._callers = callers
        self._bodies = bodies
        self._places = places
        self._polls = polls
        self._clock = clock
        self._blocking = blocking
        self._wakes = wakes

    async def authorize(self, request: Request) -> Response:
        """Decide one call. Raises Problem, RemitError (see ``runs.to_problem``)."""
        run_uid, passage = self._callers.asker(request)  # whether that run may still ask is looked at on deciding
        key = named_key(request)
        with self._places.taken(run_uid):
            async with self._bodies.read(request, large=False) as body:
                asked = await self._read(body, key, passage)
                decision = await self._decide(run_uid, asked)
        return answer_with(decision)

    async def settle(self, request: Request, run_uid: str, asked: Asked, wait_s: float) -> Decision:
        """Decide one call, and wait up to ``wait_s`` seconds for what a person says. Raises Problem, RemitError (see
        ``runs.to_problem``)."""
        until = self._clock.monotonic() + wait_s
        decision = await self._decide(run_uid, asked)
        while decision.decision is DecisionWord.ASK:
            left = int(until - self._clock.monotonic())
            if left < 1 or self._wakes.closing.is_set() or await request.is_disconnected():
                break
            if decision.authorize_again:
                decision = await self._decide(run_uid, asked)
                continue
            caller = await self._callers.open(run_uid)
            decision = await self._wait(request, caller, decision.decision_id, left)
        return decision

    async def _decide(self, run_uid: str, asked: Asked) -> Decision:
        try:
            return await self.batches.decide(run_uid, asked)
        except (NotFound, Refused) as error:
            raise error_of(error) from None

    async def _read(self, body: bytes, key: str | None, passage: Passage) -> Asked:
        if len(body) <= _SMALL:
            return asked_in(parse(AuthorizeMessage, body), key, passage)
        return await self._blocking.run(lambda: asked_in(parse(AuthorizeMessage, body), key, passage))

    async def decision(self, request: Request, decision_id: str, wait_s: int) -> Response:
        """The decision; while a person is asked, as soon as there is an answer, else after ``wait_s`` seconds. Raises
        Problem, RemitError (see ``runs.to_problem``)."""
        caller = await self._callers.identify(request, place=True)
        with self._polls.taken(caller.uid):
            return answer_with(await self._wait(request, caller, decision_id, wait_s))

    async def _wait(self, request: Request, caller: Caller, decision_id: str, wait_s: int) -> Decision:
        until = self._clock.monotonic() + wait_s
        gone = asyncio.Event()
        watch = asyncio.create_task(watch_client(request, gone))
        try:
            while True:
                found = await self._watch(caller, decision_id, until, gone)
                if found is not None:
                    return found
        finally:
            watch.cancel()

    async def _watch(self, caller: Caller, decision_id: str, until: float, gone: asyncio.Event) -> Decision | None:
        """The decision once it is settled, or the time is over; None when the call waits for another question now, and
        has to be watched anew."""
        asked, watched = await self._blocking.run(self._concerns, caller, decision_id)
        async with self._wakes.waiting(*watched) as news:
            while True:
                news.clear()
                decision = await self._blocking.run(self._look, caller, decision_id)
                left = until - self._clock.monotonic()
                settled = decision.decision is not DecisionWord.ASK or decision.authorize_again
                if settled or left <= 0 or gone.is_set() or self._wakes.closing.is_set():
                    return decision
                if decision.approval_request != asked:
                    return None
                await wait_for_any(self._clock, left, news, gone, self._wakes.closing)

    def _concerns(self, caller: Caller, decision_id: str) -> tuple[str | None, tuple[str, ...]]:
        """The question that a call waits for, and what a change of may bring news: the run, the call, the question."""
        with self._store.snapshot() as snapshot:
            found = self._gate.look(snapshot, caller.run, decision_id, self._clock.now())
            request = self._gate.question(snapshot, caller.run.namespace, found)
        uids = (caller.uid, decision_id, request.uid if request is not None else "")
        return found.approval_request, tuple(uid for uid in uids if uid)

    def _look(self, caller: Caller, decision_id: str) -> Decision:
        with self._store.snapshot() as snapshot:
            if not self._gate.is_news(snapshot, caller.uid, decision_id):
                return self._gate.look(snapshot, caller.run, decision_id, self._clock.now())
        with self._store.transaction(agent_actor(caller.run)) as tx:
            decision = self._gate.collect(tx, caller.uid, decision_id)
        return before_it_goes_out(decision, caller.run, self._gate.stops)


def error_of(error: Exception) -> Exception:
    """What the caller is told of a call that was not decided."""
    if isinstance(error, NotFound):
        return dead_token("its run does not exist any more")
    if isinstance(error, Refused) and error.reason == KEY_DEAD:
        return dead_token(str(error))
    return error


def asked_in(message: AuthorizeMessage, key: str | None, passage: Passage) -> Asked:
    """The call as the gate takes it. Raises Problem (400, 422)."""
    if key is not None and message.idempotency_key not in (None, key):
        raise Problem(422, "KeysDiffer", "the header Idempotency-Key and idempotencyKey in the body differ")
    key = key or message.idempotency_key
    if key is None:
        raise Problem(
            400,
            "IdempotencyKeyMissing",
            "name the call: a header Idempotency-Key, or idempotencyKey in the body; a new one for each call, the same"
            " one when a request is repeated",
        )
    asked = Asked(
        message.tool, message.args, key, message.target or "", _estimate(message.estimate), message.hinted_risk, passage
    )
    if message.args_digest not in (None, asked.args_digest):
        raise Problem(
            422, "ArgsDigestMismatch", f"args are {asked.args_digest} as canonical JSON, and argsDigest says otherwise"
        )
    return asked


_ESTIMATED = Spend(source="Estimated")


def _estimate(given: Estimate | None) -> Spend | None:
    if given is None or (given.usd is None and not given.tokens):
        return None
    return _ESTIMATED.model_copy(update={"usd": given.usd, "input_tokens": given.tokens or 0})
