"""What is said to an A2A service, and what its answers mean: protocol 1.0 over JSON-RPC.

Source: the A2A specification 1.0, of which three methods are used: SendMessage, GetTask and CancelTask. Where they are
asked is in the service's agent card, which is read before each run is posted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, JsonValue

from controllers.dispatch.dialect import Heard, Meaning, Request, bearer, not_taken, pause_of, same_host, unanswered
from controllers.dispatch.environment import SecretSource
from controllers.dispatch.executor import RunOrder
from controllers.web.reply import Fate, Reply
from schemas.base import StatusModel
from schemas.executor import A2A, Capabilities
from schemas.resource import canonical_json
from schemas.run import Post
from schemas.secret import ValueFrom
from schemas.worker_answer import AnswerState, WorkerAnswer

T = TypeVar("T", bound=StatusModel)

VERSION = "1.0"
CARD = "/.well-known/agent-card.json"
_TASK_NOT_FOUND, _NOT_CANCELABLE = -32001, -32002
_SURE = {
    -32700: "it cannot read what it was sent",
    -32600: "it does not take the request",
    -32601: "it does not know the method: it may speak another version",
    -32602: "it does not take the parameters",
    -32004: "it does not support that",
    -32005: "it takes no text",
    -32008: "it asks for an extension of the protocol",
    -32009: f"it does not speak version {VERSION} of the protocol",
}
"""Errors after which it certainly has not begun."""


class _State(StrEnum):
    SUBMITTED = "TASK_STATE_SUBMITTED"
    WORKING = "TASK_STATE_WORKING"
    COMPLETED = "TASK_STATE_COMPLETED"
    FAILED = "TASK_STATE_FAILED"
    CANCELED = "TASK_STATE_CANCELED"
    REJECTED = "TASK_STATE_REJECTED"
    INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"
    AUTH_REQUIRED = "TASK_STATE_AUTH_REQUIRED"


class _Interface(StatusModel):
    url: str = Field("", max_length=2048)
    protocol_binding: str = ""
    protocol_version: str = ""
    tenant: str = ""


class _Skill(StatusModel):
    id: str = ""


class _Card(StatusModel):
    supported_interfaces: tuple[_Interface, ...] = Field((), max_length=100)
    skills: tuple[_Skill, ...] = Field((), max_length=10_000)


class _Part(StatusModel):
    text: str | None = None
    data: JsonValue = None
    url: str | None = None
    filename: str | None = None


class _Message(StatusModel):
    parts: tuple[_Part, ...] = ()


class _Status(StatusModel):
    state: str = ""
    message: _Message | None = None


class _Artifact(StatusModel):
    parts: tuple[_Part, ...] = ()


class _Task(StatusModel):
    id: str = Field("", max_length=1024)
    status: _Status = Field(default_factory=_Status)
    artifacts: tuple[_Artifact, ...] = ()


class _Error(StatusModel):
    code: int = 0
    message: str = ""


class _Sent(StatusModel):
    """The result of SendMessage: one of the two."""

    task: _Task | None = None
    message: _Message | None = None


class _SendReply(StatusModel):
    result: _Sent | None = None
    error: _Error | None = None


class _TaskReply(StatusModel):
    result: _Task | None = None
    error: _Error | None = None


@dataclass(frozen=True, slots=True)
class A2aDialect:
    """See ``dialect.Dialect``. A service makes up the id of a task, and need not know a message again by its id: a run
    whose request got no answer is not sent again."""

    service: A2A

    @property
    def idempotent(self) -> bool:
        """Never: see above."""
        return False

    @property
    def polled(self) -> bool:
        """Always."""
        return True

    @property
    def capabilities(self) -> Capabilities:
        """The protocol knows nothing of costs, and an agent of it asks for no leave here."""
        return Capabilities(cancel=True)

    @property
    def references(self) -> list[ValueFrom]:
        """See ``Dialect.references``."""
        return [self.service.auth] if self.service.auth is not None else []

    def headers(
        self, secrets: SecretSource, project_root: Path, *, run: str, key: str, body: bytes, now: datetime
    ) -> dict[str, str]:
        """See ``Dialect.headers``."""
        made = {"Accept": "application/json", "A2A-Version": VERSION}
        if body:
            made["Content-Type"] = "application/json"
        return made | bearer(self.service, secrets, project_root, "spec.a2a.auth")

    def find(self) -> Request:
        """See ``Dialect.find``: its agent card."""
        url, _, query = self.service.url.partition("?")
        card = url if url.endswith(".json") else url.rstrip("/") + CARD
        return Request("GET", card + (f"?{query}" if query else ""))

    def read_find(self, reply: Reply) -> str | Heard:
        """See ``Dialect.read_find``."""
        if reply.fate is not Fate.ANSWERED:
            heard = unanswered(reply)
            # Whatever became of the question: no run was posted.
            return Heard(Meaning.DOWN, heard.why, healthy=False) if heard.meaning is Meaning.UNKNOWN else heard
        status = reply.status or 0
        if status in (408, 425, 429) or status >= 500:
            healthy = None if status == 429 else False
            return Heard(Meaning.BUSY, f"its agent card: {status}", healthy=healthy, after_s=pause_of(reply))
        if status != 200:
            return Heard(Meaning.TURNED_DOWN, f"its agent card was answered with {status}")
        try:
            card = _Card.model_validate(json.loads(reply.data))
        except (ValueError, RecursionError):
            return Heard(Meaning.TURNED_DOWN, "what spec.a2a.url leads to is no agent card")
        return self._place(card)

    def _place(self, card: _Card) -> str | Heard:
        wanted = self.service.skill
        if wanted is not None and all(skill.id != wanted for skill in card.skills):
            return Heard(Meaning.TURNED_DOWN, f"its agent card lists no skill {wanted}")
        spoken = [i for i in card.supported_interfaces if i.protocol_binding == "JSONRPC" and not i.tenant]
        spoken = [i for i in spoken if i.protocol_version.split(".")[0] == "1"]
        if not spoken:
            return Heard(Meaning.TURNED_DOWN, "its agent card names no interface for JSONRPC of version 1")
        for interface in spoken:
            url = same_host(self.service.url, interface.url)
            if url:
                return url
        return Heard(Meaning.TURNED_DOWN, "its agent card leads to another host, which is not asked")

    def start(self, order: RunOrder, key: str, url: str) -> Request:
        """See ``Dialect.start``: the mission as a text; the service works on, and is asked for the result."""
        told = {"mission": str(order.mission["uid"]), "run": order.run_uid, "attempt": order.attempt}
        if self.service.skill is not None:
            told["skill"] = self.service.skill
        message = {
            "messageId": key,
            "role": "ROLE_USER",
            "parts": [{"text": task_text(order.mission)}],
            "metadata": {f"remit.dev/{name}": value for name, value in told.items()},
        }
        wanted = {"returnImmediately": True, "acceptedOutputModes": ["text/plain", "application/json"]}
        return _call(url, key, "SendMessage", {"message": message, "configuration": wanted})

    def read_start(self, reply: Reply, url: str) -> Heard:
        """See ``Dialect.read_start``."""
        refused = not_taken(reply)
        if refused is not None:
            return refused
        found = _parsed(_SendReply, reply)
        if found is None:
            return Heard(Meaning.UNKNOWN, "it answered, but not as the protocol says", healthy=False)
        if found.error is not None:
            why = _SURE.get(found.error.code)
            if why is None:
                text = f"it answered with the error {found.error.code}: {found.error.message}"
                return Heard(Meaning.UNKNOWN, text, healthy=False)
            return Heard(Meaning.TURNED_DOWN, f"{why} (error {found.error.code}: {found.error.message})")
        sent = found.result or _Sent()
        if sent.task is not None and sent.task.id:
            return _heard(sent.task, url)
        if sent.message is not None:
            return Heard(Meaning.SUCCEEDED, answer=_answer(AnswerState.SUCCEEDED, [sent.message.parts]))
        return Heard(Meaning.UNKNOWN, "it answered with neither a task nor a message", healthy=False)

    def poll(self, post: Post) -> Request | None:
        """See ``Dialect.poll``."""
        if not post.task:
            return None
        return _call(post.status_url, post.key, "GetTask", {"id": post.task, "historyLength": 0})

    def read_poll(self, reply: Reply) -> Heard:
        """See ``Dialect.read_poll``."""
        refused = not_taken(reply)
        if refused is not None:
            return Heard(Meaning.BUSY, refused.why, healthy=None, after_s=refused.after_s)
        found = _parsed(_TaskReply, reply)
        if found is None:
            return Heard(Meaning.BUSY, "it answered, but not as the protocol says", healthy=None)
        if found.error is not None and found.error.code == _TASK_NOT_FOUND:
            return Heard(Meaning.UNKNOWN, "it knows nothing of the task any more", healthy=None)
        if found.error is not None or found.result is None:
            text = f"error {found.error.code}: {found.error.message}" if found.error is not None else "no task"
            return Heard(Meaning.BUSY, f"it answered with {text}", healthy=None)
        return _heard(found.result, "")

    def cancel(self, run: str, post: Post) -> Request | None:
        """See ``Dialect.cancel``."""
        return _call(post.status_url, post.key, "CancelTask", {"id": post.task}) if post.task else None

    def stopped(self, reply: Reply) -> bool:
        """See ``Dialect.stopped``."""
        found = _parsed(_TaskReply, reply) if reply.fate is Fate.ANSWERED and reply.status == 200 else None
        if found is None:
            return False
        if found.error is not None:
            return found.error.code in (_TASK_NOT_FOUND, _NOT_CANCELABLE)
        return found.result is not None and found.result.status.state in _OVER


_OVER = frozenset((_State.COMPLETED, _State.FAILED, _State.CANCELED, _State.REJECTED))


def task_text(mission: Mapping[str, Any]) -> str:
    """What an agent is told that takes a text: the mission (``runs.mission_document``) in Markdown."""
    agent = mission.get("agent") or {}
    parts = [agent.get("systemPrompt"), f"# {mission['title']}", mission.get("description")]
    for title, value in (
        ("Input", mission.get("input")),
        ("Steps", mission.get("workPlan")),
        ("What was said of the attempt before", mission.get("feedback")),
        ("What the missions before it handed in", mission.get("dependencies")),
        ("Answer with JSON of this schema, and nothing else", agent.get("outputSchema")),
    ):
        if value:
            text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
            shown = text if isinstance(value, str) else f"```json\n{text}\n```"
            parts.append(f"## {title}\n\n{shown}")
    return "\n\n".join(part for part in parts if part)


def _call(url: str, key: str, method: str, params: dict[str, Any]) -> Request:
    call = {"jsonrpc": "2.0", "id": key, "method": method, "params": params}
    return Request("POST", url, canonical_json(call).encode())


def _parsed(model: type[T], reply: Reply) -> T | None:
    try:
        return model.model_validate(json.loads(reply.data))
    except (ValueError, RecursionError):
        return None


def _heard(task: _Task, url: str) -> Heard:
    state, said = task.status.state, _text(task.status.message.parts) if task.status.message is not None else ""
    known: dict[str, Any] = {"status_url": url, "task": task.id}
    if state == _State.COMPLETED:
        parts = [artifact.parts for artifact in task.artifacts]
        if not any(parts) and task.status.message is not None:
            parts = [task.status.message.parts]
        return Heard(Meaning.SUCCEEDED, answer=_answer(AnswerState.SUCCEEDED, parts, said), **known)
    if state == _State.CANCELED:
        return Heard(Meaning.CANCELED, said, _answer(AnswerState.CANCELED, (), said), **known)
    if state in (_State.FAILED, _State.REJECTED):
        why = said or "no reason given"
        if state == _State.REJECTED:
            why = f"it rejected the task: {why}"
        answer = _answer(AnswerState.FAILED, (), why, retryable=state == _State.FAILED)
        return Heard(Meaning.FAILED, why, answer, **known)
    if state in (_State.INPUT_REQUIRED, _State.AUTH_REQUIRED):
        what = "an answer" if state == _State.INPUT_REQUIRED else "leave for what it wants to do"
        why = f"it waits for {what}, which it does not get here: {said or 'it says no more'}"
        return Heard(Meaning.FAILED, why, _answer(AnswerState.FAILED, (), why, retryable=False), stuck=True, **known)
    return Heard(Meaning.RUNNING, said, _answer(AnswerState.RUNNING, (), said), **known)


def _answer(
    state: AnswerState, parts: Sequence[Sequence[_Part]], message: str = "", *, retryable: bool = True
) -> WorkerAnswer:
    """The same as a worker says it. What was handed in is JSON where one piece of data is all of it, else text."""
    flat = [part for group in parts for part in group]
    deliverable: JsonValue = None
    if len(flat) == 1 and flat[0].text is None and flat[0].data is not None:
        deliverable = flat[0].data
    elif flat:
        deliverable = _text(flat)
    return WorkerAnswer(state=state, deliverable=deliverable, message=message, retryable=retryable)


def _text(parts: Sequence[_Part]) -> str:
    lines = []
    for part in parts:
        if part.text is not None:
            lines.append(part.text)
        elif part.data is not None:
            lines.append(canonical_json(part.data))
        else:
            lines.append(f"[{part.filename or part.url or 'a file'}, which is not kept]")
    return "\n".join(lines)
