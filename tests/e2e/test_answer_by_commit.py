"""Answers as signed commits under a running engine: whose they are, what an unsigned one is worth, and what is left
when command or engine are killed on the way."""

from __future__ import annotations

import random
import subprocess
import sys

from schemas.resource import Resource
from tests.e2e.fleet import PROGRAMS, agent, executor, mission, together
from tests.fakes.engine_process import Project, pause, until
from tests.fakes.signing import Signer, allowed, commit, needs_ssh, sign_with, ssh_signer

pytestmark = needs_ssh
KILLS = 6


def fleet(project: Project) -> dict[str, str]:
    ship = mission("ship", "shipper", project.effects).replace('"seconds": 0', '"acts": 1')
    return {
        "fleet.yaml": together(
            executor("gated", [sys.executable, "-P", str(PROGRAMS / "gated.py")], output="Remit"),
            agent("shipper", "gated", autonomyLevel="Specialist", tools=[{"name": "push_tag"}]),
            ship,
        )
    }


def start(project: Project) -> tuple[Signer, Signer]:
    """Ada signs the specs, and an agent asks. The keys of ada and bob."""
    keys = project.folder / "keys"
    keys.mkdir()
    ada, bob = ssh_signer(keys, "ada"), ssh_signer(keys, "bob")
    signers = project.folder / "allowed_signers"
    signers.write_text(allowed(("ada", ada), ("bob", bob)))
    config = project.root / "remit.yaml"
    config.write_text(
        config.read_text().replace("interval: 60s", f"interval: 60s, verify: {{allowedSigners: {signers}}}")
    )
    commit(project.repo, fleet(project), ada)
    project.engine()
    until(lambda: asked(project), "the agent to ask")
    return ada, bob


def asked(project: Project) -> list[Resource]:
    return [r for r in project.objects("ApprovalRequest") if r.spec["type"] == "Action"]


def test_a_signed_commit_lets_the_action_through_as_its_signers(project: Project) -> None:
    _, bob = start(project)
    sign_with(project.repo, bob)
    (request,) = asked(project)
    digest = request.spec["actionDigest"][7:19]
    said = project.good("approve", f"approval/{request.name}", "--digest", digest, "--via", "git", "--reason", "go")
    assert "counted" in said
    project.comes_to("ship", "Done")
    (given,) = project.get("ApprovalRequest", request.name).status["approvals"]
    assert (given["subject"], given["transport"], given["reason"]) == ("user:bob", "Git", "go")
    assert [len(lines) for lines in project.lines().values()] == [1]
    project.good("audit", "verify")


def test_an_unsigned_answer_has_no_effect_and_says_so(project: Project) -> None:
    ada, bob = start(project)
    (request,) = asked(project)
    sign_with(project.repo, bob)
    project.good("approve", f"approval/{request.name}", "--via", "git", "--push", "topic")
    name = f"{request.name}-approve"
    text = project.repo.git("show", f"topic:approvals/{name}.yaml")
    sign_with(project.repo, None)
    commit(project.repo, {"answer.yaml": text}, None, author="bob <bob@example.org>")
    commit(project.repo, {"notes.txt": "on top\n"}, ada)
    until(lambda: project.find("ApprovalDecision", name), "the file to be taken in")
    until(lambda: project.get("ApprovalDecision", name).status.get("conditions"), "the answer to be judged")
    (condition,) = project.get("ApprovalDecision", name).status["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "IdentityUnproven")
    assert project.state("ship") == "NeedsApproval"
    assert project.lines() == {}


def test_a_command_that_is_killed_over_and_over_gives_one_leave_or_none(project: Project) -> None:
    _, bob = start(project)
    sign_with(project.repo, bob)
    (request,) = asked(project)
    chance = random.Random(20261121)
    words = ("approve", f"approval/{request.name}", "--via", "git", "--no-wait")
    for number in range(KILLS):
        made = project.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pause(chance.uniform(0.0, 0.6))
        made.kill()
        made.wait()
        if number == KILLS // 2:
            project.engines[-1].kill()
            project.engine()
    assert project.remit(*words).code in (0, 3)
    project.comes_to("ship", "Done")
    assert [len(lines) for lines in project.lines().values()] == [1]
    (used,) = asked(project)
    assert used.status["uses"] == 1
    project.ends_well()
