"""``remit pin``: what waits is shown, and accepting it is a commit where the server is declared."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.reconcilers import tool_servers
from schemas.base import Key
from schemas.resource import SYSTEM
from tests.fakes.mcp import PROGRAM, definition, digest_of, paths
from tests.fakes.shell import Shell, configure
from tests.fakes.world import EXECUTOR, World

KEY = Key("ToolServer", "default", "tickets")
SERVER = """\
apiVersion: remit.dev/v1alpha1
kind: ToolServer
metadata: {{name: tickets}}
spec: # of everybody
  type: Stdio
  stdio:
    argv: ["{python}", "{program}", "{tools}"]
    env:
      - {{name: PYTHONPATH, value: "{paths}"}}
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_NAMESPACE", "REMIT_STORE", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    world = World(tmp_path)
    configure(tmp_path)
    where = {"python": sys.executable, "program": PROGRAM, "tools": tmp_path / "tools.json", "paths": paths()}
    world.commit({"tickets.yaml": SERVER.format(**where), "local.yaml": EXECUTOR})
    world.sync()
    yield Shell(world, capsys)
    world.close()


def see(shell: Shell, *wires: dict[str, Any]) -> None:
    """A proxy tells what the server offers, and the engine takes it in."""
    with shell.world.store.transaction(SYSTEM) as tx:
        server = tx.get(KEY)
        assert server is not None
        tool_servers.take_in(tx, server, wires, "work-1")
    shell.world.settle()


def pins(shell: Shell) -> dict[str, str]:
    """What is declared."""
    shell.world.sync()
    return {pin["tool"]: pin["digest"] for pin in shell.world.get("ToolServer", "tickets").spec["pins"]}


def test_what_waits_is_shown_and_accepted_by_a_commit(shell: Shell) -> None:
    world = shell.world
    assert "no proxy has told yet" in shell("pin", "tickets")
    assert world.reason("ToolServer", "tickets", "Pinned") == "Unknown/NotSeenYet"
    search, wipe = definition("search", "Finds\x1b[2J tickets"), definition("wipe")
    see(shell, search, wipe)
    assert world.reason("ToolServer", "tickets", "Ready") == "False/NoTools"
    assert world.reason("ToolServer", "tickets", "Pinned") == "False/ToolsQuarantined"
    shown = shell("pin", "tickets")
    assert f"search  New  {digest_of(search)}" in shown
    assert '"description": "Finds' in shown
    assert "\x1b" not in shown
    assert "2 wait, 0 accepted" in shown
    assert "tickets.yaml" in shell("pin", "tickets", "search", "--reason", "read it")
    assert pins(shell) == {"search": digest_of(search)}
    assert "# of everybody" in (world.repo.path / "tickets.yaml").read_text()
    assert "Accept tools of toolserver/tickets: search\n\nread it" in world.repo.git("log", "-1", "--format=%B")
    assert world.reason("ToolServer", "tickets", "Ready") == "True/Reconciled"
    assert "stays as it is" in shell("pin", "tickets", "search")
    changed = definition("search", "Finds and sends")
    see(shell, changed, wipe)
    assert "changed: search (description); new: wipe" in shell("describe", "toolserver/tickets")
    assert "search  Changed: description" in shell("pin", "tickets")
    (alert,) = [a for a in world.everything() if a.kind == "Alert"]
    assert (alert.state, alert.spec["type"]) == ("Open", "ToolsQuarantined")
    shell("pin", "tickets", "--all")
    assert pins(shell) == {"search": digest_of(changed), "wipe": digest_of(wipe)}
    assert world.reason("ToolServer", "tickets", "Pinned") == "True/AllPinned"
    assert world.get("Alert", alert.name).state == "Resolved"
    widened = [e.message for e in world.events("Widened")]
    assert any("pins.search: accepted" in message for message in widened)
    world.check()


def test_a_tool_that_is_not_offered_cannot_be_accepted(shell: Shell) -> None:
    see(shell, definition("search"))
    said = shell("pin", "tickets", "serch", code=2)
    assert "offers no tool 'serch'" in said
    assert "seen: search" in said
    assert "there is no toolserver 'other'" in shell("pin", "other", code=2)
    assert "is no tool server" in shell("pin", "mission/x", code=2)
    assert pins(shell) == {}


def test_the_server_itself_can_be_asked_from_here(shell: Shell) -> None:
    wire = definition("echo")
    (shell.world.folder / "tools.json").write_text(json.dumps([wire]))
    assert f"echo  New  {digest_of(wire)}" in shell("pin", "tickets", "--look")
    shell("pin", "tickets", "--look", "--all")
    accepted = pins(shell)
    assert accepted.pop("echo") == digest_of(wire)
    assert sorted(accepted) == ["prompt/greet", "resource/memo://note"]
    (shell.world.folder / "tools.json").write_text("no JSON")
    assert "answers with error" in shell("pin", "tickets", "--look", code=2)


def test_a_server_that_is_deleted_leaves_no_alert_open(shell: Shell) -> None:
    world = shell.world
    see(shell, definition("search"))
    world.commit(delete=("tickets.yaml",))
    world.sync()
    assert world.find("ToolServer", "tickets") is None
    assert [a.state for a in world.everything() if a.kind == "Alert"] == ["Resolved"]
