"""What people see of alerts and of how things stand, and what they say of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.reconcilers import alerts
from schemas.alert import AlertType, Severity
from schemas.resource import SYSTEM
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
    world.commit({"fleet.yaml": EXECUTOR + "---\n" + agent(maxConcurrentMissions=5), "ship.yaml": mission("ship"),
                  "dock.yaml": mission("dock", review="Human")})  # fmt: skip
    world.sync()
    yield Shell(world, capsys)
    world.close()


def test_an_alert_is_acknowledged_and_resolved_by_name(shell: Shell) -> None:
    with shell.world.store.transaction(SYSTEM) as tx:
        name = alerts.raise_alert(
            tx, AlertType.LOOP_DETECTED, shell.world.get("Mission", "ship"), severity=Severity.HIGH,
            title="ship goes around\x1b[2J", message="look", details={},
        ).name  # fmt: skip
    assert "Open" in shell("get", "alerts")
    said = shell("ack", name, "--reason", "looking")
    assert f"alert/{name} acknowledged (as user:" in said
    assert "\x1b" not in said
    assert "Acknowledged" in shell("get", "alerts")
    assert "looks after it" in shell("ack", name, code=3)
    assert f"alert/{name} resolved" in shell("resolve", f"alert/{name}", "-r", "fixed")
    assert "was settled by" in shell("resolve", name, code=3)
    assert "no alert" in shell("resolve", "mission/ship", code=2)
    assert "AlertResolved" in shell("events", f"alert/{name}")


def test_the_standup_tells_how_things_stand(shell: Shell) -> None:
    shell.world.finish("ship-1")
    shell.world.finish("dock-1")
    told = shell("standup", "--since", "2h")
    assert "Standup of default: 1 done, 0 failed, 1 to answer, 0 blocked" in told
    assert "- mission/ship" in told
    assert "Waits for an answer: 1" in told
    assert "Spent: 0.00 USD" in told
    assert "Done: none" in shell("standup", "--since", "2026-11-22")
    assert "--since" in shell("standup", "--since", "often", code=2)
