"""One call and the gate: asked, waited for, made once, reported. Knows nothing of the protocol that agents speak."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from api.mcp.engine import LONGEST_HOLD_S, Caller, Engine, NoLeave
from api.mcp.upstream import ServerFault, ServerSays
from api.mcp.waiting import Asked, BadState, Pending, States, identity
from controllers.runtime.clock import Clock
from controllers.status.redaction import redact
from schemas.authorize import Decision, DecisionWord
from schemas.policy import Risk

R = TypeVar("R")
PROGRESS_S = 10
REPORTED_S = 2.0
"""How long an answer is held back for its report: what the agent does next should find the call closed."""
_MOST_REPORTS = 1000
_STALE = "the requestState is not of this call, was used, or is too old; call again without it"


class Refusal(Exception):
    """The call is not made. The message is for the agent."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an agent wants. ``tool`` is its name to the gate; ``run`` names the run that calls."""

    caller: Caller
    run: str
    tool: str
    args: dict[str, Any]
    target: str = ""
    hinted_risk: Risk | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """A call that was asked about, and the answer so far."""

    call: Call
    asked: Asked
    decision: Decision

    @property
    def waits(self) -> bool:
        """Whether a person is asked."""
        return self.decision.decision is DecisionWord.ASK


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. ``error`` "" means that it succeeded."""

    error: str = ""
    output: bytes = b""


Progress = Callable[[str], Awaitable[None]]


class Gatekeeper:
    """Asks for every caller of one proxy. Belongs to one event loop."""

    def __init__(self, engine: Engine, clock: Clock, *, new_key: Callable[[], str], secret: bytes) -> None:
        self._engine = engine
        self._clock = clock
        self._new_key = new_key
        self._pending = Pending()
        self._states = States(secret, clock.monotonic)
        self._reports: set[asyncio.Task[bool]] = set()

    async def ask(self, call: Call, state: str | None = None) -> Open:
        """May it be made? ``state`` is what the client carried, which has to be of this very call. Raises Refusal,
        NoLeave."""
        try:
            name = identity(call.caller.uid, call.tool, call.args)
        except (ValueError, TypeError, RecursionError):
            raise NoLeave("the arguments hold what JSON cannot carry") from None
        if state is None:
            known = self._pending.take(name)
        else:
            try:
                known = self._pending.take_exactly(name, self._states.redeem(state, call.caller.uid, name))
            except BadState:
                raise Refusal(_STALE) from None
        asked = known or Asked(call.caller.uid, name, self._new_key())
        try:
            return await self._authorize(call, asked)
        except BaseException:
            if known is not None:
                self._pending.leave(known)
            raise

    def leave(self, waiting: Open) -> None:
        """The call waits on; an identical one takes it up again."""
        self._pending.leave(waiting.asked)

    def state(self, waiting: Open) -> str:
        """What the client carries to its next request; the call waits on meanwhile."""
        self.leave(waiting)
        return self._states.make(waiting.asked, self._new_key())

    async def hold(self, waiting: Open, seconds: float | None, progress: Progress) -> Open:
        """Wait for the answer, at most so many seconds; None: as long as the question stands. ``progress`` is told
        every few seconds. Where there is no answer in time, or whoever asked goes away, the call waits on. Raises
        NoLeave."""
        ends = None if seconds is None else self._clock.monotonic() + seconds
        try:
            while waiting.waits:
                left = LONGEST_HOLD_S if ends is None else ends - self._clock.monotonic()
                if left <= 0:
                    break
                await progress(asking(waiting.decision))
                most = LONGEST_HOLD_S if ends is None else PROGRESS_S
                waiting = await self._again(waiting, max(1, min(most, round(left))))
        except BaseException:
            self.leave(waiting)
            raise
        if waiting.waits:
            self.leave(waiting)
        return waiting

    async def carry_out(self, answered: Open, work: Callable[[], Awaitable[R]], outcome: Callable[[R], Outcome]) -> R:
        """Make the call, once, and report it. Raises Refusal unless it was allowed, ServerFault, ServerSays."""
        decision = answered.decision
        if decision.decision is not DecisionWord.ALLOW:
            raise Refusal(denial(decision))
        begun = self._clock.monotonic()
        try:
            found = await work()
        except (ServerFault, ServerSays) as error:
            # What the server says is its own text: what is kept of it is the same for the same fault.
            said = str(error) if isinstance(error, ServerFault) else f"the server answers with error {error.code}"
            await self._report(answered, begun, Outcome(said))
            raise
        except (Refusal, NoLeave) as error:
            await self._report(answered, begun, Outcome(f"not made after all: {error}"))
            raise
        except BaseException:
            await self._report(answered, begun, Outcome("whoever called went away; what came of it is not known"))
            raise
        await self._report(answered, begun, outcome(found))
        return found

    async def aclose(self) -> None:
        """Let the reports go out that are on their way."""
        if self._reports:
            await asyncio.wait(self._reports, timeout=5)

    async def _authorize(self, call: Call, asked: Asked) -> Open:
        decision = await self._engine.authorize(
            call.caller, call.tool, call.args, asked.key, target=call.target, hinted_risk=call.hinted_risk
        )
        return Open(call, asked, decision)

    async def _again(self, waiting: Open, wait_s: int) -> Open:
        if waiting.decision.authorize_again:  # answered; the arguments held a secret and were not kept
            return await self._authorize(waiting.call, waiting.asked)
        found = await self._engine.decision(waiting.call.caller, waiting.decision.decision_id, wait_s)
        if found.decision_id != waiting.decision.decision_id:
            raise NoLeave("the engine's answer is about another call")
        return replace(waiting, decision=found)

    async def _report(self, answered: Open, begun: float, outcome: Outcome) -> None:
        """In its own task, so that a call that is canceled is reported too."""
        wire: dict[str, Any] = {
            "tool": answered.call.tool,
            "ok": not outcome.error,
            "decisionId": answered.decision.decision_id,
            "durationMs": max(0, round((self._clock.monotonic() - begun) * 1000)),
        }
        if outcome.error:
            wire["error"] = redact(outcome.error)[:500]
        if outcome.output:
            wire["outputDigest"] = "sha256:" + hashlib.sha256(outcome.output).hexdigest()
        caller, run = answered.call.caller, answered.call.run
        task = asyncio.create_task(self._engine.report(caller, run, wire, self._new_key()), name="mcp-report")
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        await asyncio.wait([task], timeout=REPORTED_S if len(self._reports) < _MOST_REPORTS else None)


def asking(decision: Decision) -> str:
    """What people are told while one of them is asked."""
    request = decision.approval_request or "see remit get approvals"
    return f"Remit: a person has to approve this ({request}): {_because(decision)}"


def pending(decision: Decision) -> str:
    """What the agent is told when nobody has answered yet."""
    return f"{asking(decision)}. Approval is pending: the tool was not run; retry the identical call later."


def denial(decision: Decision) -> str:
    """Why not."""
    if decision.decision is DecisionWord.ASK:
        return pending(decision)
    remedy = f". {decision.remedy}" if decision.remedy else ""
    return f"denied: {_because(decision)}{remedy}"


def _because(decision: Decision) -> str:
    return f"{decision.reason} [{decision.rule}]" if decision.rule else decision.reason
