"""What follows from one event of a session: its next state, what becomes of its messages, and when it is looked at
again. Events of a session are decided one after another; a session knows nothing of any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from decisions import autonomy
from decisions.autonomy import Admission, Count
from schemas.hold import HoldMode
from schemas.message import MessageReason, MessageState
from schemas.policy import AutonomyLimits

MOST_INBOUND = 100
"""Messages that an agent has not seen; beyond them the oldest are given up."""
MOST_OPEN_COMMANDS = 20
"""Commands that wait for their answer; an answer to an older one counts as said by itself."""
MOST_FOLLOW_UPS = 10
"""Follow-ups that wait at a time."""
HELD_RETRY = timedelta(seconds=30)
"""How often a session that is held is looked at, beside the change of a Hold: a file that stops work tells nobody."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A follow-up that is not due yet. ``message`` is the name of the message that it becomes."""

    message: str
    due_at: datetime
    say: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """How a session stands: names of messages in their order. ``count.queued`` is the length of ``queue``. ``latest``
    is the uid of what a person said last, ``open_commands`` are uids of commands without an answer."""

    count: Count = field(default_factory=Count)
    queue: tuple[str, ...] = ()
    inbound: tuple[str, ...] = ()
    follow_ups: tuple[Pending, ...] = ()
    open_commands: tuple[str, ...] = ()
    latest: str = ""


@dataclass(frozen=True, slots=True)
class AgentSaid:
    """The agent says something; ``answers`` is the uid of what it answers, ``answered`` its name while it waits in the
    inbox."""

    message: str
    answers: str = ""
    answered: str = ""


@dataclass(frozen=True, slots=True)
class PersonSaid:
    """A person says something; ``command`` is whether the answer is due as that of a command."""

    message: str
    uid: str
    command: bool = False


@dataclass(frozen=True, slots=True)
class PersonAsked:
    """A person asks the agent how things stand, by a command that changes nothing of what it was going to do."""

    message: str
    uid: str


@dataclass(frozen=True, slots=True)
class FollowUpAsked:
    """The agent asks to be told, or to have something said, later."""

    follow_up: Pending


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The agent has these messages."""

    messages: frozenset[str]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened but that it is later."""


@dataclass(frozen=True, slots=True)
class WorkEnded:
    """What the session is about is over."""


Event = AgentSaid | PersonSaid | PersonAsked | FollowUpAsked | Acknowledged | TimePassed | WorkEnded


@dataclass(frozen=True, slots=True)
class Moved:
    """A message gets this state. One that does not exist yet is made from the follow-up that it was."""

    message: str
    state: MessageState
    reason: MessageReason
    why: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows. ``moves`` in their order; ``fired`` are follow-ups that became messages, ``canceled`` those that
    never will; ``wake_at`` is when to look again, None for never; ``told`` is whether the agent has something new in
    its inbox; ``admission`` is what became of what it said."""

    state: State
    moves: tuple[Moved, ...] = ()
    fired: tuple[Pending, ...] = ()
    canceled: tuple[Pending, ...] = ()
    wake_at: datetime | None = None
    told: bool = False
    admission: Admission | None = None


def decide(state: State, event: Event, limits: AutonomyLimits, hold: HoldMode | None, now: datetime) -> Decision:
    """One event. ``hold`` is the strictest Hold on the agent's work: nothing goes out by itself under any of them;
    under Stop nothing goes out at all, and what is said is noted as Blocked. The same arguments give the same
    decision."""
    match event:
        case AgentSaid():
            step = _said(state, event, limits, hold)
            if event.answered and step.admission is not None:
                has = _acknowledged(step.state, Acknowledged(frozenset({event.answered})))
                step = replace(step, state=has.state, moves=(*has.moves, *step.moves))
        case PersonSaid():
            step = _person(state, event)
        case PersonAsked():
            step = _told(replace(state, open_commands=_with(state.open_commands, event.uid)), event.message)
        case FollowUpAsked():
            step = Decision(replace(state, follow_ups=_ordered((*state.follow_ups, event.follow_up))))
        case Acknowledged():
            step = _acknowledged(state, event)
        case TimePassed():
            step = Decision(state)
        case WorkEnded():
            return _void(state, MessageReason.MISSION_ENDED, "what it was about is over")
    return _go_on(step, limits, hold, now)


def _said(state: State, event: AgentSaid, limits: AutonomyLimits, hold: HoldMode | None) -> Decision:
    if hold is HoldMode.STOP:
        return Decision(state, (Moved(event.message, MessageState.BLOCKED, MessageReason.HELD),))
    if event.answers and event.answers in state.open_commands:
        rest = tuple(uid for uid in state.open_commands if uid != event.answers)
        state = replace(state, open_commands=rest)
        if event.answers == state.latest:
            state = replace(state, count=replace(state.count, owed=False))
        return Decision(state, (_delivered(event.message),), admission=Admission.REPLY)
    answers = bool(event.answers) and event.answers == state.latest
    return _admitted(state, event.message, limits, answers=answers)


def _admitted(state: State, message: str, limits: AutonomyLimits, *, answers: bool) -> Decision:
    count, admission = autonomy.admit(state.count, limits, answers_person=answers)
    if admission is Admission.HARD_CAP:
        moved = Moved(message, MessageState.BLOCKED, MessageReason.HARD_CAP)
        return Decision(state, (moved,), admission=admission)
    if admission is Admission.REPLY:
        return Decision(replace(state, count=count), (_delivered(message),), admission=admission)
    moved = Moved(message, MessageState.PENDING, MessageReason.PENDING)
    return Decision(replace(state, count=count, queue=(*state.queue, message)), (moved,), admission=admission)


def _person(state: State, event: PersonSaid) -> Decision:
    void = _void(state, MessageReason.PERSON_SPOKE, "a person spoke before it went out")
    state = replace(void.state, count=autonomy.person_spoke(void.state.count), latest=event.uid)
    if event.command:
        state = replace(state, open_commands=_with(state.open_commands, event.uid))
    told = _told(state, event.message)
    return replace(told, moves=(*void.moves, *told.moves), canceled=void.canceled)


def _void(state: State, reason: MessageReason, why: str) -> Decision:
    """Nothing of what has not happened yet will happen."""
    moves = tuple(Moved(name, MessageState.CANCELED, reason, why) for name in state.queue)
    left = replace(state, queue=(), follow_ups=(), count=replace(state.count, queued=0))
    return Decision(left, moves, canceled=state.follow_ups)


def _told(state: State, message: str) -> Decision:
    inbound = (*state.inbound, message)
    why = f"the agent did not look at its inbox while {MOST_INBOUND} others came"
    moves = tuple(
        Moved(name, MessageState.FAILED, MessageReason.DELIVERY_FAILED, why) for name in inbound[:-MOST_INBOUND]
    )
    moves = (Moved(message, MessageState.PENDING, MessageReason.PENDING), *moves)
    return Decision(replace(state, inbound=inbound[-MOST_INBOUND:]), moves, told=True)


def _acknowledged(state: State, event: Acknowledged) -> Decision:
    moves = tuple(_delivered(name) for name in state.inbound if name in event.messages)
    return Decision(replace(state, inbound=tuple(n for n in state.inbound if n not in event.messages)), moves)


def _go_on(step: Decision, limits: AutonomyLimits, hold: HoldMode | None, now: datetime) -> Decision:
    """Let happen what is due: follow-ups in their order, then the queue."""
    if hold is not HoldMode.STOP:
        step = _follow_ups(step, limits, hold, now)
    if hold is None:
        step = _queue(step, limits, now)
    return replace(step, wake_at=_next(step.state, hold, now))


def _follow_ups(step: Decision, limits: AutonomyLimits, hold: HoldMode | None, now: datetime) -> Decision:
    for due in step.state.follow_ups:
        if due.due_at > now:
            break
        if due.say and hold is not None:
            continue
        state = replace(step.state, follow_ups=tuple(f for f in step.state.follow_ups if f != due))
        one = _admitted(state, due.message, limits, answers=False) if due.say else _told(state, due.message)
        step = replace(
            step,
            state=one.state,
            moves=(*step.moves, *one.moves),
            fired=(*step.fired, due),
            told=step.told or one.told,
        )
    return step


def _queue(step: Decision, limits: AutonomyLimits, now: datetime) -> Decision:
    state, moves = step.state, list(step.moves)
    due = autonomy.next_due(state.count, now)
    while state.queue and due is not None and due <= now:
        moves.append(_delivered(state.queue[0]))
        state = replace(state, queue=state.queue[1:], count=autonomy.sent(state.count, limits, now))
        due = autonomy.next_due(state.count, now)
    return replace(step, state=state, moves=tuple(moves))


def _next(state: State, hold: HoldMode | None, now: datetime) -> datetime | None:
    if hold is not None and (state.queue or state.follow_ups):
        return now + HELD_RETRY
    dues = [f.due_at for f in state.follow_ups]
    first = autonomy.next_due(state.count, now)
    if first is not None:
        dues.append(first)
    return min(dues, default=None)


def _delivered(message: str) -> Moved:
    return Moved(message, MessageState.DELIVERED, MessageReason.DELIVERED)


def _with(open_commands: tuple[str, ...], uid: str) -> tuple[str, ...]:
    return (*open_commands, uid)[-MOST_OPEN_COMMANDS:]


def _ordered(follow_ups: Iterable[Pending]) -> tuple[Pending, ...]:
    return tuple(sorted(follow_ups, key=lambda f: (f.due_at, f.message)))
