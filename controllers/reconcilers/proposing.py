"""What an agent proposes becomes a question and an order for a branch, in one transaction. ``status.proposals`` makes
the branch and follows it."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from controllers.reconcilers import consent
from controllers.runs.once import Once
from controllers.runs.reports import begin_report
from controllers.runs.run_record import agent_actor, agent_of
from controllers.runs.text import clean, line
from controllers.sources import git_commit
from controllers.sources.draft import Draft, Wish, draft
from controllers.sources.git import GitReader
from controllers.sources.git_propose import FOLDER
from controllers.sources.tree import SourceReader
from controllers.sources.units import source_of
from controllers.status.proposals import OPEN, SOURCE
from controllers.status.redaction import redact
from decisions import proposals as decisions
from decisions.fields import masked
from schemas.agent import AgentSpec
from schemas.approval_request import (
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    ProposalStatus,
    RequestState,
    RequestType,
)
from schemas.base import Key
from schemas.errors import OverLimit, Refused
from schemas.event import EventType
from schemas.proposing import Proposal, ProposeMessage
from schemas.resource import Declared, Resource, canonical_json, digest
from schemas.source import SourceSpec, SourceType
from store.contract import Snapshot, Store, Transaction

WISH = "remit.dev/proposes"
"""Label of a request: the agent's wish, whichever time it is wished."""
AGENT = "remit.dev/proposed-by"
"""Label of a request: the uid of the agent."""
REASON = 4_000
MOST_LISTED = 50
_DAY = timedelta(days=1)
_FULL_S = 60.0
_TURN_S = 5.0
_REFERENCE = re.compile(r"(?<![A-Za-z0-9])([#@!&~%])(?=\w)")


class NotAllowed(Refused):
    """The allowlist of the agent does not hold this. ``allowed`` is what it does hold, in words."""

    def __init__(self, refusal: decisions.Refusal) -> None:
        self.allowed = refusal.allowed
        super().__init__(refusal.message, reason="NotAllowedToPropose")


@dataclass(frozen=True, slots=True)
class Asking:
    """An agent that wants to propose, and the source that declares it."""

    agent: Resource
    source: Resource
    wish: Wish


def asking(snapshot: Snapshot, run: Resource, message: ProposeMessage) -> Asking:
    """What a proposal needs, checked as far as the store can tell. Raises Refused: NotAllowed, OverLimit,
    NotAGitSource, NotDeclared, SecretInProposal."""
    agent = snapshot.get(agent_of(run))
    if agent is None or agent.deletion_at is not None:
        raise Refused("the agent of this run is not declared any more", reason="NotDeclared")
    spec = AgentSpec.model_validate(agent.spec)
    refusal = decisions.refusal(
        spec.proposals, message.kind, message.name, [e.field for e in message.edits], create=message.create
    )
    if refusal is not None:
        raise NotAllowed(refusal)
    wish = _wish(agent, message)
    for edit in message.edits:
        text = canonical_json(edit.value)
        if redact(text) != text or masked(edit.value) != edit.value:
            raise Refused(
                f"{edit.field} holds what looks like a credential; specs name secrets by valueFrom",
                reason="SecretInProposal",
            )
    target = agent if message.create else snapshot.get(wish.key)
    if target is None:
        raise Refused(f"there is no {wish.key.short}; to propose a new one, set create", reason="NotDeclared")
    if not target.unit or target.deletion_at is not None:
        raise Refused(
            f"{target.key.short} is declared in no source (it is managed by {target.manager}), so that no file can be"
            " changed",
            reason="NotDeclared",
        )
    source = snapshot.get(source_of(target.unit))
    if source is None:
        raise Refused(f"the source of {target.key.short} is gone", reason="NotDeclared")
    if source.spec.get("type") != SourceType.GIT:
        raise Refused(
            f"{target.key.short} comes from a directory ({source.spec.get('url')}), which has no branches that a person"
            " could merge; proposals need a git source",
            reason="NotAGitSource",
        )
    return Asking(agent, source, wish)


def open_one(snapshot: Snapshot, asked: Asking) -> Resource | None:
    """The open proposal of the same wish, if there is one: wishing again changes nothing."""
    return next((r for r in _of(snapshot, asked.agent, pending=True) if r.labels.get(WISH) == _label(asked.wish)), None)


def require_room(snapshot: Snapshot, asked: Asking, now_s: float) -> None:
    """Raise OverLimit when the agent may propose nothing more at the moment (``now_s``: epoch seconds)."""
    proposals = AgentSpec.model_validate(asked.agent.spec).proposals
    assert proposals is not None
    known = _of(snapshot, asked.agent)
    waiting = [r for r in known if r.state == RequestState.PENDING]
    if len(waiting) >= proposals.max_open:
        names = ", ".join(r.name for r in waiting[:3]) or "none is allowed"
        raise OverLimit(
            f"{len(waiting)} proposal(s) of this agent wait for an answer; at most {proposals.max_open} may: {names}",
            reason="TooManyProposals",
            after=_FULL_S,
        )
    recent = sorted(r.created_at.timestamp() for r in known if now_s - r.created_at.timestamp() < _DAY.total_seconds())
    if len(recent) >= proposals.max_per_day:
        first = recent[0] if recent else now_s
        raise OverLimit(
            f"this agent proposed {len(recent)} change(s) within 24 hours, and at most {proposals.max_per_day} may be",
            reason="TooManyProposals",
            after=max(1.0, first + _DAY.total_seconds() - now_s),
        )


def propose(
    tx: Transaction, run_uid: str, message: ProposeMessage, worked_out: Draft | None, *, once: Once
) -> Proposal:
    """Ask a person to merge a draft, and order its branch. ``worked_out`` None only looks for an earlier answer.
    Repeated with its key, or wished again while it is open, it changes nothing. Raises Refused as ``asking`` does, and
    ``DraftMissing`` when there is nothing to repeat."""
    record, known = begin_report(tx, run_uid, once)
    name = request_name(record.run, once)
    found = tx.get(Key("ApprovalRequest", record.run.namespace, name))
    if known and found is not None:
        return view(found)
    asked = asking(tx, record.run, message)
    same = open_one(tx, asked)
    if same is not None:
        record.save()
        return view(same)
    require_room(tx, asked, tx.now.timestamp())
    if worked_out is None:
        raise Refused("it was not worked out", reason="DraftMissing")
    record.save()
    return view(_ask(tx, record.run, asked, message, worked_out, name))


def request_name(run: Resource, once: Once) -> str:
    """Of the request; the same for the same request of the same run. It becomes the name of a branch."""
    agent = agent_of(run).name[:180].rstrip("-.")
    return f"{agent}-change-{digest([run.uid, once.key])[7:19]}"


def listed(snapshot: Snapshot, run: Resource) -> tuple[Proposal, ...]:
    """The proposals of the agent of a run, the newest first."""
    agent = snapshot.get(agent_of(run))
    if agent is None:
        return ()
    found = sorted(_of(snapshot, agent), key=lambda r: (r.created_at, r.name), reverse=True)
    return tuple(view(request) for request in found[:MOST_LISTED])


def view(request: Resource) -> Proposal:
    """A proposal as its agent sees it."""
    status = ApprovalRequestStatus.model_validate(request.status)
    spec = ApprovalRequestSpec.model_validate(request.spec)
    made = status.proposal or ProposalStatus()
    said = next((c.message for c in status.conditions if c.type == "Succeeded"), "")
    return Proposal(
        name=request.name,
        state=status.state,
        message=made.message or said,
        subject=str(spec.action["object"]),
        branch=str(spec.action["branch"]),
        commit=made.commit or None,
        pull_request=made.pull_request or None,
        changes=tuple(spec.action["changes"]),
        effects=tuple(spec.action["effects"]),
        expires_at=spec.expires_at,
    )


def _ask(tx: Transaction, run: Resource, asked: Asking, message: ProposeMessage, made: Draft, name: str) -> Resource:
    agent, source, key = asked.agent, asked.source, asked.wish.key
    branch = FOLDER + name
    changes = tuple(_change(c.path, c.old, c.new) for c in made.entry.changes) or (f"{key.short} is new",)
    reason = clean(message.reason, REASON)
    title = line(message.title or "", 200)
    action = {
        "act": "change",
        "object": key.short,
        "create": message.create,
        "title": title,
        "reason": reason,
        "source": source.key.short,
        "ref": source.spec["ref"],
        "branch": branch,
        "base": made.base,
        "path": made.root,
        "changes": list(changes),
        "widens": list(made.entry.widens),
        "effects": list(made.effects),
        "diff": [line(text, 500) for text in made.diff],
        "wanted": masked(dict(made.wanted)),
        "content": made.digest,
    }
    short = f"{changes[0].removeprefix('spec.')}" + (f" and {len(changes) - 1} more" if len(changes) > 1 else "")
    terms = consent.terms(tx, agent.namespace, agent, tx.now, authored=None)
    spec = ApprovalRequestSpec(
        type=RequestType.CHANGE,
        subject=str(key),
        subject_uid=_uid(tx, key),
        run=run.name,
        requester=f"agent:{agent.namespace}/{agent.name}",
        title=line(f"{agent.name} proposes a change of {key.short}: {short}", 200),
        action=action,
        action_digest=digest(action),
        risk="Red" if made.entry.widens else "Yellow",
        rule=f"spec.proposals of {agent.key.short}",
        **asdict(terms),
    )
    first = consent.first_status(spec, tx.now)
    waits = f"merged into {source.spec['ref']} by whoever may do that there; denied by {first.may_answer}"
    request = tx.create(
        Declared(
            "ApprovalRequest",
            agent.namespace,
            name,
            spec.to_wire(),
            labels={AGENT: agent.uid, SOURCE: source.uid, WISH: _label(asked.wish)},
        ),
        manager="controller/proposals",
        owner_uid=agent.uid,
        status=first.model_copy(update={"may_answer": waits, "quorum": "", "proposal": ProposalStatus()}).to_wire(),
    )
    tx.event(
        EventType.APPROVAL_REQUESTED,
        request,
        reason=RequestType.CHANGE,
        message=spec.title,
        data={"related": [run.uid, agent.uid, source.uid], "digest": spec.action_digest, "branch": branch},
    )
    author = {"name": f"{agent.name} (agent)", "email": "agent@remit.invalid"}
    payload = {
        "branch": branch,
        "base": made.base,
        "path": made.spot.path,
        "root": made.root,
        "line": made.spot.line,
        "key": list(key),
        "beside": list(asked.wish.beside),
        "create": message.create,
        "edits": [[list(field), value] for field, value in asked.wish.edits.items()],
        "content": made.digest,
        "message": _message(agent, key, name, changes, title, reason),
        "author": author,
        "at": int(tx.now.timestamp()),
    }
    tx.enqueue(OPEN, f"open-proposal/{request.uid}", request.key, payload)
    return request


def _message(agent: Resource, key: Key, name: str, changes: tuple[str, ...], title: str, reason: str) -> str:
    """The commit's message. What the agent says stands in its body only, quoted line by line, and names nothing that a
    forge would act on: no issue, no person, no trailer, no word that skips checks."""
    lines = [f"Propose a change of {key.short}"[:72], "", *(f"- {_harmless(text)[:300]}" for text in changes[:20])]
    said = [text for text in (title, reason) if text]
    if said:
        lines += ["", f"The agent {agent.name} says:"]
        lines += [f"> {_harmless(row)[:300]}" for text in said for row in text.splitlines()]
    lines += ["", f"Proposal: {name}"]
    return "\n".join(lines)


def _harmless(text: str) -> str:
    text = _REFERENCE.sub(r"\1 ", text).replace("://", ": //")
    return text.replace("[", "(").replace("]", ")").replace("```", "'''")


def _change(path: str, old: Any, new: Any) -> str:
    def shown(value: Any) -> str:
        text = "(none)" if value is None else value if isinstance(value, str) else canonical_json(value)
        return line(text, 200)

    return f"{path}: {shown(old)} -> {shown(new)}"


def _uid(tx: Transaction, key: Key) -> str:
    found = tx.get(key)
    return found.uid if found is not None else ""


def _wish(agent: Resource, message: ProposeMessage) -> Wish:
    edits: Mapping[tuple[str, ...], Any] = {tuple(e.field.split(".")): e.value for e in message.edits}
    return Wish(Key(message.kind.value, agent.namespace, message.name), edits, message.create, agent.key)


def _label(wish: Wish) -> str:
    edits = sorted([".".join(field), value] for field, value in wish.edits.items())
    return hashlib.sha256(canonical_json([str(wish.key), wish.create, edits]).encode()).hexdigest()[:40]


def _of(snapshot: Snapshot, agent: Resource, *, pending: bool = False) -> list[Resource]:
    states = (RequestState.PENDING.value,) if pending else None
    return snapshot.objects(
        "ApprovalRequest", namespace=agent.namespace, owner_uid=agent.uid, labels={AGENT: agent.uid}, states=states
    )


class Proposer:
    """Takes a proposal from its agent to the question. One is worked out at a time: compiling a tree takes a while, and
    agents must not hold up others with it. Blocks; thread-safe."""

    def __init__(
        self, store: Store, reader_of: Callable[[Resource, SourceSpec], SourceReader], *, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._reader_of = reader_of
        self._now = now
        self._turn = threading.Lock()

    def propose(self, run: Resource, message: ProposeMessage, once: Once) -> Proposal:
        """Ask a person to merge a change. Raises Refused, InvalidSpec, SourceUnreadable, as ``asking`` and
        ``draft.draft`` do."""
        with self._store.snapshot() as snapshot:
            asked = asking(snapshot, run, message)
            known = snapshot.get(Key("ApprovalRequest", run.namespace, request_name(run, once)))
            known = known or open_one(snapshot, asked)
            if known is None:
                require_room(snapshot, asked, self._now().timestamp())
        worked_out = self._draft(asked) if known is None else None
        with self._store.transaction(agent_actor(run)) as tx:
            return propose(tx, run.uid, message, worked_out, once=once)

    def _draft(self, asked: Asking) -> Draft:
        if not self._turn.acquire(timeout=_TURN_S):
            raise OverLimit("other proposals are being worked out", reason="TooManyProposals", after=_TURN_S)
        try:
            spec = SourceSpec.model_validate(asked.source.spec)
            reader = self._reader_of(asked.source, spec)
            if not isinstance(reader, GitReader):
                raise Refused("proposals need a git source", reason="NotAGitSource")
            git_commit.branch_name(reader.ref)  # a tag or a commit takes no merge
            with self._store.snapshot() as snapshot:
                source = snapshot.get(asked.source.key) or asked.source
                return draft(snapshot, source, reader, self._store, asked.wish, self._now())
        finally:
            self._turn.release()
