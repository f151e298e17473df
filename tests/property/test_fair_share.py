"""Whatever waits: the order follows from the facts alone, nothing starves, and shares converge."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from decisions.dispatch import (
    AGE_STEP,
    LEAD_MOST,
    Candidate,
    Lane,
    Shares,
    Waiting,
    effective_priority,
    longest_wait,
    order,
)
from schemas.base import Key

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def lane(tenant: str = "t", project: str = "", agent: str = "a") -> Lane:
    return Lane(tenant, project, Key("Agent", tenant, agent))


def candidate(name: str, priority: int = 50, age: timedelta = timedelta(), of: Lane | None = None) -> Candidate:
    of = of or lane()
    return Candidate(Key("Mission", of.tenant, name), priority, NOW - age, of)


def served(waiting: Waiting, agents: list[Key], count: int, now: datetime = NOW) -> list[Candidate]:
    """What gets the next ``count`` places."""
    shares, found = Shares(), []
    for _ in range(count):
        best = waiting.first(agents, shares, now)
        if best is None:
            break
        shares.charge(best[0].lane, waiting.lanes(agents))
        waiting.discard(best[0].key)
        found.append(best[0])
    return found


CANDIDATES = st.lists(
    st.tuples(
        st.integers(0, 100),
        st.integers(0, 3000),
        st.sampled_from(["t1", "t2", "t3"]),
        st.sampled_from(["", "p", "q"]),
        st.sampled_from(["a", "b"]),
    ),
    max_size=25,
).map(
    lambda rows: [
        candidate(f"m{n}", priority, age * MINUTE, lane(tenant, project, agent))
        for n, (priority, age, tenant, project, agent) in enumerate(rows)
    ]
)


@settings(max_examples=60, deadline=None)
@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_same_facts_give_the_same_order(found: list[Candidate], chance: random.Random) -> None:
    agents = sorted({c.lane.agent for c in found})
    one, other = Waiting(), Waiting()
    for c in found:
        one.add(c)
    shuffled = list(found)
    chance.shuffle(shuffled)
    for c in shuffled:  # in another order, and with detours
        other.add(Candidate(c.key, 7, NOW - MINUTE, c.lane))
        other.add(c)
    for c in shuffled[::2]:
        other.discard(c.key)
        other.add(c)
    chance.shuffle(agents)
    assert served(one, sorted(agents), 100) == served(other, agents, 100)


@settings(max_examples=60, deadline=None)
@given(CANDIDATES, st.data())
def test_the_queue_answers_like_a_list_that_is_searched(found: list[Candidate], data: st.DataObject) -> None:
    waiting, there = Waiting(), {c.key: c for c in found}
    for c in found:
        waiting.add(c)
    for key in data.draw(st.lists(st.sampled_from(sorted(there)), unique=True) if there else st.just([])):
        waiting.discard(key)
        del there[key]
    agents = sorted({c.lane.agent for c in found})
    shares = Shares()
    while there:
        leads = shares.leads({c.lane for c in there.values()})
        expected = min(
            there.values(),
            key=lambda c: (-effective_priority(c, NOW, leads[c.lane]), leads[c.lane], c.ready_since, c.key),
        )
        best = waiting.first(agents, shares, NOW)
        assert best is not None
        assert best[0] == expected
        assert len(waiting) == len(there)
        shares.charge(expected.lane, {c.lane for c in there.values()})
        waiting.discard(expected.key)
        del there[expected.key]
    assert waiting.first(agents, shares, NOW) is None
    assert len(waiting) == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["t1", "t2", "t3"]), st.integers(0, 900)),
        min_size=2, max_size=3, unique_by=lambda row: row[0],
    ),
    st.integers(20, 60),
)  # fmt: skip
def test_shares_converge_however_old_a_backlog_is(backlogs: list[tuple[str, int]], rounds: int) -> None:
    waiting = Waiting()
    for tenant, age in backlogs:
        for n in range(200):
            waiting.add(candidate(f"m{n:03d}", 50, age * MINUTE, lane(tenant)))
    found = served(waiting, [lane(tenant).agent for tenant, _ in backlogs], rounds * len(backlogs))
    counts = Counter(c.lane.tenant for c in found)
    # What a head start in age is worth is bounded: LEAD_MOST runs, whatever follows.
    assert max(counts.values()) - min(counts[tenant] for tenant, _ in backlogs) <= LEAD_MOST


def test_each_level_is_shared_by_itself() -> None:
    waiting = Waiting()
    lanes = [lane("big", f"p{n}", "x") for n in range(4)] + [lane("small", "only", "y")]
    for of in lanes:
        for n in range(100):
            waiting.add(candidate(f"{of.project}-{n:03d}", 50, timedelta(), of))
    found = served(waiting, sorted({of.agent for of in lanes}), 80)
    assert Counter(c.lane.tenant for c in found) == {"big": 40, "small": 40}
    assert Counter(c.lane.project for c in found if c.lane.tenant == "big") == {f"p{n}": 10 for n in range(4)}


def test_agents_of_a_project_take_turns() -> None:
    waiting = Waiting()
    lanes = [lane("t", "p", name) for name in ("a", "b", "c")]
    for of in lanes:
        for n in range(30):
            waiting.add(candidate(f"{of.agent.name}-{n:03d}", 50, timedelta(), of))
    found = served(waiting, [of.agent for of in lanes], 30)
    assert Counter(c.lane.agent.name for c in found) == {"a": 10, "b": 10, "c": 10}


def test_priority_comes_before_shares() -> None:
    waiting = Waiting()
    for n in range(20):
        waiting.add(candidate(f"high-{n:02d}", 80, timedelta(), lane("greedy")))
        waiting.add(candidate(f"low-{n:02d}", 20, timedelta(), lane("modest")))
    found = served(waiting, [lane("greedy").agent, lane("modest").agent], 20)
    assert {c.priority for c in found} == {80}


def test_who_wanted_nothing_has_nothing_to_make_up_for() -> None:
    shares, alone, late = Shares(), lane("alone"), lane("late")
    for _ in range(50):
        shares.charge(alone, [alone])
    leads = shares.leads([alone, late])
    assert (leads[alone].tenant, leads[late].tenant) == (1, 0)  # the run that it had just got, and no other


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.integers(1, 3), st.integers(0, 3), st.randoms(use_true_random=False))
def test_nothing_starves_under_an_endless_stream_of_the_most_urgent(
    priority: int, streams: int, ahead: int, chance: random.Random
) -> None:
    """A place every ten minutes, and each time more of priority 100 arrives than is served. The one that waits goes
    before everything that arrived later than the bound after it; so many can be before it, and no more."""
    waiting, shares = Waiting(), Shares()
    lanes = [lane(f"s{n}") for n in range(streams)]
    mine = lane("mine") if chance.random() < 0.5 else lanes[0]
    for _ in range(ahead):
        shares.charge(mine, [mine, lane("nobody")])  # its lane is ahead already
    waiting.add(Candidate(Key("Mission", mine.tenant, "patient"), priority, NOW, mine))
    agents = sorted({of.agent for of in [*lanes, mine]})
    now, number = NOW, 0
    bound = longest_wait(priority)
    before = 0
    while True:
        for of in lanes:
            number += 1
            waiting.add(Candidate(Key("Mission", of.tenant, f"m{number:05d}"), 100, now, of))
        best = waiting.first(agents, shares, now)
        assert best is not None
        shares.charge(best[0].lane, waiting.lanes(agents))
        waiting.discard(best[0].key)
        if best[0].key.name == "patient":
            break
        assert best[0].ready_since <= NOW + bound, "one that arrived after the bound went first"
        before += 1
        now += AGE_STEP
    arrived = (bound // AGE_STEP + 1) * streams
    assert before <= arrived


def test_one_that_can_get_nothing_takes_no_shares_from_the_others_away() -> None:
    """It wants something all the time; the others share as if it were not there."""
    shares, stuck = Shares(), lane("stuck")
    a, b = lane("a"), lane("b")
    for _ in range(40):
        shares.charge(a, [a, stuck])
    counts = Counter({a: 0, b: 0})
    for _ in range(60):
        leads = shares.leads([a, b, stuck])
        following = min(a, b, key=lambda one: (leads[one], one))
        shares.charge(following, [a, b, stuck])
        counts[following] += 1
    assert counts[b] - counts[a] <= LEAD_MOST
    assert abs(shares.leads([a, b])[a].tenant - shares.leads([a, b])[b].tenant) <= 1


def test_among_equals_the_longest_ready_goes_first() -> None:
    found = [candidate("b", 50, 2 * MINUTE), candidate("a", 50, MINUTE), candidate("c", 50, 2 * MINUTE)]
    assert [c.key.name for c in order(found, NOW)] == ["b", "c", "a"]


def test_a_shape_like_that_of_kueues_benchmark_is_worked_off_in_even_shares() -> None:
    """5 cohorts (Providers), in each 6 queues (tenants) of 500 missions: small ones, middle ones, large ones."""
    for cohort in range(5):
        waiting, lanes = Waiting(), [lane(f"c{cohort}-q{n}") for n in range(6)]
        for of in lanes:
            for n in range(500):
                priority = 50 if n < 350 else 80 if n < 450 else 100
                waiting.add(candidate(f"m{n:03d}", priority, timedelta(), of))
        found = served(waiting, [of.agent for of in lanes], 3000)
        assert len(found) == 3000
        for upto in (300, 600, 900, 1800, 3000):
            counts = Counter(c.lane.tenant for c in found[:upto])
            assert max(counts.values()) - min(counts.values()) <= 1
        assert [c.priority for c in found] == sorted((c.priority for c in found), reverse=True)
