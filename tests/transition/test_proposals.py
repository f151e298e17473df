"""What an agent proposes: a branch and a question; a merge by a person answers it."""

from __future__ import annotations

import pytest

from schemas.approval_request import RequestState
from schemas.errors import InvalidSpec, OverLimit, Refused
from tests.fakes.proposals import ALLOW, BUDGET, Proposing
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.asyncio


@pytest.fixture
def desk(world: World) -> Proposing:
    world.commit(
        {
            "fleet/agents.yaml": "---\n".join(
                [executor(), agent(proposals=ALLOW, autonomyLevel="Specialist"), mission("audit")]
            ),
            "fleet/budget.yaml": BUDGET,
        }
    )
    world.sync()
    assert world.started == ["audit-1"]
    return Proposing(world)


async def test_a_proposal_becomes_a_branch_with_one_changed_line_and_a_question(desk: Proposing) -> None:
    world = desk.world
    before = world.repo.git("status", "--porcelain", "--branch")
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8}, reason="The links are many.")
    assert made.state is RequestState.PENDING
    assert made.changes == ("spec.limits.usd: 5 -> 8",)
    assert await desk.rest() == 1
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    assert made.commit == world.repo.git("rev-parse", made.branch).strip()
    diff = world.repo.git("diff", "-U0", "main", made.branch)
    assert [row for row in diff.splitlines() if row[:1] in "+-" and row[:3] not in ("+++", "---")] == [
        "-  limits: {usd: 5}   # a person's word",
        "+  limits: {usd: 8}   # a person's word",
    ]
    assert world.repo.git("status", "--porcelain", "--branch") == before
    assert "> The links are many." in world.repo.git("log", "-1", "--format=%B", made.branch)
    request = desk.request(made)
    assert request.spec["type"] == "Change"
    assert request.spec["action"]["widens"]
    assert any("5" in text for text in made.effects)


async def test_a_merge_approves_it_and_the_branch_goes(desk: Proposing) -> None:
    world = desk.world
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    await desk.rest()
    world.repo.git("merge", "-q", "--no-ff", "-m", "Take it", made.branch)
    await desk.look()
    request = desk.request(made)
    assert (request.state, request.status["decidedVia"]) == ("Approved", "Git")
    assert request.status["proposal"]["closed"]
    assert world.repo.git("branch", "--list", made.branch) == ""
    assert str(world.get("Budget", "worker-day").spec["limits"]["usd"]) == "8"


async def test_a_field_outside_the_allowlist_is_refused_with_what_is_allowed(desk: Proposing) -> None:
    with pytest.raises(Refused, match=r"may not propose spec\.window") as refused:
        desk.propose("audit-1", "Budget", "worker-day", edits={"spec.window": "Month"})
    assert "Budget worker-*: spec.limits.usd, spec.limits.tokens" in refused.value.allowed  # type: ignore[attr-defined]


async def test_what_does_not_compile_is_refused_with_its_place(desk: Proposing) -> None:
    with pytest.raises(InvalidSpec) as invalid:
        desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": "much"})
    assert str(invalid.value).startswith("fleet/budget.yaml:8:")


async def test_a_removed_branch_denies(desk: Proposing) -> None:
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    await desk.rest()
    desk.world.repo.git("branch", "-D", made.branch)
    await desk.look()
    assert desk.request(made).state == "Denied"


async def test_too_many_open_proposals_are_refused(desk: Proposing) -> None:
    for usd in (6, 7):
        desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": usd})
    with pytest.raises(OverLimit, match="at most 2"):
        desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
