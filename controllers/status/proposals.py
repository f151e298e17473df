"""Proposed changes on their way: the branch and the pull request are made by effects of the outbox, followed at each
look at their source, and cleared away once they were answered. Merging is a person's act, and none of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controllers.dispatch.environment import SecretMissing, SecretSource
from controllers.effects.runner import Commit
from controllers.runtime.blocking import Blocking
from controllers.sources import draft, git_propose
from controllers.sources.git import GitReader
from controllers.sources.git_commit import Author
from controllers.sources.tree import SourceReader
from controllers.status import pulls
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestStatus,
    ProposalStatus,
    RequestState,
)
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.errors import Refused, Retry, SourceUnreadable, Terminal
from schemas.event import EventType
from schemas.resource import Actor, ActorKind, Resource, digest
from schemas.source import ForgeType, SourceSpec, SourceStatus
from store.contract import Effect, Snapshot, Store, Transaction

OPEN, CLOSE = "OpenProposal", "CloseProposal"
SOURCE = "remit.dev/proposed-to"
"""Label of a request: the uid of the source whose ref it would be merged into."""
ACTOR = Actor(ActorKind.SYSTEM, "controller:proposals", "Engine")

_PASSING = (SourceUnreadable, Refused, Retry, SecretMissing)
ReaderOf = Callable[[Resource, SourceSpec], SourceReader]
Connect = Callable[[ForgeType, str | None, str, str], pulls.Pulls]
"""(type, url, repository, token) to a forge. Raises Refused."""


class ProposalEffects:
    """Handlers of OpenProposal and CloseProposal. ``hosts`` are those of ``forgeHosts``."""

    def __init__(
        self, store: Store, reader_of: ReaderOf, *, secrets: SecretSource, project: Path, hosts: Iterable[str],
        blocking: Blocking, connect: Connect | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._reader_of = reader_of
        self._secrets = secrets
        self._project = project
        self._hosts = tuple(hosts)
        self._blocking = blocking
        self._connect = connect or self._over_http

    async def open(self, effect: Effect) -> Commit | None:
        """Make the branch, and the pull request where the source asks for one."""
        return await self._blocking.run(self._open, effect)

    async def close(self, effect: Effect) -> Commit | None:
        """Clear both away."""
        return await self._blocking.run(self._close, effect)

    def follow(self, key: Key) -> bool:
        """See what became of the open proposals to a source; whether any was answered. To be called after each look at
        the source. Blocks; a source or a forge that does not answer leaves them as they are."""
        with self._store.snapshot() as snapshot:
            source = snapshot.get(key)
            if source is None:
                return False
            waiting = [r for r in _open_ones(snapshot, source) if _made(r).commit]
            live = {r.uid: snapshot.get_by_uid(str(r.spec["subjectUid"])) for r in waiting}
            created = {r.uid: snapshot.get(_key(str(r.spec["subject"]))) for r in waiting if not live[r.uid]}
            orphans = [r for r in _open_ones(snapshot, source) if _is_orphan(snapshot, r)]
        answered = False
        for request in orphans:
            self._answer(request.key, RequestState.WITHDRAWN, "the agent that proposed it is gone", "", "Engine")
            answered = True
        if not waiting:
            return answered
        with contextlib.suppress(*_PASSING):
            spec, status = SourceSpec.model_validate(source.spec), SourceStatus.model_validate(source.status)
            reader = _git(self._reader_of(source, spec))
            tips = _tips(reader, [str(r.spec["action"]["branch"]) for r in waiting])
            for request in waiting:
                subject = live[request.uid] or created.get(request.uid)
                news = self._news(request, spec, status, reader, tips, subject)
                if news is not None:
                    state, why, who, via = news
                    self._answer(request.key, state, why, who, via)
                    answered = True
        return answered

    def _news(
        self, request: Resource, spec: SourceSpec, status: SourceStatus, reader: GitReader, tips: dict[str, str],
        subject: Resource | None,
    ) -> tuple[RequestState, str, str, str] | None:  # fmt: skip
        """(state, why, who, via) once a person acted on it."""
        action, made = request.spec["action"], _made(request)
        who = f"user:{status.signer}" if status.signer else f"source:{spec.ref}"
        if status.revision and reader.is_ancestor(made.commit, status.revision):
            at = status.revision.rpartition(":")[2][:12]
            return RequestState.APPROVED, f"merged: {spec.ref} at {at} holds it", who, "Git"
        if draft.merged(subject, action["wanted"]):
            return RequestState.APPROVED, f"{spec.ref} says by now what was proposed", who, "Git"
        if action["branch"] not in tips:
            return RequestState.DENIED, f"its branch {action['branch']} was removed", "source:branch", "Git"
        if made.pull_number and self._is_closed(request.namespace, spec, made.pull_number):
            return RequestState.DENIED, f"its pull request was closed: {made.pull_request}", "source:forge", "Git"
        return None

    def _is_closed(self, namespace: str, spec: SourceSpec, number: int) -> bool:
        with contextlib.suppress(*_PASSING):  # a forge that does not answer closes nothing
            forge = self._forge(namespace, spec)
            return forge is not None and forge.state(number) is pulls.State.CLOSED
        return False

    def _answer(self, key: Key, state: RequestState, why: str, who: str, via: str) -> None:
        with self._store.transaction(ACTOR) as tx:
            answer(tx, key, state, why, who=who, via=via)

    def _open(self, effect: Effect) -> Commit | None:
        with self._store.snapshot() as snapshot:
            request = snapshot.get(effect.subject)
            source = _source_of(snapshot, request)
        if request is None or request.state != RequestState.PENDING:
            return None
        if source is None:
            return _gives_up(effect.subject, "its source is gone")
        spec = SourceSpec.model_validate(source.spec)
        made = _made(request)
        try:
            reader = _git(self._reader_of(source, spec))
            commit = _make(reader, effect.payload)
            pull = self._pull(request, spec, reader, effect.payload) if not made.pull_number else None
        except (Refused, SecretMissing) as error:
            return _gives_up(effect.subject, f"it could not be put before people: {error}")
        except SourceUnreadable as error:
            raise Retry(f"{request.key.short}: {error}") from error
        where = f"{effect.payload['branch']} at {commit[:12]}" + (f", {pull.url}" if pull is not None else "")

        def say(tx: Transaction) -> None:
            current = tx.get(effect.subject)
            if current is None:
                return
            update: dict[str, object] = {"commit": commit}
            if pull is not None:
                update |= {"pull_request": pull.url, "pull_number": pull.number}
            before = _made(current)
            current = _put(tx, current, before.model_copy(update=update))
            if not before.commit:
                tx.event(EventType.PROPOSAL_OPENED, current, reason="Branch", message=where,
                         data={"related": [current.owner_uid], "commit": commit})  # fmt: skip
            if current.state != RequestState.PENDING:  # it was answered while the branch was made
                close_when_answered(tx, current)

        return say

    def _pull(
        self, request: Resource, spec: SourceSpec, reader: GitReader, payload: dict[str, Any]
    ) -> pulls.Pull | None:
        """A pull request, where the branch is on the forge that the source names."""
        if reader.address.local is not None or spec.forge is None or not spec.forge.pull_requests:
            return None
        forge = self._forge(request.namespace, spec)
        if forge is None:
            return None
        body = pulls.body(request)
        title = str(payload["message"]).partition("\n")[0]
        return forge.open(pulls.Request(str(payload["branch"]), reader.ref.removeprefix("refs/heads/"), title, body))

    def _forge(self, namespace: str, spec: SourceSpec) -> pulls.Pulls | None:
        if spec.forge is None:
            return None
        token = self._secrets.of(namespace).resolve(spec.forge.token, self._project)
        return self._connect(spec.forge.type, spec.forge.url, spec.forge.repository, token)

    def _close(self, effect: Effect) -> Commit | None:
        with self._store.snapshot() as snapshot:
            request = snapshot.get(effect.subject)
            source = _source_of(snapshot, request)
        if request is None or request.state == RequestState.PENDING or source is None:
            return None
        made, branch = _made(request), str(request.spec["action"]["branch"])
        spec = SourceSpec.model_validate(source.spec)
        try:
            reader = _git(self._reader_of(source, spec))
            if made.pull_number and request.state != RequestState.APPROVED:
                forge = self._forge(request.namespace, spec)
                if forge is not None:
                    forge.close(made.pull_number)
            if reader.address.local is not None:
                gone = git_propose.close_here(reader.folder, branch, made.commit)
            else:
                gone = git_propose.close_there(reader.address, branch, made.commit)
        except (Refused, SecretMissing) as error:
            raise Terminal(f"{request.key.short}: {error}") from error
        except SourceUnreadable as error:
            raise Retry(f"{request.key.short}: {error}") from error
        what = "removed" if gone else "kept: somebody works on it"

        def say(tx: Transaction) -> None:
            current = tx.get(effect.subject)
            if current is None or _made(current).closed:
                return
            current = _put(tx, current, _made(current).model_copy(update={"closed": True}))
            tx.event(EventType.PROPOSAL_CLOSED, current, reason=str(current.state), message=f"{branch} was {what}",
                     data={"related": [current.owner_uid]})  # fmt: skip

        return say

    def _over_http(self, type_: ForgeType, url: str | None, repository: str, token: str) -> pulls.Pulls:
        return pulls.connect(type_, url, repository, token, hosts=self._hosts)


def answer(tx: Transaction, key: Key, state: RequestState, why: str, *, who: str = "", via: str = "Engine") -> None:
    """Bring an open proposal to its end. One that was answered meanwhile stays as it is: the first answer wins."""
    request = tx.get(key)
    if request is None or request.state != RequestState.PENDING:
        return
    status = ApprovalRequestStatus.model_validate(request.status)
    merged = state is RequestState.APPROVED
    conditions = set_condition(
        status.conditions, "Succeeded", merged, ApprovalRequestReason(state.value), why[:500], now=tx.now,
        generation=request.generation,
    )  # fmt: skip
    update: dict[str, object] = {"state": state, "conditions": conditions}
    if state is not RequestState.WITHDRAWN:
        update |= {"decided_by": who, "decided_via": via, "decided_at": tx.now}
    request = tx.put_status(request, status.model_copy(update=update).to_wire())
    type_ = EventType.APPROVAL_WITHDRAWN if state is RequestState.WITHDRAWN else EventType.APPROVAL_DECIDED
    tx.event(type_, request, reason="Merged" if merged else state.value, message=why,
             data={"related": [request.owner_uid], "branch": request.spec["action"]["branch"]})  # fmt: skip
    close_when_answered(tx, request)


def close_when_answered(tx: Transaction, request: Resource) -> None:
    """Order that the branch of an answered proposal is cleared away; once, however often it is looked at."""
    made = _made(request)
    if made.commit and not made.closed and request.state != RequestState.PENDING:
        tx.enqueue(CLOSE, f"close-proposal/{request.uid}", request.key, {"commit": made.commit})


def give_up(tx: Transaction, effect: Effect, error: str) -> None:
    """An effect will not be tried again: a proposal that no person can see is taken back."""
    if effect.type == OPEN:
        answer(tx, effect.subject, RequestState.WITHDRAWN, f"it could not be put before people: {error}")


def _gives_up(key: Key, why: str) -> Commit:
    def say(tx: Transaction) -> None:
        answer(tx, key, RequestState.WITHDRAWN, why)

    return say


def _make(reader: GitReader, payload: dict[str, Any]) -> str:
    wish = draft.Wish(
        Key(*payload["key"]),
        {tuple(field): value for field, value in payload["edits"]},
        bool(payload["create"]),
        Key(*payload["beside"]),
    )
    text = draft.rendered(reader, payload["base"], draft.Spot(payload["path"], payload["line"]), wish)
    if digest(text) != payload["content"]:
        # The store keeps no value of a known secret: what it gives back is not what was asked for.
        raise Refused("it holds the value of a secret; specs name secrets by valueFrom", reason="SecretInProposal")
    change = git_propose.Change(
        branch=payload["branch"],
        base=payload["base"],
        path=payload["root"],
        text=text,
        message=payload["message"],
        author=Author(payload["author"]["name"], payload["author"]["email"]),
        when=datetime.fromtimestamp(payload["at"], UTC),
    )
    if reader.address.local is not None:
        return git_propose.open_here(reader.folder, change)
    return git_propose.open_there(reader.folder, reader.address, change)


def _tips(reader: GitReader, branches: list[str]) -> dict[str, str]:
    if reader.address.local is not None:
        return git_propose.tips_here(reader.folder, branches)
    return git_propose.tips_there(reader.address, branches)


def _git(reader: SourceReader) -> GitReader:
    if not isinstance(reader, GitReader):
        raise Refused("its source is a directory by now, which has no branches", reason="NotAGitSource")
    return reader


def _made(request: Resource) -> ProposalStatus:
    return ApprovalRequestStatus.model_validate(request.status).proposal or ProposalStatus()


def _put(tx: Transaction, request: Resource, made: ProposalStatus) -> Resource:
    status = ApprovalRequestStatus.model_validate(request.status)
    return tx.put_status(request, status.model_copy(update={"proposal": made}).to_wire())


def _open_ones(snapshot: Snapshot, source: Resource) -> list[Resource]:
    return snapshot.objects("ApprovalRequest", labels={SOURCE: source.uid}, states=(RequestState.PENDING.value,))


def _is_orphan(snapshot: Snapshot, request: Resource) -> bool:
    agent = snapshot.get_by_uid(request.owner_uid)
    return agent is None or agent.deletion_at is not None


def _source_of(snapshot: Snapshot, request: Resource | None) -> Resource | None:
    return snapshot.get_by_uid(request.labels.get(SOURCE, "")) if request is not None else None


def _key(text: str) -> Key:
    kind, _, rest = text.partition("/")
    namespace, _, name = rest.rpartition("/")
    return Key(kind, namespace, name)
