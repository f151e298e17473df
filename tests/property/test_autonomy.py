"""No order of agent, person, clock and restart gets a session further than its limits."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from decisions.autonomy import Admission, Count, admit, next_due, person_spoke, sent
from decisions.spawning import LEVELS, Alive, Denial, Parent, Wish, covered, weigh
from schemas.agent import AutonomyLevel, SubAgents
from schemas.policy import AutonomyLimits, SpawnLimits

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.booleans()),
        st.tuples(st.just("person"), st.booleans()),
        st.tuples(st.just("tick"), st.integers(0, 40)),
    ),
    max_size=80,
)


@given(STEPS, st.integers(0, 4), st.integers(0, 20))
def test_never_more_in_a_row_and_never_closer_together(steps: list[tuple[str, int]], most: int, pause_s: int) -> None:
    limits = AutonomyLimits(max_consecutive=most, cooldown=timedelta(seconds=pause_s))
    count, now = Count(), START
    out: list[datetime] = []
    in_a_row = 0
    for step, value in steps:
        if step == "tick":
            now += timedelta(seconds=value)
        elif step == "person":
            count, in_a_row = person_spoke(count), 0
            assert next_due(count, now) is None  # what waited is void
        else:
            owed = count.owed
            count, admission = admit(count, limits, answers_person=bool(value))
            assert (admission is Admission.REPLY) <= (owed and bool(value))
        while (due := next_due(count, now)) is not None and due <= now:
            count = sent(count, limits, now)
            out.append(now)
            in_a_row += 1
            assert in_a_row <= most
        assert count.consecutive + count.queued <= most
    gaps = [later - earlier for earlier, later in itertools.pairwise(out)]
    assert all(gap >= limits.cooldown for gap in gaps)


@given(STEPS)
def test_one_message_of_a_person_has_one_answer(steps: list[tuple[str, int]]) -> None:
    limits = AutonomyLimits()
    count, people, answers = Count(), 0, 0
    for step, value in steps:
        if step == "person":
            count, people = person_spoke(count), people + 1
        elif step == "say":
            count, admission = admit(count, limits, answers_person=bool(value))
            answers += admission is Admission.REPLY
        assert answers <= people


NAMES = st.text("ab*?", min_size=1, max_size=4)


@given(NAMES, NAMES, st.text("ab", min_size=1, max_size=4))
def test_what_a_sub_agent_may_call_its_parent_may_call(granted: str, wanted: str, tool: str) -> None:
    from decisions.policy import globs

    if covered((granted,), wanted) and globs.matches_name(wanted, tool):
        assert globs.matches_name(granted, tool)


DURATIONS = st.integers(1, 10_000).map(lambda s: timedelta(seconds=s))


@given(
    level=st.sampled_from(LEVELS),
    wanted=st.none() | st.sampled_from(LEVELS),
    allowed=st.booleans(),
    depth=st.integers(0, 4),
    own=st.tuples(st.integers(0, 5), st.integers(1, 4), DURATIONS),
    policy=st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 4), DURATIONS),
    alive=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    ttl=st.none() | DURATIONS,
    until=st.none() | st.integers(1, 10_000).map(lambda s: START + timedelta(seconds=s)),
)
def test_terms_are_never_above_the_parent_or_a_limit(
    level: AutonomyLevel,
    wanted: AutonomyLevel | None,
    allowed: bool,
    depth: int,
    own: tuple[int, int, timedelta],
    policy: tuple[int, int, int, timedelta],
    alive: tuple[int, int],
    ttl: timedelta | None,
    until: datetime | None,
) -> None:
    parent = Parent(
        level, ("read_*",), SubAgents(allowed=allowed, max=own[0], max_depth=own[1], ttl=own[2]), depth, until
    )
    limits = SpawnLimits(max_active=policy[0], max_per_parent=policy[1], max_depth=policy[2], ttl=policy[3])
    terms = weigh(parent, Wish(wanted, None, ttl), limits, Alive(alive[0], alive[1], None, 30), START)
    if isinstance(terms, Denial):
        return
    assert allowed
    assert level is not AutonomyLevel.INTERN
    assert LEVELS.index(terms.level) <= LEVELS.index(level)
    assert alive[0] < limits.max_active
    assert alive[1] < min(limits.max_per_parent, own[0])
    assert terms.depth == depth + 1 <= limits.max_depth
    assert START < terms.expires_at <= START + min(limits.ttl, own[2])
    assert until is None or terms.expires_at <= until
    if terms.may_spawn.allowed:
        assert terms.depth + terms.may_spawn.max_depth <= min(limits.max_depth, depth + own[1])
