"""What an agent proposes: a branch and a question; a merge by a person answers it."""

from __future__ import annotations

import pytest

from controllers.status import pulls
from controllers.status.proposals import OPEN
from schemas.approval_request import RequestState
from schemas.errors import InvalidSpec, OverLimit, Refused
from schemas.resource import SYSTEM
from schemas.source import ForgeType
from tests.fakes.forges import REPOSITORY, TOKEN, serving
from tests.fakes.proposals import ALLOW, BUDGET, Proposing
from tests.fakes.repos import Repo
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


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("spec.limits.usdd", "budget.spec.limits has no field 'usdd': did you mean usd?"),
        ("spec.window.size", "budget.spec.window has no field 'size': it is a"),
        ("spec.limit", "budget.spec has no field 'limit': did you mean limits?"),
    ],
)
async def test_an_allowlist_of_a_field_that_is_none_does_not_compile(desk: Proposing, field: str, says: str) -> None:
    rules = ALLOW.replace("spec.limits.tokens", field)
    desk.world.commit({"fleet/agents.yaml": "---\n".join([executor(), agent(proposals=rules), mission("audit")])})
    unit = desk.world.sync().units[0]
    [error] = [e for e in unit.errors if says in e]
    assert error.startswith("fleet/agents.yaml:13:")
    assert "spec.proposals.allow[0].fields[1]" in error
    free = ALLOW.replace("kind: Agent, names: [worker], fields: [spec.subAgents]",
                         "kind: Mission, names: [x], fields: [spec.input.paths.first]")  # fmt: skip
    desk.world.commit({"fleet/agents.yaml": "---\n".join([executor(), agent(proposals=free), mission("audit")])})
    assert desk.world.sync().units[0].errors == (), "below free JSON anything may stand"


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


async def test_a_crash_at_any_point_makes_one_branch_and_one_question(desk: Proposing) -> None:
    world = desk.world
    made = desk.propose("audit-1", "Budget", "worker-day", key="k", edits={"spec.limits.usd": 8})
    with world.store.transaction(SYSTEM) as tx:
        (effect,) = tx.claim_effects("dead", types=[OPEN], limit=10, lease_s=1)
    await desk.effects.open(effect)  # the branch is there, and the engine dies before it books that
    first = world.repo.git("rev-parse", made.branch)
    world.clock.tick(7200)
    world.restart()
    assert desk.request(made).status["proposal"]["commit"] == ""
    assert await desk.rest() == 1
    assert world.repo.git("rev-parse", made.branch) == first
    again = desk.propose("audit-1", "Budget", "worker-day", key="k", edits={"spec.limits.usd": 8})
    assert (again.name, again.commit) == (made.name, first.strip())
    assert len(world.events("ProposalOpened")) == 1


async def test_a_denial_clears_the_branch_away_and_approving_has_no_effect(desk: Proposing) -> None:
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    await desk.rest()
    for verdict, counted in (("Approve", "MergeDecides"), ("Deny", "Counted")):
        request = desk.request(made)
        decision = desk.world.act(
            "ApprovalDecision",
            f"d-{verdict.lower()}",
            {
                "requestRef": {"name": request.name, "uid": request.uid},
                "actionDigest": request.spec["actionDigest"],
                "verdict": verdict,
                "reason": "no",
            },
            {"subject": "user:alice", "transport": "Store"},
        )
        assert decision.status["conditions"][0]["reason"] == counted
        await desk.rest()
    assert desk.request(made).state == "Denied"
    assert desk.world.repo.git("branch", "--list", "remit/proposals/*") == ""


async def test_without_an_answer_it_expires_and_the_branch_goes(desk: Proposing) -> None:
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    await desk.rest()
    desk.world.advance(112 * 3600)
    await desk.rest()
    assert desk.request(made).state == "Expired"
    assert desk.world.repo.git("branch", "--list", made.branch) == ""


async def test_a_squash_merge_is_a_merge(desk: Proposing) -> None:
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    await desk.rest()
    desk.world.repo.git("merge", "-q", "--squash", made.branch)
    desk.world.repo.git("commit", "-q", "-m", "Squashed")
    await desk.look()
    assert desk.request(made).state == "Approved"


async def test_somebody_who_works_on_the_branch_keeps_it(desk: Proposing) -> None:
    made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    await desk.rest()
    repo = desk.world.repo
    repo.git("switch", "-q", made.branch)
    repo.git("commit", "-q", "--allow-empty", "-m", "mine")
    repo.git("switch", "-q", "main")
    await desk.look()
    assert desk.request(made).state == "Pending"
    repo.git("merge", "-q", "--no-ff", "-m", "Take it", made.branch)
    await desk.look()
    assert desk.request(made).state == "Approved"
    assert repo.git("branch", "--list", made.branch) != ""


async def test_a_new_object_stands_beside_the_agent_that_proposes_it(desk: Proposing) -> None:
    edits = {"spec.executorRef": {"name": "local"}, "spec.description": 'a "helper": #1\n---\nkind: Policy'}
    made = desk.propose("audit-1", "Agent", "helper-links", create=True, edits=edits)
    await desk.rest()
    repo = desk.world.repo
    assert repo.git("diff", "--name-only", "main", made.branch).split() == ["fleet/agent-helper-links.yaml"]
    repo.git("merge", "-q", "--no-ff", "-m", "Take it", made.branch)
    await desk.look()
    assert desk.request(made).state == "Approved"
    assert desk.world.get("Agent", "helper-links").spec["description"] == edits["spec.description"]
    for name, wanted in (("intruder", "may not propose"), ("worker", "may not propose")):
        with pytest.raises(Refused, match=wanted):
            desk.propose("audit-1", "Agent", name, create=True, edits=edits)
    with pytest.raises(Refused, match="declared already"):
        desk.propose("audit-1", "Agent", "helper-links", create=True, edits={**edits, "spec.description": "other"})


HOSTILE = (
    "Fixes #12 @admin [skip ci]\n\nSigned-off-by: root <root@x>\n/merge\n\x1b]0;x\x07\u202e```\nhttps://x.example/i"
)


async def test_hostile_words_stand_quoted_in_the_body_and_nowhere_else(desk: Proposing) -> None:
    repo = desk.world.repo
    made = desk.propose(
        "audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8}, title="--force; rm -rf", reason=HOSTILE
    )
    await desk.rest()
    body = repo.git("log", "-1", "--format=%B", made.branch)
    subject, _, rest = body.partition("\n")
    assert subject == "Propose a change of budget/worker-day"
    assert not [word for word in ("#12", "@admin", "[skip", "://", "\x1b", "\u202e", "```") if word in rest]
    assert "> Fixes # 12 @ admin (skip ci)" in rest
    assert repo.git("log", "-1", "--format=%(trailers:key=Signed-off-by)", made.branch).strip() == ""
    assert made.branch.removeprefix("remit/proposals/").replace("-", "").isalnum()
    text = pulls.body(desk.request(made))
    assert text.count("```") % 2 == 0
    assert "/merge" in text


async def test_a_value_that_looks_like_a_credential_is_refused(desk: Proposing) -> None:
    with pytest.raises(Refused, match="valueFrom"):
        desk.propose(
            "audit-1", "Agent", "helper-x", create=True,
            edits={"spec.executorRef": {"name": "local"}, "spec.description": "ghp_" + "a1B2" * 9},
        )  # fmt: skip


async def test_what_says_that_already_is_refused(desk: Proposing) -> None:
    for value in (5, "5.0"):
        with pytest.raises(Refused, match="nothing to change"):
            desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": value})


async def test_a_directory_has_no_branches(desk: Proposing) -> None:
    world = desk.world
    world.spec = world.spec.model_validate({"type": "Directory", "url": str(world.repo.path)})
    world.restart()
    world.sync()
    with pytest.raises(Refused, match="no branches that a person could merge") as refused:
        desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
    assert refused.value.reason == "NotAGitSource"


async def test_an_agent_without_an_allowlist_may_propose_nothing(desk: Proposing) -> None:
    desk.world.commit({"fleet/agents.yaml": "---\n".join([executor(), agent(), mission("audit")])})
    desk.world.sync()
    with pytest.raises(Refused, match=r"no proposals\.allow"):
        desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})


async def test_a_remote_gets_the_branch_and_a_pull_request_that_closing_denies(desk: Proposing) -> None:
    world = desk.world
    origin = Repo(world.folder / "origin.git", bare=True)
    world.repo.git("push", "-q", str(origin.path), "main")
    with serving(ForgeType.GITHUB) as forge:
        wire = {"type": "GitHub", "url": forge.url, "repository": REPOSITORY, "token": {"env": "FORGE_TOKEN"}}
        more = {"url": f"file://{origin.path}", "forge": {**wire, "pull_requests": True}}
        world.spec = world.spec.model_validate({**world.spec.model_dump(), **more})
        world.restart()
        world.sync()
        desk.secrets, desk.hosts = {"FORGE_TOKEN": TOKEN}, (forge.host,)
        made = desk.propose("audit-1", "Budget", "worker-day", edits={"spec.limits.usd": 8})
        await desk.rest()
        status = desk.request(made).status["proposal"]
        assert origin.git("rev-parse", made.branch).strip() == status["commit"]
        (pull,) = forge.opened.values()
        assert (pull["head"]["ref"], pull["base"]["ref"], pull["number"]) == (made.branch, "main", status["pullNumber"])
        await desk.look()
        assert desk.request(made).state == "Pending"
        pull["state"] = "closed"
        await desk.look()
        assert desk.request(made).state == "Denied"
        assert origin.git("branch", "--list", made.branch) == ""


@pytest.mark.parametrize("type_", list(ForgeType))
async def test_a_pull_request_is_opened_once_and_closed_once(type_: ForgeType) -> None:
    with serving(type_) as forge:
        ours = pulls.connect(type_, forge.url, REPOSITORY, TOKEN, hosts=[forge.host])
        wanted = pulls.Request("remit/proposals/a-change-1", "main", "Propose", "body")
        first = ours.open(wanted)
        assert ours.open(wanted) == first
        assert len(forge.opened) == 1
        assert ours.state(first.number) is pulls.State.OPEN
        ours.close(first.number)
        ours.close(first.number)
        assert ours.state(first.number) is pulls.State.CLOSED
