"""How tightly an agent is held follows from what its runs showed, and from nothing that anybody says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.enforcement import KEPT, judge, level_of, remembered, sandbox_of
from schemas.agent import Enforcement, RunEvidence
from schemas.passage import CallChannel, Passage

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OURS = "default/coder@3"
PLACED = Passage(channel=CallChannel.HOOK, placed=True)
OWN = Passage(channel=CallChannel.CLIENT)
LEVELS = list(Enforcement)


def shown(run: str = "r-1", *passages: Passage, age_days: float = 1, **more: object) -> RunEvidence:
    fields = {"executor": OURS, "at": NOW - timedelta(days=age_days), **more}
    return RunEvidence.model_validate({"run": run, "passages": passages, **fields})


def level(*evidence: RunEvidence) -> Enforcement:
    return judge(evidence, OURS, NOW).level


@pytest.mark.parametrize("channel", CallChannel)
def test_what_an_agent_asks_by_itself_is_advice_whatever_it_calls_itself(channel: CallChannel) -> None:
    assert level(shown("r", Passage(channel=channel))) is Enforcement.ADVISED


def test_a_place_that_the_engine_put_there_makes_it_gated_and_a_sandbox_contained() -> None:
    assert level(shown("r", PLACED)) is Enforcement.GATED
    assert level(shown("r", PLACED, sandbox="bwrap")) is Enforcement.CONTAINED
    assert level(shown("r", OWN, sandbox="bwrap")) is Enforcement.ADVISED, "a sandbox without a gate contains nobody"


def test_one_call_that_went_around_takes_it_back() -> None:
    assert level(shown("r", PLACED, unasked=1)) is Enforcement.ADVISED
    assert level(shown("r", PLACED, OWN)) is Enforcement.ADVISED
    assert level(shown("r", unasked=3)) is Enforcement.OBSERVED


def test_the_weakest_run_counts_and_the_message_names_it() -> None:
    found = judge([shown("good", PLACED), shown("bad", unasked=2), shown("mid", OWN)], OURS, NOW)
    assert found.level is Enforcement.OBSERVED
    assert "run bad reported 2 calls" in found.message


def test_nothing_is_shown_by_no_runs_by_old_ones_or_by_those_of_another_executor() -> None:
    assert level() is Enforcement.OBSERVED
    assert level(shown("r", PLACED, age_days=30)) is Enforcement.OBSERVED
    assert level(shown("r", PLACED, executor="default/coder@2")) is Enforcement.OBSERVED
    assert level(shown("old", unasked=5, age_days=31), shown("new", PLACED)) is Enforcement.GATED


def test_the_level_is_looked_at_again_when_its_oldest_run_fades() -> None:
    found = judge([shown("a", PLACED, age_days=2), shown("b", OWN, age_days=29)], OURS, NOW)
    assert found.until == NOW + timedelta(days=1)
    assert judge([shown("a", PLACED, age_days=2), shown("b", OWN, age_days=29)], OURS, found.until).level is (
        Enforcement.GATED
    )
    assert judge([], OURS, NOW).until is None


def test_only_the_latest_runs_are_kept_each_once() -> None:
    kept: tuple[RunEvidence, ...] = ()
    for number in range(KEPT + 5):
        kept = remembered(kept, shown(f"r-{number}", PLACED))
        kept = remembered(kept, shown(f"r-{number}", PLACED))
    assert [e.run for e in kept] == [f"r-{number}" for number in range(KEPT + 4, 4, -1)]


passages = st.lists(st.builds(Passage, channel=st.sampled_from(CallChannel), placed=st.booleans()), max_size=3)
runs = st.lists(
    st.builds(
        lambda number, way, unasked, sandbox: shown(f"r-{number}", *way, unasked=unasked, sandbox=sandbox),
        st.integers(0, 99), passages, st.integers(0, 2), st.sampled_from(("", "bwrap")),
    ),
    max_size=KEPT - 1,
)  # fmt: skip


@given(runs, st.lists(passages, min_size=1, max_size=1))
def test_more_evidence_never_shows_a_tighter_hold_but_from_none(
    found: list[RunEvidence], more: list[list[Passage]]
) -> None:
    before, new = level(*found), shown("new", *more[0])
    after = level(*found, new)
    assert LEVELS.index(after) <= LEVELS.index(level_of(new))
    if found:
        assert LEVELS.index(after) <= LEVELS.index(before)
    if after in (Enforcement.GATED, Enforcement.CONTAINED):
        assert all(p.placed for e in (*found, new) for p in e.passages)


@pytest.mark.parametrize(
    ("argv", "sandbox"),
    [
        (["bwrap", "--ro-bind", "/", "/", "--bind", "/w", "/w", "claude"], "bwrap"),
        (["/usr/bin/bwrap", "--bind", "/", "/", "claude"], ""),
        (["bwrap", "--dev-bind", "/", "/", "claude"], ""),
        (["docker", "run", "--rm", "-v", "/w:/w", "image", "claude"], "docker"),
        (["podman", "container", "run", "image"], "podman"),
        (["docker", "exec", "x", "claude"], ""),
        (["docker", "run", "--privileged", "image"], ""),
        (["docker", "run", "--pid", "host", "image"], ""),
        (["docker", "run", "--pid=host", "image"], ""),
        (["docker", "run", "--cap-add", "SYS_ADMIN", "image"], ""),
        (["docker", "run", "--security-opt", "seccomp=unconfined", "image"], ""),
        (["docker", "run", "-v", "/:/host", "image"], ""),
        (["docker", "run", "--mount", "type=bind,source=/,target=/host", "image"], ""),
        (["docker", "run", "-v", "/var/run/docker.sock:/s", "image"], ""),
        (["claude", "-p", "bwrap"], ""),
        ([], ""),
    ],
    ids=str,
)
def test_a_sandbox_is_what_the_engine_starts_without_a_hole_in_it(argv: list[str], sandbox: str) -> None:
    assert sandbox_of(argv) == sandbox
