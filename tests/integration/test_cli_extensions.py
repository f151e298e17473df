"""Granting more than a limit by command: an amount, a time, and what the question looks like before and after."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.quantities import format_time
from store import maintenance
from tests.fakes.shell import Shell, configure
from tests.fakes.world import World
from tests.transition.test_extensions import granted, over


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    world = World(tmp_path)
    over(world)
    configure(tmp_path)
    yield Shell(world, capsys)
    world.close()


def test_an_amount_is_granted_for_a_time_and_shown(shell: Shell) -> None:
    world, name = shell.world, str(shell.world.status("m1").review_request)
    assert "--amount 1 --until 2h" in shell("describe", f"approval/{name}")
    for wrong in (["--amount", "x"], ["--amount", "1", "--amount", "2"], ["--until", "soon"], ["--beyond"]):
        assert "error: " in shell("approve", "mission/m1", *wrong, "--no-wait", code=2)
    shell("approve", "mission/m1", "--amount", "0.20", "--until", "2h", "--no-wait")
    until = format_time(world.now + timedelta(hours=2))
    world.settle()
    assert world.started == ["m0-1", "m1-1"]
    assert f"granted 0.2 USD until {until}" in shell("describe", f"approval/{name}")
    world.advance(2 * 3600)
    assert granted(world) == "0"
    assert "which is over" in shell("describe", f"approval/{name}")
    world.store.close()
    assert maintenance.check(world.harness.url).problems == ()


def test_an_amount_for_what_asks_for_none_is_refused(shell: Shell) -> None:
    from tests.fakes.world import mission

    shell.world.commit({"r.yaml": mission("r", review="Human", type="Docs", agent=None)})
    shell.world.sync()
    assert "waits for no answer" in shell("approve", "mission/r", "--amount", "1", code=3)
