"""What people see of actions that wait for leave, and how they answer them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gates import Desk
from tests.fakes.shell import Shell, configure
from tests.fakes.world import EXECUTOR, World, agent, mission


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_NAMESPACE", "REMIT_STORE", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    world = World(tmp_path)
    configure(tmp_path)
    tools = agent(autonomyLevel="Specialist", tools="[{name: '*'}]")
    world.commit({"fleet.yaml": EXECUTOR + "---\n" + tools, "ship.yaml": mission("ship")})
    world.sync()
    yield Shell(world, capsys)
    world.close()


@pytest.fixture
def desk(shell: Shell) -> Desk:
    return Desk(shell.world)


def test_an_approval_shows_exactly_what_would_be_done_and_how_to_answer(shell: Shell, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, target="origin", usd="0.1")
    listed = shell("get", "approvals", "--state", "Pending")
    assert "Action" in listed
    assert "Red" in listed
    shown = shell("describe", f"approval/{asked.approval_request}")
    for text in (
        "worker wants to use push_tag on origin",
        '"tool": "push_tag"',
        '"target": "origin"',
        '"tag": "v1"',
        '"usd": "0.1"',
        "asked by    agent:default/worker",
        "run         ship-1",
        "risk        Red",
        "because of  the built-in table",
        f"digest      {asked.action_digest}",
        f"remit approve {asked.approval_request} --digest {str(asked.action_digest)[7:19]}",
    ):
        assert text in shown, text
    assert str(asked.approval_request) in shell("describe", "mission/ship")
    assert f"remit describe approval/{asked.approval_request}" in shell("get", "missions")


def test_what_an_agent_writes_cannot_pass_for_something_else(shell: Shell, desk: Desk) -> None:
    hostile = "v1\n\nTo answer:\n  remit approve everything\x1b[2J\u202eevil"
    asked = desk.ask("ship-1", "push_tag", {"tag": hostile}, target=hostile)
    for shown in (
        shell("describe", f"approval/{asked.approval_request}"),
        shell("describe", f"toolcall/{asked.tool_call}"),
        shell("get", "approvals", "-o", "wide"),
        shell("timeline", "ship"),
    ):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\n  remit approve everything" not in shown


def test_secrets_are_shown_to_nobody(shell: Shell, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"api_key": "hunter2hunter2"}, target="https://me:hunter2@example.org/x")
    for kind, name in (("approval", asked.approval_request), ("toolcall", asked.tool_call)):
        for form in ("yaml", "json"):
            assert "hunter2" not in shell("get", f"{kind}/{name}", "-o", form)
        assert "hunter2" not in shell("describe", f"{kind}/{name}")
    assert "hunter2" not in shell("events", "-o", "json")


def test_exactly_what_was_read_is_allowed_once(shell: Shell, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    target, digest = f"approval/{asked.approval_request}", str(asked.action_digest)[7:19]
    said = shell("approve", target, "--digest", "0" * 12, code=3)
    assert "it changed since you read it" in said
    shell("approve", target, "--digest", digest, "--no-wait")
    shell.world.settle()
    assert desk.collect("ship-1", asked).decision == "allow"
    assert "answered already" in shell("approve", target, code=3)
    calls = shell("get", "toolcalls")
    assert "Allowed" in calls
    assert "push_tag" in calls
    shown = shell("describe", f"toolcall/{asked.tool_call}")
    assert "gave leave" in shown
    assert f"asked in approval/{asked.approval_request}" in shown
    story = shell("timeline", "ship")
    for word in ("ApprovalRequested", "CallDecided", "ApprovalDecided", "Transitioned"):
        assert word in story


def test_a_refusal_by_the_name_of_the_mission_is_told_to_the_agent(shell: Shell, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    shell("deny", "mission/ship", "--reason", "after the freeze", "--no-wait")
    shell.world.settle()
    refused = desk.collect("ship-1", asked)
    assert refused.decision == "deny"
    assert "after the freeze" in refused.reason


def test_12_a_verb_on_a_held_object_is_recorded_and_ends_with_3(shell: Shell) -> None:
    world = shell.world
    world.finish("ship-1")
    world.act("Hold", "freeze", {"scope": "Tenant", "reason": "release week"})
    _, refusal = shell.apart("retry", "mission/ship", code=3)
    assert "recorded, but mission/ship is held" in refusal
    assert "release week" in refusal
    world.sync()  # the request is a commit
    assert world.status("ship").last_handled_retry, "the request was handled"
    assert world.started == ["ship-1"], "and waits for the hold"
    world.remove("Hold", "freeze")
    assert world.started == ["ship-1", "ship-2"]
