"""The lane of ``POST /agent/v1/authorize``: a well-formed question of a run that may ask goes from the connection to
the batch of the gate and back. Whatever is wrong with a question, it is not taken: the endpoint refuses it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from api.agents.bodies import is_key
from api.agents.callers import Callers, channel_named
from api.agents.decisions import DecisionEndpoints, asked_in, error_of
from api.agents.limits import Places
from api.agents.runs import to_problem
from api.crowd import Crowd
from api.hosts import is_ours, names_of
from api.lane import Answer
from api.problems import Problem, internal_error
from controllers.gate.batches import Outcome
from controllers.runs.tokens import HOOK
from schemas.authorize import AuthorizeMessage, Decision
from schemas.errors import RemitError
from schemas.passage import CallChannel, Passage
from schemas.resource import canonical_json

log = logging.getLogger(__name__)

_JSON = frozenset((b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"))
_PASSAGES = {
    (channel, placed): Passage(channel=channel, placed=placed) for channel in CallChannel for placed in (True, False)
}


class AuthorizeLane:
    """A ``Lane``; shares limits and batches with the endpoint. Belongs to one event loop."""

    def __init__(
        self, path: str, decisions: DecisionEndpoints, *, callers: Callers, places: Places, crowd: Crowd,
        hosts: Iterable[str],
    ) -> None:  # fmt: skip
        self.line = f"POST {path} HTTP/1.1".encode("ascii")
        self._decisions = decisions
        self._callers = callers
        self._places = places
        self._crowd = crowd
        self._hosts = names_of(hosts)

    def take(
        self, headers: Mapping[bytes, bytes], body: bytes, answer: Callable[[Answer], None]
    ) -> Callable[[], None] | None:
        """See ``Lane.take``."""
        try:
            return self._take(headers, body, answer)
        except (Problem, ValidationError):
            return None

    def _take(
        self, headers: Mapping[bytes, bytes], body: bytes, answer: Callable[[Answer], None]
    ) -> Callable[[], None] | None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        known = self._callers.known(token.strip().decode("ascii")) if scheme.lower() == b"bearer" else None
        name = headers.get(b"idempotency-key", b"").decode("ascii")
        if (
            known is None
            or headers.get(b"content-type", b"").lower() not in _JSON
            or not is_ours(headers[b"host"].decode("ascii"), self._hosts)
            or not (is_key(name) or b"idempotency-key" not in headers)
        ):
            return None
        run_uid, kind = known
        channel = (
            CallChannel.HOOK if kind == HOOK else channel_named(headers.get(b"remit-channel", b"").decode("ascii"))
        )
        passage = _PASSAGES[channel, kind == HOOK]
        message = AuthorizeMessage.model_validate_json(body, by_alias=True, by_name=False)
        asked = asked_in(message, name or None, passage)
        if self._crowd.full or not self._places.enter(run_uid):
            return None
        if not self._callers.may_ask(run_uid):
            self._places.leave(run_uid)
            return None
        self._crowd.inside += 1

        def tell(outcome: Outcome) -> None:
            self._leave(run_uid)
            answer(_answer(outcome))

        waiting = self._decisions.batches.submit(run_uid, asked, tell)

        def gone() -> None:
            waiting.leave()
            self._leave(run_uid)

        return gone

    def _leave(self, run_uid: str) -> None:
        self._crowd.inside -= 1
        self._places.leave(run_uid)


def _answer(outcome: Outcome) -> Answer:
    try:
        if not isinstance(outcome, Decision):
            raise error_of(outcome)
        body = canonical_json(wire(outcome)).encode()
        return Answer(200, ((b"cache-control", b"no-store"), (b"content-length", b"%d" % len(body)), _IS_JSON), body)
    except Problem as problem:
        return Answer.of(problem.response())
    except RemitError as error:
        return Answer.of(to_problem(error).response())
    except Exception:
        log.exception("a request failed: deciding a call")
        return Answer.of(internal_error().response())


_IS_JSON = (b"content-type", b"application/json")


def wire(decision: Decision) -> dict[str, Any]:
    """The decision as its model dumps it, without what is None."""
    if decision.expires_at is not None:
        return decision.model_dump(mode="json", by_alias=True, exclude_none=True)
    found: dict[str, Any] = {
        "decision": decision.decision.value,
        "code": decision.code.value,
        "reason": decision.reason,
        "rule": decision.rule,
        "remedy": decision.remedy,
        "decisionId": decision.decision_id,
        "toolCall": decision.tool_call,
        "authorizeAgain": decision.authorize_again,
    }
    if decision.risk is not None:
        found["risk"] = decision.risk.value
    if decision.approval_request is not None:
        found["approvalRequest"] = decision.approval_request
    if decision.action_digest is not None:
        found["actionDigest"] = decision.action_digest
    if decision.retry_after_ms is not None:
        found["retryAfterMs"] = decision.retry_after_ms
    return found
