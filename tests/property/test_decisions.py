"""What must hold of the pure decisions for any input."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from decisions import dispatch, fields, retry
from decisions.plan import Action, Live, make_plan
from decisions.references import find_cycles, references
from schemas.base import Key
from schemas.mission import Backoff
from schemas.resource import Declared, Resource, canonical_json

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
NAMES = st.sampled_from("abcdefgh")
KEYS = NAMES.map(lambda n: Key("Mission", "default", n))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, st.lists(KEYS, max_size=3)))
def test_every_reported_cycle_is_one_and_none_is_missed(edges: dict[Key, list[Key]]) -> None:
    cycles = find_cycles(edges)
    for way in cycles:
        assert way[0] == way[-1]
        assert len(set(way[:-1])) == len(way) - 1
        for here, there in itertools.pairwise(way):
            assert there in edges[here]

    # Removing one edge of each reported cycle until none is reported leaves a graph that can be ordered.
    graph = {k: set(v) & edges.keys() for k, v in edges.items()}
    while found := find_cycles(graph):
        for way in found:
            graph[way[0]].discard(way[1])
    done: set[Key] = set()
    while len(done) < len(graph):
        free = [k for k, v in graph.items() if k not in done and v <= done]
        assert free, "a cycle was missed"
        done.update(free)


def test_a_chain_of_ten_thousand_is_no_problem() -> None:
    keys = [Key("Mission", "default", f"m{i}") for i in range(10_000)]
    edges = {a: [b] for a, b in itertools.pairwise(keys)} | {keys[-1]: [keys[0]]}
    (way,) = find_cycles(edges)
    assert len(way) == 10_001


@given(
    st.lists(
        st.builds(
            dispatch.Candidate,
            KEYS,
            st.integers(0, 100),
            st.integers(0, 10_000).map(lambda m: NOW - timedelta(minutes=m)),
        ),
        max_size=12,
        unique_by=lambda c: c.key,
    ),
    st.randoms(use_true_random=False),
)
def test_the_same_facts_give_the_same_order(candidates: list[dispatch.Candidate], random: Any) -> None:
    ordered = dispatch.order(candidates, NOW)
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert dispatch.order(shuffled, NOW) == ordered
    priorities = [dispatch.effective_priority(c, NOW) for c in ordered]
    assert priorities == sorted(priorities, reverse=True)


@given(st.integers(0, 100), st.integers(0, 100))
def test_no_mission_starves(low: int, high: int) -> None:
    """However high the priority of newcomers, a mission that waits long enough overtakes them."""
    old = dispatch.Candidate(Key("Mission", "default", "old"), low, NOW - 101 * dispatch.AGE_STEP)
    new = dispatch.Candidate(Key("Mission", "default", "new"), high, NOW)
    assert dispatch.order([new, old], NOW)[0] is old


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 10**6), st.text(max_size=8))
def test_a_pause_stays_within_its_bounds_and_comes_out_the_same(
    initial: int, cap: int, jitter: float, failures: int, seed: str
) -> None:
    backoff = Backoff(initial=f"{initial}s", max=f"{cap}s", jitter=jitter)  # type: ignore[arg-type]
    pause = retry.pause(backoff, failures, seed)
    assert timedelta(0) <= pause <= timedelta(seconds=cap * (1 + jitter) + 0.001)
    assert pause == retry.pause(backoff, failures, seed)


@given(JSON, JSON)
def test_a_diff_is_empty_exactly_for_equal_values(old: Any, new: Any) -> None:
    same = canonical_json(old) == canonical_json(new)
    assert (fields.diff({"x": old}, {"x": new}) == []) == same


@given(st.text("abcdef0123456789", min_size=20, max_size=40))
def test_a_secret_is_never_shown(value: str) -> None:
    spec = {"env": [{"name": "API_TOKEN", "value": value}], "password": value, "note": f"sk-{value}"}
    shown = canonical_json(fields.masked(spec))
    assert value not in shown
    changes = fields.diff({}, spec)
    assert value not in str(changes)


SPECS = st.fixed_dictionaries({"title": st.sampled_from("xyz")})
DECLARED = st.dictionaries(NAMES, SPECS, max_size=8)


def declared(values: dict[str, dict[str, Any]]) -> list[Declared]:
    return [Declared("Mission", "default", name, spec) for name, spec in values.items()]


def stored(values: dict[str, dict[str, Any]], unit: str = "s:.") -> tuple[Resource, ...]:
    return tuple(
        Resource("Mission", "default", name, f"uid-{name}", 1, 1, spec, {}, NOW, unit=unit)
        for name, spec in values.items()
    )


def none_disruptive(kind: str) -> dict[str, Any]:
    return {}


@given(DECLARED, DECLARED)
def test_applying_a_plan_leads_to_the_declaration(before: dict[str, Any], after: dict[str, Any]) -> None:
    plan = make_plan("s:.", "r", declared(after), Live(stored(before)), disruptions=none_disruptive)
    result = dict(before)
    for entry in plan.entries:
        if entry.action is Action.DELETE:
            del result[entry.key.name]
        else:
            result[entry.key.name] = after[entry.key.name]
    assert result == after
    assert plan.empty == (before == after)
    again = make_plan("s:.", "other revision", declared(after), Live(stored(before)), disruptions=none_disruptive)
    assert again.digest == plan.digest, "the digest speaks of the change, not of when or where it was computed"


@given(DECLARED, DECLARED)
def test_more_deletions_than_the_guard_allows_are_always_held_back(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    plan = make_plan("s:.", "r", declared(after), Live(stored(before)), disruptions=none_disruptive)
    deleted = {e.key for e in plan.entries if e.action is Action.DELETE}
    blocked = plan.blocked(lambda digest: False)
    limit = max(5, int(len(before) * 0.2))
    too_many = bool(deleted) and (len(deleted) > limit or len(deleted) == len(before))
    assert blocked == (deleted if too_many else frozenset())
    assert plan.blocked(lambda digest: True) == frozenset()


@given(JSON)
def test_references_are_found_at_any_depth_but_never_in_free_form_fields(value: Any) -> None:
    spec = {
        "missionTemplate": {"spec": {"agentRef": {"name": "x"}}},
        "input": {"agentRef": {"name": "hidden"}},
        "y": value,
    }
    targets = {r.target for r in references("default", spec)}
    assert Key("Agent", "default", "x") in targets
    assert Key("Agent", "default", "hidden") not in targets
