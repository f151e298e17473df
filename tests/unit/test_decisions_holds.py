"""Which Hold counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from decisions.holds import HoldFacts, bites, matches, strictest
from schemas.base import Key
from schemas.hold import HoldSpec

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
AGENT = Key("Agent", "default", "worker")


def hold(name: str, namespace: str = "default", **spec: object) -> HoldFacts:
    values = {"scope": "Tenant", "reason": "because", **spec}
    if "selector" in values:
        del values["scope"]
    return HoldFacts(Key("Hold", namespace, name), HoldSpec.model_validate(values), "user:alice", NOW)


@pytest.mark.parametrize(
    ("facts", "key", "labels", "expected"),
    [
        (hold("a"), AGENT, {}, True),
        (hold("a", "other"), AGENT, {}, False),
        (hold("a", "other", scope="Global"), AGENT, {}, True),
        (hold("a", selector={"names": ["worker"]}), AGENT, {}, True),
        (hold("a", selector={"names": ["other"]}), AGENT, {}, False),
        (hold("a", selector={"names": ["worker"], "kinds": ["Mission"]}), AGENT, {}, False),
        (hold("a", selector={"matchLabels": {"team": "x"}}), AGENT, {"team": "x"}, True),
        (hold("a", selector={"matchLabels": {"team": "x"}}), AGENT, {"team": "y"}, False),
        (hold("a", "other", selector={"names": ["worker"]}), AGENT, {}, False),
    ],
)
def test_a_hold_matches_what_it_names(facts: HoldFacts, key: Key, labels: dict[str, str], expected: bool) -> None:
    assert matches(facts, key, labels) is expected


def test_the_strictest_counts_and_among_equals_the_longest() -> None:
    soon, later = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    holds = [
        hold("plain", mode="Hold"),
        hold("short", mode="Stop", until=soon.isoformat()),
        hold("long", mode="Stop", until=later.isoformat()),
        hold("drain", mode="Drain"),
    ]
    found = strictest(holds, [(AGENT, {})], NOW)
    assert found is not None
    assert (found.hold.name, found.mode, found.until) == ("long", "Stop", later)
    endless = strictest([*holds, hold("endless", mode="Stop")], [(AGENT, {})], NOW)
    assert endless is not None
    assert endless.hold.name == "endless"


def test_a_hold_that_is_over_or_being_released_holds_nothing() -> None:
    over = hold("over", until=NOW.isoformat())
    assert strictest([over], [(AGENT, {})], NOW) is None
    assert strictest([over], [(AGENT, {})], NOW - timedelta(seconds=1)) is not None


def test_the_hint_says_who_why_and_how_to_end_it() -> None:
    found = strictest([hold("stop", mode="Stop", reason="incident 7")], [(AGENT, {})], NOW)
    assert found is not None
    assert found.hint == "e-stop by user:alice: incident 7; release: remit estop release --tenant default --reason WHY"


def test_a_part_that_was_released_is_held_no_more() -> None:
    stop = hold("stop", scope="Global", mode="Stop", released={"agents": [{"name": "one"}], "tenants": ["acme"]})

    def held(agent: str, namespace: str = "default") -> bool:
        mission = Key("Mission", namespace, "m")
        return strictest([stop], [(mission, {}), (Key("Agent", namespace, agent), {})], NOW) is not None

    assert not held("one")
    assert held("two")
    assert held("one", "other")
    assert not held("two", "acme")
    assert strictest([stop], [(Key("Mission", "default", "m"), {})], NOW) is not None, "nobody is assigned"


def test_another_hold_on_a_released_agent_counts_all_the_same() -> None:
    stop = hold("stop", scope="Global", mode="Stop", released={"agents": [{"name": "worker"}]})
    found = strictest([stop, hold("pause", selector={"names": ["worker"]})], [(AGENT, {})], NOW)
    assert found is not None
    assert (found.hold.name, found.mode) == ("pause", "Hold")


def test_a_larger_percentage_adds_to_a_smaller_one_and_a_hundred_is_all() -> None:
    agents = [Key("Agent", "default", f"a{n}") for n in range(500)]

    def released(percent: int) -> set[Key]:
        stop = hold("stop", scope="Global", mode="Stop", released={"percent": percent})
        return {a for a in agents if strictest([stop], [(a, {})], NOW) is None}

    steps = [released(percent) for percent in (0, 10, 25, 50, 100)]
    assert steps[0] == set()
    assert steps[-1] == set(agents)
    assert all(small < large for small, large in pairwise(steps))
    assert 80 < len(steps[2]) < 170


def test_e_stops_that_are_released_together_let_the_same_agents_go() -> None:
    agents = [Key("Agent", "default", f"a{n}") for n in range(100)]
    by_command, by_file = (
        hold(name, scope="Global", mode="Stop", released={"percent": 50}) for name in ("estop", "estop-file-1f")
    )
    let_go = [{key for key in agents if not bites(stop, [(key, {})])} for stop in (by_command, by_file)]
    assert let_go[0] == let_go[1]
    assert 30 < len(let_go[0]) < 70


def test_among_equals_a_quarantine_counts_first() -> None:
    names = {"names": ["worker"], "kinds": ["Agent"]}
    holds = [hold("a", mode="Stop"), hold("z", selector=names, mode="Stop", quarantine=True)]
    found = strictest(holds, [(AGENT, {})], NOW)
    assert found is not None
    assert (found.hold.name, found.quarantine) == ("z", True)
    assert found.hint == "quarantine by user:alice: because; release: remit release hold/z"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"scope": "Tenant", "quarantine": True, "mode": "Stop"}, "quarantine"),
        ({"selector": {"names": ["a"]}, "quarantine": True, "mode": "Stop"}, "quarantine"),
        ({"selector": {"names": ["a"], "kinds": ["Agent"]}, "quarantine": True}, "quarantine"),
        ({"selector": {"names": ["a"]}, "released": {"percent": 5}}, "released"),
        ({"scope": "Global", "released": {"percent": 101}}, "percent"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HoldSpec.model_validate({"reason": "because", **spec})
