"""What shells complete, and that they never see an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes import forking
from tests.fakes.engine_process import SLOW
from tests.fakes.shell import configure
from tests.fakes.world import World, agent, executor, mission


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    world = World(folder)
    configure(folder)
    files = {"fleet.yaml": executor() + "---\n" + agent(), "a.yaml": mission("a", review="Human")}
    files["b.yaml"] = mission("b", agent=None).replace("name: b}", "name: b, namespace: docs}")
    world.commit(files)
    world.sync()
    world.finish("a-1")
    world.close()
    return folder


def ask(folder: Path, line: str) -> tuple[list[str], str, int]:
    """(words, standard error, exit code) of bash asking to complete the last word of a line."""
    words = line.split(" ")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("REMIT_")},
        "_REMIT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code, out, err = forking.run([], environment, folder, seconds=SLOW)
    return out.split(), err, code


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("remit des", ["describe"]),
        ("remit get miss", ["missions"]),
        ("remit get agents,miss", ["agents,missions"]),
        ("remit get missions ", ["a"]),
        ("remit get mission/", ["mission/a"]),
        ("remit get missions -n docs ", ["b"]),
        ("remit get missions -n d", ["default", "docs"]),
        ("remit get missions -o y", ["yaml"]),
        ("remit describe mission/", ["mission/a"]),
        ("remit describe agent", ["agent/worker"]),
        ("remit cancel ", ["a"]),
        ("remit assign a ", ["worker"]),
        ("remit approve mission", ["mission/a"]),
        ("remit explain mission.spec.ret", ["mission.spec.retry"]),
        ("remit explain agen", ["agent"]),
        ("remit events -t Synced,SyncF", ["Synced,SyncFailed"]),
        ("remit wait mission/a --for delete", ["delete"]),
        ("remit hold agent/w", ["agent/worker"]),
        ("remit diff -o mark", ["markdown"]),
    ],
)
def test_a_shell_is_offered(project: Path, line: str, wanted: list[str]) -> None:
    assert ask(project, line) == (wanted, "", 0)


@pytest.mark.parametrize(
    "line",
    [
        "remit get missions ",
        "remit get nonsense ",
        "remit explain mission.nonsense.",
        "remit get 'missions ",
        "remit -C /nowhere get missions ",
        "remit describe \x1b[31m/",
    ],
)
@pytest.mark.parametrize("state", ["no project", "broken configuration", "no store", "broken store"])
def test_where_nothing_can_be_offered_a_shell_sees_no_error(tmp_path: Path, line: str, state: str) -> None:
    if state == "broken configuration":
        (tmp_path / "remit.yaml").write_text("source: [\n")
    elif state != "no project":
        (tmp_path / "remit.yaml").write_text("store: sqlite:///state.db\n")
    if state == "broken store":
        (tmp_path / "state.db").write_bytes(b"no database" * 100)
    before = sorted(tmp_path.iterdir())
    words, said, code = ask(tmp_path, line)
    assert (words, said, code) == ([], "", 0)
    assert sorted(tmp_path.iterdir()) == before


def test_completing_names_writes_nothing(project: Path) -> None:
    before = {p.name: p.read_bytes() for p in project.glob("*.db")}
    assert ask(project, "remit get missions ")[0] == ["a"]
    assert {p.name: p.read_bytes() for p in project.glob("*.db")} == before
