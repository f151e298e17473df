"""Whatever happens in a session, in whatever order: its limits hold, and nothing is lost or happens twice."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from decisions import conversation as session
from decisions.chat import command_of, mentioned
from decisions.conversation import Decision, Event, Pending, State
from schemas.hold import HoldMode
from schemas.message import MessageState
from schemas.policy import AutonomyLimits

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ENDED = {MessageState.DELIVERED, MessageState.BLOCKED, MessageState.CANCELED, MessageState.FAILED}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["say", "answer", "person", "ask", "order", "tell", "later", "see", "tick", "end"]),
        st.integers(0, 40),
        st.sampled_from([None, None, None, HoldMode.HOLD, HoldMode.DRAIN, HoldMode.STOP]),
    ),
    max_size=60,
)


def event_of(step: str, value: int, number: int, state: State, now: datetime) -> Event:
    name = f"m{number}"
    open_ = state.open_commands
    latest = open_[value % len(open_)] if open_ and value % 2 else state.latest
    events: dict[str, Event] = {
        "say": session.AgentSaid(name),
        "answer": session.AgentSaid(name, latest, latest.removeprefix("u") and "m" + latest.removeprefix("u")),
        "person": session.PersonSaid(name, f"u{number}"),
        "ask": session.PersonAsked(name, f"u{number}"),
        "order": session.PersonSaid(name, f"u{number}", command=True),
        "tell": session.FollowUpAsked(Pending(name, now + timedelta(seconds=value))),
        "later": session.FollowUpAsked(Pending(name, now + timedelta(seconds=value), say=True)),
        "see": session.Acknowledged(frozenset(state.inbound[: value % 3])),
        "end": session.WorkEnded(),
    }
    return events.get(step, session.TimePassed())


@settings(max_examples=150)
@given(STEPS, st.integers(0, 4), st.integers(0, 20))
def test_every_message_has_one_end_and_every_follow_up_happens_once_or_never(
    steps: list[tuple[str, int, HoldMode | None]], most: int, pause_s: int
) -> None:
    limits = AutonomyLimits(max_consecutive=most, cooldown=timedelta(seconds=pause_s))
    state, now = State(), START
    ends: Counter[str] = Counter()
    asked: set[str] = set()
    over: Counter[str] = Counter()
    by_itself: list[datetime] = []
    said: set[str] = set()
    for number, (step, value, hold) in enumerate(steps):
        if step == "tick":
            now += timedelta(seconds=value)
        event = event_of(step, value, number, state, now)
        before = state
        decision = session.decide(state, event, limits, hold, now)
        assert decision == session.decide(before, event, limits, hold, now)
        state = decision.state
        if isinstance(event, session.FollowUpAsked):
            asked.add(event.follow_up.message)
            said |= {event.follow_up.message} if event.follow_up.say else set()
        elif isinstance(event, session.AgentSaid):
            said.add(event.message)
        for move in decision.moves:
            ends[move.message] += move.state in ENDED
            if (
                move.state is MessageState.DELIVERED
                and move.message in said
                and not _reply(event, decision, move.message)
            ):
                by_itself.append(now)
                assert hold is None
        over.update(f.message for f in (*decision.fired, *decision.canceled))
        assert state.count.queued == len(state.queue)
        assert state.count.consecutive + len(state.queue) <= most
        if isinstance(event, session.PersonSaid):
            assert (state.queue, state.count.consecutive) == ((), 0)
            assert state.follow_ups == ()
        waits = bool(state.queue or state.follow_ups)
        assert (decision.wake_at is not None) == waits
        assert decision.wake_at is None or decision.wake_at >= now or state.follow_ups
    assert all(count <= 1 for count in (*ends.values(), *over.values()))
    assert asked == set(over) | {f.message for f in state.follow_ups}
    gaps = [later - earlier for earlier, later in itertools.pairwise(by_itself)]
    assert all(gap >= limits.cooldown for gap in gaps)


def _reply(event: Event, decision: Decision, message: str) -> bool:
    return isinstance(event, session.AgentSaid) and event.message == message and decision.admission == "Reply"


@given(st.text(max_size=200))
def test_any_text_is_read_without_harm(text: str) -> None:
    found = command_of(text)
    assert found is None or text.startswith(f"/{found.name}")
    assert all(f"@{name}" in text for name in mentioned(text))


def test_addresses_and_paths_are_no_mentions() -> None:
    assert mentioned("ask @alice and @agent:auditor, not bob@example.com or a/@x. @user:carol.") == (
        "alice",
        "agent:auditor",
        "user:carol",
    )
    assert command_of("/build all\nof it") == command_of("/build  all\nof it  ")
    assert command_of(" /build") is None
    assert command_of("/usr/bin is a folder") is None
