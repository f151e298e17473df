"""Facts for loop detection, taken in with the report that brings them, in its transaction.

What is found is noted on the mission; its reconciler, which that wakes, blocks it and stops its run in one transaction.
From the note on no tool call is allowed (``controllers.gate.autonomy``).
"""

from __future__ import annotations

from collections.abc import Iterable

from controllers.runs import sessions, thresholds
from controllers.runs.redaction_level import redactor_of
from controllers.runs.text import WORD, line
from decisions import loops
from decisions.loops import CallFact
from schemas.loop import LoopFinding, MissionLoop, SessionLoop
from schemas.mission import MissionStatus
from schemas.parsed import parsed
from schemas.protocol import ToolResultMessage
from schemas.resource import Resource
from schemas.run import RunSpec
from store.contract import Transaction

_ERROR = 500


def tool_ended(
    tx: Transaction, run: Resource, message: ToolResultMessage, call: Resource | None, *, number: int
) -> None:
    """A tool call was reported as the ``number``-th of its run. Of one that the gate recorded (``call``) its record
    counts, not what the agent says it was."""
    mission, agent = _involved(tx, run)
    if mission is None:
        return
    recorded = call.spec if call is not None else {}
    fact = CallFact(
        tool=line(str(recorded.get("tool") or message.tool), WORD),
        ok=message.ok,
        error=line(message.error or "", _ERROR, redactor_of(tx, run)),
        args_digest=str(recorded.get("argsDigest") or message.args_digest or ""),
        output_digest=message.output_digest or "",
        link=f"run/{run.name} call {number}" + (f" (toolcall/{call.name})" if call is not None else ""),
    )
    session = sessions.of_run(tx, run)
    before = sessions.counts(session, mission)
    loop, finding = loops.observe_call(before, fact, thresholds.loop_limits(tx, agent), tx.now)
    _keep(tx, session, before, loop)
    note(tx, mission, finding, run=run.name, session=session.name)


def spent(tx: Transaction, run: Resource, micros: int) -> None:
    """Money was reported as used."""
    mission, agent = _involved(tx, run)
    if mission is None or micros <= 0:
        return
    session = sessions.of_run(tx, run)
    before = sessions.counts(session, mission)
    loop, finding = loops.observe_spend(before, micros, thresholds.loop_limits(tx, agent), tx.now)
    _keep(tx, session, before, loop)
    note(tx, mission, finding, run=run.name, session=session.name)


def progressed(tx: Transaction, run: Resource) -> None:
    """The agent brought something new. Kept only where money is watched: nothing else asks for it."""
    session = sessions.find(tx, run)
    if session is None:
        return
    mission = tx.get_by_uid(parsed(RunSpec, run.spec).mission_uid)
    before = sessions.counts(session, mission)
    if before.spend:
        _keep(tx, session, before, loops.progressed(before, tx.now))


def said(
    tx: Transaction, mission: Resource, agent: Resource | None, author: str, to: Iterable[str], link: str
) -> Resource:
    """An agent said something on a mission; the mission as it is then."""
    limits = thresholds.loop_limits(tx, agent)
    loop, finding = loops.observe_message(sessions.mission_loop(mission), author, to, limits, tx.now, link=link)
    return _put(tx, mission, loop, finding)


def woke(tx: Transaction, mission: Resource, agent: Resource | None, author: str, link: str) -> Resource:
    """An agent is told what it asked to be told; the mission as it is then."""
    limits = thresholds.loop_limits(tx, agent)
    loop, finding = loops.observe_self_wake(sessions.mission_loop(mission), author, limits, tx.now, link=link)
    return _put(tx, mission, loop, finding)


def note(tx: Transaction, mission: Resource, finding: LoopFinding | None, *, run: str, session: str) -> None:
    """Note what was found on the mission, unless something was already."""
    if finding is None:
        return
    loop = sessions.mission_loop(mission)
    if loop.finding is None:
        _put(tx, mission, loop, finding.model_copy(update={"run": run, "session": session}))


def _put(tx: Transaction, mission: Resource, loop: MissionLoop, finding: LoopFinding | None) -> Resource:
    if finding is not None:
        loop = loops.found(loop, finding)
    status = parsed(MissionStatus, mission.status)
    return tx.put_status(mission, status.model_copy(update={"loop": loop}).to_wire())


def _keep(tx: Transaction, session: Resource, before: SessionLoop, loop: SessionLoop) -> None:
    if loop != before:
        sessions.keep(tx, session, loop)


def _involved(tx: Transaction, run: Resource) -> tuple[Resource | None, Resource | None]:
    spec = parsed(RunSpec, run.spec)
    return tx.get_by_uid(spec.mission_uid), tx.get_by_uid(spec.agent_uid)
