"""Ask before a function runs, and tell what came of it: as a decorator, or around a block; sync and async.

::

    @guarded(run, "push_tag", target=lambda tag: f"{tag} in releases.git", usd="0.10")
    def push(tag: str) -> None: ...

    with guard(run, "send_mail", {"to": address}) as call:
        call.usd = send(address)

Both wait while a person is asked, and raise Denied where the answer is no: then nothing of the function has run.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar

from remit_client.async_run import AsyncRun
from remit_client.errors import AlreadyDone, ClientError, Denied
from remit_client.hooks.endings import digest
from remit_client.protocol import Decision
from remit_client.run import Run

F = TypeVar("F", bound=Callable[..., Any])
Usd = Decimal | float | int | str | None
Texts = str | Callable[..., str]

_DONE = frozenset({"Reported", "ReportedFailure"})
_log = logging.getLogger("remit_client")
_lock = threading.Lock()
_made: weakref.WeakKeyDictionary[Run | AsyncRun, Counter[str]] = weakref.WeakKeyDictionary()


class guard:
    """One guarded call. ``with`` for a Run, ``async with`` for an AsyncRun; used once.

    Entering asks, as ``authorize`` does: it waits for a person's answer (``wait_s`` at most) and raises Denied,
    AlreadyDone, Canceled, TimeoutError and what reporting raises. Leaving tells the outcome. An exception that goes
    through the block is told as a failure, by its class and without its words, and goes on. A block that is
    interrupted (cancellation, Ctrl-C) tells nothing: nobody knows what it did. An outcome that cannot be told is
    logged and raises nothing, as the call was made.

    Inside, set ``usd`` to what it cost and ``output`` to what it brought (JSON; its digest is sent). ``decision`` is
    the leave.

    ``key`` names the call: the same key is the same call, so that a program that was started again in its run gets the
    answer that was given before. Without one it is made of the tool, the arguments, and how many calls alike this run
    object has begun. A call whose result is known raises AlreadyDone. One that was allowed and never reported is
    allowed again: between leave and report the work has to be safe to repeat.
    """

    def __init__(
        self,
        run: Run | AsyncRun,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        target: str = "",
        usd: Usd = None,
        key: str | None = None,
        wait_s: float | None = None,
    ) -> None:
        self.usd: Usd = None
        self.output: Any = None
        self.decision: Decision | None = None
        self._run = run
        self._tool = tool
        self._args = dict(args or {})
        self._asked: dict[str, Any] = {"target": target, "usd": usd, "wait_s": wait_s}
        self._key = key

    def __enter__(self) -> Self:
        run = self._run
        if not isinstance(run, Run):
            raise TypeError("an AsyncRun takes `async with`")
        key = self._begin()
        try:
            self.decision = run.authorize(self._tool, self._args, key=key, **self._asked)
        except Denied as refusal:
            raise _refusal(refusal) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = self._outcome(error)
        if told is not None and isinstance(self._run, Run):
            try:
                self._run.tool_result(self._tool, **told)
            except ClientError as problem:
                _untold(self._tool, problem)

    async def __aenter__(self) -> Self:
        run = self._run
        if not isinstance(run, AsyncRun):
            raise TypeError("a Run takes `with`")
        key = self._begin()
        try:
            self.decision = await run.authorize(self._tool, self._args, key=key, **self._asked)
        except Denied as refusal:
            raise _refusal(refusal) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = self._outcome(error)
        if told is not None and isinstance(self._run, AsyncRun):
            try:
                await self._run.tool_result(self._tool, **told)
            except ClientError as problem:
                _untold(self._tool, problem)

    def _begin(self) -> str:
        if self.decision is not None:
            raise RuntimeError("a guard is used once: it stands for one call")
        if self._key is not None:
            return self._key
        alike = f"{self._tool[:100]}/{digest(self._args)[7:39]}"
        with _lock:
            made = _made.setdefault(self._run, Counter())
            made[alike] += 1
            return f"{alike}/{made[alike]}".encode("ascii", "replace").decode()

    def _outcome(self, error: BaseException | None) -> dict[str, Any] | None:
        if error is not None and not isinstance(error, Exception):
            return None
        told: dict[str, Any] = {"ok": error is None, "decision": self.decision, "usd": self.usd}
        if error is not None:
            told["error"] = type(error).__name__
        if self.output is not None:
            try:
                told["output_digest"] = digest(self.output)
            except (TypeError, ValueError):
                _log.warning("the output of %s is not JSON: its digest is left out", self._tool)
        return told


def guarded(
    run: Run | AsyncRun | Callable[[], Run | AsyncRun],
    tool: str,
    *,
    args: Callable[..., Mapping[str, Any]] | None = None,
    target: Texts = "",
    usd: Usd = None,
    key: Texts | None = None,
    wait_s: float | None = None,
) -> Callable[[F], F]:
    """Have every call of the function guarded (see ``guard``). ``run`` may be a function that gives the run, for a
    function that is defined before it is open. An ``async def`` takes an AsyncRun, any other a Run.

    The arguments that are asked about are those of the function, by name and with defaults; ``args`` makes others of
    them where they are not JSON. ``target`` and ``key`` may be functions of them, too. Raises TypeError when called
    with arguments that are not JSON.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        def guard_of(given: tuple[Any, ...], named: dict[str, Any]) -> guard:
            asked = args(*given, **named) if args is not None else _arguments(signature, given, named)
            _require_json(tool, asked)
            return guard(
                run() if callable(run) else run,
                tool,
                asked,
                target=target(*given, **named) if callable(target) else target,
                usd=usd,
                key=key(*given, **named) if callable(key) else key,
                wait_s=wait_s,
            )

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def ask_first(*given: Any, **named: Any) -> Any:
                async with guard_of(given, named):
                    return await function(*given, **named)

            return ask_first  # type: ignore[return-value]

        @functools.wraps(function)
        def ask(*given: Any, **named: Any) -> Any:
            with guard_of(given, named):
                return function(*given, **named)

        return ask  # type: ignore[return-value]

    return decorate


def _arguments(signature: inspect.Signature, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    bound = signature.bind(*given, **named)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name not in ("self", "cls")}


def _require_json(tool: str, args: Mapping[str, Any]) -> None:
    try:
        digest(dict(args))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the arguments of {tool} are not JSON, so nobody can be asked about them: give args="
        ) from error


def _refusal(refusal: Denied) -> Denied:
    if refusal.code not in _DONE:
        return refusal
    return AlreadyDone(
        refusal.message, code=refusal.code, rule=refusal.rule, remedy=refusal.remedy, decision_id=refusal.decision_id
    )


def _untold(tool: str, problem: ClientError) -> None:
    _log.warning("what came of %s could not be told, and is settled when the run ends: %s", tool, problem)
