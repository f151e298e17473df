"""``remit policy explain``, ``test`` and ``replay``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.resource import digest
from tests.fakes.shell import Shell, configure
from tests.fakes.world import World, agent, executor, mission

POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house-rules}
spec:
  risk: {render: Green}
  allowlists: {shell: ["git status", ls]}
  rules:
    - name: no-force-push
      match: {tools: [git_push], when: "has(args.force) && args.force == true"}
      verdict: Deny
      reason: History is shared.
"""
CASES = """\
cases:
  - name: looking is free
    agent: worker
    call: {tool: shell_exec, args: {command: git status}}
    expect: Allow
  - name: force is denied
    agentLike: {autonomyLevel: Lead, tools: ["*"]}
    call: {tool: git_push, args: {force: true}}
    spend: {today: 3}
    mission: {type: Engineering}
    expect: Deny
    rule: no-force-push
"""
TOOLS = [{"name": name} for name in ("shell_exec", "git_push", "render")]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("REMIT_NAMESPACE", raising=False)
    world = World(tmp_path)
    configure(tmp_path)
    world.commit(
        {
            "fleet.yaml": executor() + "---\n" + agent(tools=TOOLS, autonomyLevel="Specialist"),
            "house-rules.yaml": POLICY,
            "a.yaml": mission("a", agent=None),
        }
    )
    world.sync()
    yield Shell(world, capsys)
    world.close()


def cases(shell: Shell, text: str) -> Path:
    path = shell.world.repo.path / "house-rules.policytest"
    path.write_text(text)
    return path


def test_cases_that_hold(shell: Shell) -> None:
    cases(shell, CASES)
    specs = str(shell.world.repo.path)
    assert shell("policy", "test", "--specs", specs) == "2 cases hold\n"
    assert shell("policy", "test", "--specs", specs, "-o", "markdown") == "**2 cases hold**\n"
    assert json.loads(shell("policy", "test", "--specs", specs, "-o", "json")) == {"cases": 2, "failed": []}


def test_a_case_that_does_not_hold_says_where_and_why(shell: Shell) -> None:
    path = cases(shell, CASES.replace("expect: Allow", "expect: Deny\n    risk: Green"))
    specs = str(shell.world.repo.path)
    out = shell("policy", "test", str(path), "--specs", specs, code=1)
    assert f"FAIL  looking is free  ({path}:2)" in out
    assert "expected Deny, and it is Allow" in out
    assert "expected risk Green, and it is Yellow" in out
    assert "1 of 2 cases failed" in out
    (failed,) = json.loads(shell("policy", "test", "--specs", specs, "-o", "json", code=1))["failed"]
    assert (failed["verdict"], failed["place"]) == ("Allow", f"{path}:2")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("cases: []\n", 1, "cases"),
        ("cases:\n  - {name: a, agent: worker, call: {tool: x}, expect: Maybe}\n", 2, "expect"),
        ("cases:\n  - {name: a, agent: worker, call: {tool: x, argz: {}}, expect: Deny}\n", 2, "argz"),
        ("cases:\n  - {name: a, call: {tool: x}, expect: Deny}\n", 2, "agentLike"),
        ("cases:\n  - {name: a, agent: b, agentLike: {}, call: {tool: x}, expect: Deny}\n", 2, "agentLike"),
        ("cases: [\n", 1, ""),
    ],
)
def test_a_wrong_case_is_refused_with_its_place(shell: Shell, text: str, line: int, words: str) -> None:
    path = cases(shell, text)
    _, err = shell.apart("policy", "test", str(path), "--specs", str(shell.world.repo.path), code=2)
    assert f"{path}:{line}:" in err or f"{path}:{line + 1}:" in err
    assert words in err


def test_an_agent_that_nobody_declared_is_no_case_that_holds(shell: Shell) -> None:
    cases(shell, CASES.replace("agent: worker", "agent: walker"))
    out = shell("policy", "test", "--specs", str(shell.world.repo.path), code=1)
    assert "no agent default/walker is declared; there are: agent/worker" in out


def test_no_cases_is_an_error(shell: Shell) -> None:
    _, err = shell.apart("policy", "test", "--specs", str(shell.world.repo.path), code=2)
    assert "ends with .policytest" in err


def test_cases_are_no_manifests(shell: Shell) -> None:
    cases(shell, CASES)
    shell.world.commit({})
    shell.world.sync()
    assert shell("validate", str(shell.world.repo.path)) == "4 objects valid\n"


def test_a_ruling_is_explained(shell: Shell) -> None:
    specs = str(shell.world.repo.path)
    out = shell("policy", "explain", "worker", "git_push", "--args", '{"force": true}', "--specs", specs)
    assert "Deny: rule no-force-push of policy/house-rules matches: History is shared." in out
    assert "house-rules.yaml" in out
    assert "Allow" in shell("policy", "explain", "worker", "render", "--live")
    hostile = shell("policy", "explain", "worker", "render", "--args", '{"path": "\\u001b[31m\\u202e"}', "--live")
    assert "\x1b" not in hostile
    for wrong in ("{", "[]"):
        shell.apart("policy", "explain", "worker", "render", "--args", wrong, "--live", code=2)
    _, err = shell.apart("policy", "explain", "walker", "render", "--live", code=2)
    assert "no agent walker" in err


def call(shell: Shell, number: int, tool: str, **args: Any) -> None:
    """A call as the gate records it."""
    spec = {
        "runRef": {"name": "a-1"}, "missionRef": {"name": "a"}, "agentRef": {"name": "worker"}, "tool": tool,
        "args": args, "argsDigest": digest(args), "target": "", "idempotencyKey": f"k{number}",
    }  # fmt: skip
    shell.world.act("ToolCall", f"c{number}", spec)


def test_recorded_calls_are_held_against_proposed_specs(shell: Shell) -> None:
    for number in range(14):
        call(shell, number, "render", page=number)
    call(shell, 20, "git_push", force=True)
    call(shell, 21, "shell_exec", command="git status")
    call(shell, 22, "shell_exec", command="ls")
    specs = str(shell.world.repo.path)
    assert "17 calls of the last 7d: none would be decided otherwise" in shell("policy", "replay", "--specs", specs)
    (shell.world.repo.path / "house-rules.yaml").write_text(
        POLICY.replace("render: Green", "render: Red").replace("[git_push]", "[git_push, shell_exec]")
        .replace("has(args.force) && args.force == true", "!has(args.page)").replace('"git status", ls', '"git status"')
    )  # fmt: skip
    out = shell("policy", "replay", "--specs", specs, code=1)
    assert "17 calls of the last 7d: 14 would now need approval, 2 would now be denied" in out
    rows = json.loads(shell("policy", "replay", "--specs", specs, "-o", "json", code=1))["changes"]
    assert [(r["tool"], r["before"], r["after"], r["calls"]) for r in rows] == [
        ("render", "Allow", "RequireApproval", 14),
        ("shell_exec", "Allow", "Deny", 2),
    ]
    assert "| 14 | `agent/worker` | `render` |" in shell("policy", "replay", "--specs", specs, "-o", "markdown", code=1)
    assert "17 calls" in shell("policy", "replay", "--since", "1h", "--specs", specs, code=1)
    shell.world.advance(7200)
    assert "0 calls" in shell("policy", "replay", "--since", "1h", "--specs", specs)


def test_a_commit_is_replayed_and_a_missing_agent_is_told(shell: Shell) -> None:
    call(shell, 1, "render")
    before = shell.world.repo.head
    head = shell.world.commit({"fleet.yaml": executor()})
    specs = str(shell.world.repo.path)
    assert "1 are of agents that are declared no more" in shell(
        "policy", "replay", "--specs", specs, "--head", head, code=1
    )
    assert "none would" in shell("policy", "replay", "--specs", specs, "--head", before)
    assert "none would" in shell("policy", "replay", "--specs", specs, "--head", f"{head[:10]}~1")
    _, err = shell.apart("policy", "replay", "--specs", specs, "--head", "HEAD~900", code=2)
    assert "history ends before it" in err


def test_specs_that_do_not_compile_are_refused(shell: Shell) -> None:
    (shell.world.repo.path / "house-rules.yaml").write_text(POLICY.replace("Deny", "Denied"))
    _, err = shell.apart("policy", "replay", "--specs", str(shell.world.repo.path), code=2)
    assert "house-rules.yaml:10:" in err
