"""Which session of its program an agent goes on with: for related work the one it has, else a clean one.

A session here is the program's own (``status.sessionId`` of a run): what it remembers of earlier work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.agent import AgentSession, SessionStrategy
from schemas.base import Key, ObjectRef
from schemas.mission import PRIORITY_WORDS, MissionSpec

KEPT = 10
"""Sessions that an agent remembers, latest first."""
URGENT = PRIORITY_WORDS["High"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The session to go on with (None: a clean one), the run that left it, and why."""

    id: str | None
    run: str
    why: str


CLEAN = Choice(None, "", "")


@dataclass(frozen=True, slots=True)
class Work:
    """The run that is to start: its mission, the digest of the system prompt, and the executor (kind/namespace/name)
    that starts it."""

    mission_uid: str
    mission: Key
    spec: MissionSpec
    prompt_digest: str
    executor: str


def choose(
    strategy: SessionStrategy,
    known: Sequence[AgentSession],
    work: Work,
    *,
    taken: frozenset[str] = frozenset(),
    can_resume: bool = True,
) -> Choice:
    """The session to go on with, of those ``known`` (latest first). One that an open run holds (``taken``), that began
    with another system prompt, or that another executor holds, is none to go on with."""
    if strategy is SessionStrategy.NEW:
        return Choice(None, "", "session.strategy is New")
    if not known or not can_resume:
        return CLEAN
    fit = [
        session
        for session in known
        if session.id not in taken and session.prompt_digest == work.prompt_digest and session.executor == work.executor
    ]
    if not fit:
        return Choice(None, "", "every session is in use, or began with another prompt or executor")
    own = next((s for s in fit if s.mission_uid == work.mission_uid), None)
    if own is not None:
        return Choice(own.id, own.run, "the session of this mission")
    if strategy is SessionStrategy.REUSE:
        return Choice(fit[0].id, fit[0].run, "session.strategy is Reuse")
    for session in fit:
        how = _related(session, work)
        if how:
            return Choice(session.id, session.run, f"related work: {how}")
    urgent = f"priority {work.spec.priority} and " if work.spec.priority >= URGENT else ""
    return Choice(None, "", f"{urgent}unrelated to what the agent worked on")


def _related(session: AgentSession, work: Work) -> str:
    """What the session's mission has in common with this one; "" for nothing."""
    if session.mission.key("Mission", work.mission.namespace) in _keys(work.spec.depends_on, work.mission.namespace):
        return f"it depends on {session.mission.name}"
    for name, theirs, ours in (
        ("goal", session.goal, work.spec.goal_ref),
        ("project", session.project, work.spec.project_ref),
    ):
        if theirs is not None and ours is not None:
            key = ours.key(name, work.mission.namespace)
            if theirs.key(name, work.mission.namespace) == key:
                return f"the same {name}"
    return ""


def _keys(refs: Iterable[ObjectRef], namespace: str) -> set[Key]:
    return {ref.key("Mission", namespace) for ref in refs}


def remembered(known: Sequence[AgentSession], left: AgentSession | None, drop: str = "") -> tuple[AgentSession, ...]:
    """The sessions of an agent after a run: the one that it ``left`` first, without the one to ``drop``."""
    kept = [s for s in known if s.id != drop and (left is None or s.id != left.id)]
    return tuple([left, *kept] if left is not None else kept)[:KEPT]
