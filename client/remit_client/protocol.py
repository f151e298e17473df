"""The agent protocol on the wire: how each request is built and how each answer is read. No I/O, no waiting."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from remit_client.errors import BadAnswer, Conflict, NotInScope, Problem, RateLimited, Rejected, RunOver

PASSING_STATUSES = frozenset({502, 503, 504})
"""What a proxy or the engine itself answers while it restarts: tried again for the whole retry window."""

MAX_INBOX_WAIT_S = 50
MAX_DECISION_WAIT_S = 50
_REFUSALS: dict[int, tuple[type[Problem], str]] = {
    401: (RunOver, "the run is over"),
    404: (NotInScope, "not within this run's scope"),
    409: (Conflict, "not possible now"),
}
_MAX_TEXT = 2000
_MAX_MESSAGE_IN_ERROR = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One logical request. All its tries send the same bytes and the same ``key`` (None for reads). ``wait_s`` is the
    time that the engine may hold it back on purpose."""

    method: str
    path: str
    body: bytes | None = None
    key: str | None = None
    wait_s: float = 0.0

    @property
    def what(self) -> str:
        """For messages: the last part of the path, as in ``complete``."""
        return self.path.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a piece of work used. ``usd`` None means not known, which is not 0. ``source`` is Reported (measured by the
    agent or its provider), Estimated or Unknown. Tokens that a cache took part in count among the input too."""

    usd: Decimal | float | int | str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    model: str | None = None
    source: str = "Reported"
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """JSON form, absent fields left out. Raises ValueError for amounts that are negative or not finite."""
        wire: dict[str, Any] = {"source": self.source}
        if self.usd is not None:
            wire["usd"] = _amount(self.usd)
        counts = {
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cacheReadTokens": self.cache_read_tokens,
            "cacheWriteTokens": self.cache_write_tokens,
        }
        for name, count in counts.items():
            if count is not None:
                if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                    raise ValueError(f"{name} is a whole number of at least 0, not {count!r}")
                wire[name] = count
        if self.model is not None:
            wire["model"] = clean_text(self.model)
        return wire


def _amount(usd: Decimal | float | int | str) -> str:
    try:
        amount = Decimal(str(usd))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(usd, bool) or not amount.is_finite() or amount < 0:
        raise ValueError(f"usd is an amount of at least 0, not {usd!r}")
    # Rounded up to the millionth that the ledger keeps: a cost never shrinks on the way.
    return f"{amount.quantize(Decimal('0.000001'), rounding='ROUND_CEILING').normalize():f}"


@dataclass(frozen=True, slots=True)
class Notice:
    """An item of the run's inbox. ``type`` is Cancel, Drain, Message or a word of a newer engine; ``body`` is the item
    as it was sent."""

    id: str
    type: str
    body: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Its words for people, "" when it has none."""
        for field in ("text", "reason", "message"):
            value = self.body.get(field)
            if isinstance(value, str) and value:
                return value
        return ""

    @property
    def command(self) -> str:
        """Of a Command: its name, without the slash; "" for others."""
        value = self.body.get("command")
        return value if isinstance(value, str) else ""

    @property
    def arguments(self) -> str:
        """Of a Command: what follows the name."""
        value = self.body.get("arguments")
        return value if isinstance(value, str) else ""

    @property
    def author(self) -> str:
        """Who said it, as in user:alice; "" when nobody did."""
        value = self.body.get("author")
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate answered. ``decision`` is allow, deny or ask; ``code`` a word to program against, ``reason`` and
    ``remedy`` are for people. ``again``: an answer is there, and the call has to be sent once more."""

    id: str
    decision: str
    code: str = ""
    reason: str = ""
    remedy: str = ""
    rule: str = ""
    approval_request: str = ""
    retry_after_s: float = 0.0
    again: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the call may be made, once."""
        return self.decision == "allow"


def read_decision(answer: Mapping[str, Any]) -> Decision:
    """The decision in an answer. Raises BadAnswer for what is none."""

    def text(name: str) -> str:
        value = answer.get(name)
        return clean_text(value, _MAX_TEXT) if isinstance(value, str) else ""

    word, id_ = text("decision"), text("decisionId")
    if word not in ("allow", "deny", "ask") or not id_:
        raise BadAnswer("authorize: the answer is not a decision; is REMIT_URL the agent port?")
    after = answer.get("retryAfterMs")
    return Decision(
        id_,
        word,
        text("code"),
        text("reason"),
        text("remedy"),
        text("rule"),
        text("approvalRequest"),
        after / 1000 if isinstance(after, int) and not isinstance(after, bool) and after > 0 else 0.0,
        answer.get("authorizeAgain") is True,
    )


class Calls:
    """Builds the requests of one run. ``key`` is the idempotency key of the logical call."""

    def __init__(self, run: str) -> None:
        # Quoted for the path, and as part of a header, which takes ASCII only.
        self._run = quote(run, safe="")
        self._base = f"/agent/v1/runs/{self._run}"

    def heartbeat(self, key: str) -> Call:
        """A sign of life."""
        return self._write("heartbeat", {}, key)

    def progress(
        self, key: str, message: str, percent: float | None, work_plan: str | None, session_id: str | None = None
    ) -> Call:
        """What is being done. ``percent`` is rounded and kept within 0..100; NaN raises ValueError."""
        body: dict[str, Any] = {"message": clean_text(message, _MAX_TEXT)}
        if percent is not None:
            if math.isnan(percent):
                raise ValueError("percent is a number from 0 to 100, not NaN")
            body["percent"] = round(max(0.0, min(100.0, percent)))
        if work_plan is not None:
            body["workPlan"] = clean_text(work_plan)
        if session_id is not None:
            body["sessionId"] = session_id
        return self._write("progress", body, key)

    def usage(self, key: str, usage: Usage) -> Call:
        """What was used since the last report."""
        return self._write("usage", usage.to_wire(), key)

    def provider_refused(self, key: str, status: int, retry_after_s: float | None, message: str) -> Call:
        """The provider of the model refused. Seconds are rounded up."""
        said: dict[str, Any] = {"status": status, "message": clean_text(message, _MAX_TEXT)}
        if retry_after_s is not None:
            said["retryAfterSeconds"] = math.ceil(max(0.0, retry_after_s))
        return self._write("usage", {"providerError": said}, key)

    def artifact(self, key: str, name: str, content: str | bytes, media_type: str | None) -> Call:
        """Something to keep. Text travels as it is, bytes as base64."""
        return self._write("artifacts", _content(name, content, media_type), key)

    def complete(
        self,
        name: str,
        content: str | bytes,
        media_type: str | None,
        self_review: str,
        evidence: Sequence[str],
        usage: Usage | None,
    ) -> Call:
        """Hand in. The key is the run's, so that a run is completed once however often this is sent."""
        body: dict[str, Any] = {
            "deliverable": _content(name, content, media_type),
            "selfReview": clean_text(self_review),
            "evidence": [clean_text(item) for item in evidence],
        }
        if usage is not None:
            body["usage"] = usage.to_wire()
        return self._write("complete", body, f"{self._run}:complete")

    def fail(self, reason: str, message: str, retryable: bool) -> Call:
        """Give up. Keyed by the run, like ``complete``."""
        body = {"reason": reason, "message": clean_text(message, _MAX_TEXT), "retryable": retryable}
        return self._write("fail", body, f"{self._run}:fail")

    def say(self, key: str, text: str, to: Sequence[str], in_reply_to: str | None, thread: str = "") -> Call:
        """Say something in the session; ``thread`` is Mission (the default) or Project."""
        body: dict[str, Any] = {"text": clean_text(text), "to": list(to)}
        if in_reply_to:
            body["inReplyTo"] = in_reply_to
        if thread:
            body["thread"] = thread
        return self._write("messages", body, key)

    def follow_up(self, key: str, after_s: float, text: str, say: bool) -> Call:
        """Be told, or have something said, later. Raises ValueError for a time that is none."""
        if not math.isfinite(after_s) or after_s <= 0:
            raise ValueError(f"after_s is a number of seconds above 0, not {after_s}")
        body = {"afterS": max(1, math.ceil(after_s)), "text": clean_text(text, _MAX_TEXT), "say": say}
        return self._write("follow-ups", body, key)

    def commands(self, key: str, commands: Mapping[str, str]) -> Call:
        """Say which commands are taken in chat: descriptions by name, without the slash."""
        offered = [{"name": name, "description": clean_text(text, 200)} for name, text in commands.items()]
        return self._write("commands", {"commands": offered}, key)

    def spawn(self, key: str, name: str, title: str, wish: Mapping[str, Any]) -> Call:
        """Spawn a sub-agent; ``wish`` holds the other fields as on the wire."""
        return self._write("sub-agents", {**wish, "name": name, "title": clean_text(title)}, key)

    def terminate(self, key: str, name: str, reason: str) -> Call:
        """End a sub-agent."""
        return self._write("terminate", {"subAgent": name, "reason": clean_text(reason)}, key)

    def propose(
        self, key: str, kind: str, name: str, edits: Mapping[str, Any], title: str, reason: str, create: bool
    ) -> Call:
        """Propose a change of the specs. Raises ValueError for values that are not JSON."""
        body: dict[str, Any] = {
            "kind": kind,
            "name": name,
            "edits": [{"field": field, "value": value} for field, value in edits.items()],
            "reason": clean_text(reason, 20_000),
        }
        if title:
            body["title"] = " ".join(clean_text(title, 200).split())
        if create:
            body["create"] = True
        return Call("POST", "/agent/v1/proposals", _encoded(body), key)

    def proposals(self) -> Call:
        """What the agent proposed."""
        return Call("GET", "/agent/v1/proposals")

    def authorize(
        self, key: str, tool: str, args: Mapping[str, Any], target: str, usd: Decimal | float | int | str | None
    ) -> Call:
        """May this call be made? ``key`` names the call. Raises ValueError for arguments that are not JSON."""
        body: dict[str, Any] = {"tool": tool, "args": args}
        if target:
            body["target"] = clean_text(target, _MAX_TEXT)
        if usd is not None:
            body["estimate"] = {"usd": _amount(usd)}
        return Call("POST", "/agent/v1/authorize", _encoded(body), key)

    def decision(self, id_: str, wait_s: int) -> Call:
        """Ask what was decided; the engine answers at once when it was, else after ``wait_s`` seconds."""
        wait_s = max(0, min(MAX_DECISION_WAIT_S, wait_s))
        return Call("GET", f"/agent/v1/decisions/{quote(id_, safe='')}?wait={wait_s}", wait_s=wait_s)

    def tool_result(
        self,
        key: str,
        tool: str,
        ok: bool,
        error: str,
        decision: str,
        output_digest: str,
        usd: Decimal | float | int | str | None,
    ) -> Call:
        """What came of a call."""
        body: dict[str, Any] = {"tool": tool, "ok": ok}
        if error:
            body["error"] = clean_text(error, _MAX_TEXT)
        if decision:
            body["decisionId"] = decision
        if output_digest:
            body["outputDigest"] = output_digest
        if usd is not None:
            body["usd"] = _amount(usd)
        return self._write("tool-results", body, key)

    def inbox(self, wait_s: int, known: Sequence[str] = (), waiting: Sequence[str] = ()) -> Call:
        """Ask for notices other than the ``known`` ones, which count as delivered, and the ``waiting`` ones, which do
        not yet (the latest 20 ids of each are named); the engine answers at once when there are some, else after
        ``wait_s`` seconds."""
        wait_s = max(0, min(MAX_INBOX_WAIT_S, wait_s))
        query = "".join(f"&ack={quote(id_[:200], safe='')}" for id_ in known[-20:])
        query += "".join(f"&known={quote(id_[:200], safe='')}" for id_ in waiting[-20:])
        return Call("GET", f"{self._base}/inbox?wait={wait_s}{query}", wait_s=wait_s)

    def _write(self, verb: str, body: dict[str, Any], key: str) -> Call:
        return Call("POST", f"{self._base}/{verb}", _encoded(body), key)


def _encoded(body: dict[str, Any]) -> bytes:
    # ASCII output: a lone surrogate that clean_text missed cannot break the encoding.
    return json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def clean_text(text: str, limit: int | None = None) -> str:
    """Text that every store can keep: no NUL, no lone surrogates (file names that are not UTF-8 come as such); cut to
    ``limit`` characters, with a mark where it was cut."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return text


def _content(name: str, content: str | bytes, media_type: str | None) -> dict[str, Any]:
    wire: dict[str, Any] = {"name": clean_text(name)}
    if isinstance(content, str):
        wire["mediaType"] = media_type or "text/plain"
        wire["text"] = clean_text(content)
    else:
        wire["mediaType"] = media_type or "application/octet-stream"
        wire["base64"] = base64.b64encode(content).decode("ascii")
    return wire


def read_answer(call: Call, status: int, body: bytes, after_s: float | None = None) -> dict[str, Any]:
    """The JSON object of a good answer; {} for an empty one. Raises a Problem for a refusal and BadAnswer for what is
    not of the protocol. ``after_s`` is what Retry-After said."""
    if 200 <= status < 300:
        if not body.strip():
            return {}
        answer = _json(body)
        if not isinstance(answer, dict):
            raise BadAnswer(f"{call.what}: the answer {status} is not a JSON object; is REMIT_URL the agent port?")
        return answer
    if status < 400:
        raise BadAnswer(f"{call.what}: the answer is {status}; redirects are not followed, they could leak the token")
    raise _problem(call, status, body, after_s)


def _problem(call: Call, status: int, body: bytes, after_s: float | None) -> Problem:
    answer = _json(body)

    def field(name: str) -> str:
        value = answer.get(name) if isinstance(answer, dict) else None
        return clean_text(value, _MAX_MESSAGE_IN_ERROR) if isinstance(value, str) else ""

    code, title, detail = field("code"), field("title"), field("detail")
    words = detail or title or "no reason given"
    if status == 429:
        text = f"{call.what}: too many requests: {words}"
        return RateLimited(text, retry_after_s=after_s or 0.0, code=code, title=title, detail=detail)
    kind, phrase = _REFUSALS.get(status, (Rejected, f"refused with {status}"))
    return kind(f"{call.what}: {phrase}: {words}", status=status, code=code, title=title, detail=detail)


def read_notices(answer: Mapping[str, Any]) -> list[Notice]:
    """The items of an inbox answer, in their order. Items without an id or a type are dropped: they could be neither
    told apart nor acted on."""
    items = answer.get("items")
    if not isinstance(items, list):
        return []
    notices = []
    for item in items:
        if not isinstance(item, dict):
            continue
        id_, type_ = item.get("id"), item.get("type")
        if isinstance(type_, str) and isinstance(id_, str | int) and not isinstance(id_, bool):
            notices.append(Notice(str(id_), type_, item))
    return notices


def _json(body: bytes) -> Any:
    # Nesting deep enough to exhaust the stack and integers of absurd length are both only garbage here.
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
