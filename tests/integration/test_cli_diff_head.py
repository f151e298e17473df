"""``remit diff --head`` and ``--base`` with commits as people name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.shell import Shell, configure
from tests.fakes.world import World, agent, executor, mission


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("REMIT_NAMESPACE", raising=False)
    world = World(tmp_path)
    configure(tmp_path)
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "a.yaml": mission("a", priority=10)})
    world.commit({"a.yaml": mission("a", priority=20)})
    world.sync()
    yield Shell(world, capsys)
    world.close()


def test_a_commit_before_this_one_is_planned_against_the_store(shell: Shell) -> None:
    assert "20" in shell("diff", "--head", "HEAD~1", code=1)
    assert "20" in shell("diff", "--head", "main^", code=1)
    shell("diff", "--head", "HEAD~0")
    shell("diff", "--head", "main")


def test_commits_are_compared_offline(shell: Shell) -> None:
    repository = str(shell.world.repo.path)
    assert "priority" in shell("diff", repository, "--base", "HEAD~1", "--head", "HEAD", code=1)
    shell("diff", repository, "--base", f"{shell.world.repo.head[:9]}~0", "--head", "main")


@pytest.mark.parametrize("name", ["HEAD~9", "gone~1", "--help~1", "HEAD~1;x", "HEAD^{tree}", "~1"])
def test_what_is_no_commit_is_said_so(shell: Shell, name: str) -> None:
    out, err = shell.apart("diff", f"--head={name}", code=2)
    assert out == ""
    assert "Traceback" not in err
    assert "no commit" in err or "no branch" in err
