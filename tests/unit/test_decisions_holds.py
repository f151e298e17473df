"""Which Hold counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from decisions.holds import HoldFacts, matches, strictest
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
