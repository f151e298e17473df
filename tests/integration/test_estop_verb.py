"""`remit estop`, `hold`, `release` and what else tells of a stop: words, files and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import local_user
from cli.main import run
from cli.verbs import estop as verb
from schemas.mission import MissionState
from schemas.run import RunState
from tests.fakes.ports import free_port
from tests.fakes.shell import Shell, configure
from tests.fakes.world import ALICE, World, agent, executor, mission
from tests.transition.test_holds import policy


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_NAMESPACE", "REMIT_STORE", "REMIT_ESTOP_FILE", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(local_user, "name", lambda: "alice")
    monkeypatch.setattr(verb, "_PICKED_UP_S", 0.05)  # the engine of these tests works between commands only
    world = World(tmp_path)
    configure(tmp_path)
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "a.yaml": mission("a")})
    world.sync()
    yield Shell(world, capsys)
    world.close()


def estop_file(shell: Shell, tenant: str = "") -> Path:
    database = next(p for p in shell.world.folder.rglob("*.db"))
    return database.with_name(f"ESTOP.{tenant}" if tenant else "ESTOP")


def test_an_estop_says_what_it_did_and_how_to_go_on(shell: Shell) -> None:
    said = shell("estop", "--reason", "it writes to customers")
    assert "STOPPED everything: hold/estop" in said
    assert "estop release --reason WHY" in said
    shell.world.settle()
    assert shell.world.canceled == ["a-1"]
    shell.world.finish("a-1", state=RunState.CANCELED)
    assert "stands already" in shell("estop")
    assert not estop_file(shell).exists(), "one commit is enough"
    listed = shell("get", "holds")
    assert "it writes to customers" in listed
    assert "Global" in listed
    assert "Stop" in shell("get", "agents")
    for target in ("agent/worker", "mission/a"):
        told = shell("describe", target)
        assert "HELD:" in told
        assert "user:alice (e-stop, hold/estop)" in told
        assert "remit estop release --reason WHY" in told
    assert "BAD  hold/estop: e-stop by user:alice: it writes to customers" in shell("doctor", code=1)
    shell("estop", "release", code=3)
    shell("release", "estop", code=3)
    assert "hold/estop released" in shell("estop", "release", "--reason", "fixed")
    shell.world.settle()
    assert shell.world.started == ["a-1", "a-2"]
    assert "HELD:" not in shell("describe", "agent/worker")
    assert "no e-stop stands" in shell("estop", "release", "-r", "again", code=2)


def test_nobody_has_to_look_for_words_to_stop(shell: Shell) -> None:
    shell("estop")
    assert shell.world.get("Hold", "estop").spec["reason"] == "no reason was given"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("start",), "one word, release"),
        (("release", "mission/a", "-r", "x"), "write agent/NAME or tenant/NAME"),
        (("--percent", "5"), "goes with the release"),
        (("--tenant", "No Tenant", "-r", "x"), "no name of a tenant"),
        (("release", "--percent", "101", "-r", "x"), "percent"),
    ],
)
def test_what_makes_no_sense_is_refused(shell: Shell, words: tuple[str, ...], said: str) -> None:
    assert said in shell("estop", *words, code=2)
    assert shell.world.find("Hold", "estop") is None


def test_a_release_of_a_part_says_what_stays_stopped(shell: Shell) -> None:
    shell("estop", "-r", "now")
    said = shell("estop", "release", "agent/worker", "tenant/acme", "--percent", "25", "-r", "try")
    assert "released: tenant acme, agent/worker, 25 % of the agents; the rest stays stopped" in said
    shell.world.settle()
    assert shell.world.canceled == [], "its run had not been told yet"
    assert "25 % of the agents" in shell("describe", "hold/estop")
    assert "HELD:" not in shell("describe", "agent/worker")


@pytest.mark.parametrize("part", [("--percent", "0"), ("agent/wroker",)])
def test_a_part_that_is_nobody_releases_nothing(shell: Shell, part: tuple[str, ...]) -> None:
    shell("estop", "-r", "now")
    shell("estop", "release", *part, "-r", "try", code=2)
    assert "HELD:" in shell("describe", "agent/worker")
    assert "released" not in shell("get", "holds", "-o", "yaml")


def test_a_stop_is_carried_out_to_its_end_without_an_output(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(verb, "_programs", lambda project, tenant: len(told.append(tenant) or told))
    with monkeypatch.context() as closed:
        closed.setattr("sys.stdout", None)
        closed.setattr("sys.stderr", None)
        ended = run(["-C", str(shell.world.folder), "estop", "-r", "now"], now=shell.world.clock)
        assert sys.stdout is not None
        sys.stdout.close()
        sys.stderr.close()
    assert (ended, told) == (0, [""])


def test_a_tenant_is_stopped_and_released_alone(shell: Shell) -> None:
    assert "STOPPED tenant default" in shell("estop", "--tenant", "default", "-r", "theirs")
    shell.world.settle()
    assert shell.world.canceled == ["a-1"]
    assert "no e-stop stands" in shell("estop", "release", "-r", "x", code=2)
    shell("estop", "release", "--tenant", "default", "-r", "fixed")
    shell("estop", "-r", "all of it")
    said = shell("estop", "release", "--tenant", "default", "-r", "x", code=2)
    assert "estop release tenant/default --reason WHY" in said


def test_with_a_quorum_the_second_person_ends_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.world.commit({"policy.yaml": policy(2)})
    shell.world.sync()
    shell("estop", "-r", "now")
    estop_file(shell).touch()
    said = shell("estop", "release", "-r", "fixed", code=3)
    assert "1 more person(s)" in said
    assert "user:alice" in shell("describe", "hold/estop")
    assert estop_file(shell).exists(), "the file goes with the release, not with the wish"
    monkeypatch.setattr(local_user, "name", lambda: "bob")
    assert "released" in shell("estop", "release", "-r", "I saw it")
    assert not estop_file(shell).exists()
    shell.world.settle()
    assert [r.kind for r in shell.world.everything() if r.kind == "Hold"] == []


def test_a_store_that_does_not_answer_is_left_aside_for_the_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(verb, "_LATE_S", 0.1)
    with shell.world.store.transaction(ALICE):
        out, err = shell.apart("estop", "--reason", "now")
    assert out == ""
    assert "STOPPED everything by file" in err
    assert "user:alice" in estop_file(shell).read_text()
    assert "BAD  ESTOP" in shell("doctor", code=1)
    told = shell("describe", "agent/worker")
    assert "HELD:" in told


def test_where_the_store_was_only_slow_the_file_is_taken_away_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(verb, "_LATE_S", 30.0)
    _, err = shell.apart("estop", "--reason", "now")
    assert "STOPPED everything by file" in err
    assert "the store took it after all, as hold/estop" in err
    assert not estop_file(shell).exists()
    assert shell.world.get("Hold", "estop").spec["reason"] == "now"


def test_a_store_that_is_gone_is_left_aside_too(shell: Shell) -> None:
    for path in estop_file(shell).parent.glob("*.db*"):
        path.unlink()
    _, err = shell.apart("estop", "--tenant", "acme", "--reason", "now")
    assert "there is no store" in err
    assert "STOPPED tenant acme by file" in err


def test_a_database_that_does_not_answer_is_left_aside_for_the_file_in_the_state_directory(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_STORE", f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    _, err = shell.apart("estop", "--reason", "now")
    assert "STOPPED everything by file" in err
    assert (shell.world.folder / ".remit" / "ESTOP").is_file()


def test_when_nothing_can_be_written_it_says_so_loudly(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = shell.world.folder / "no-folder"
    blocked.write_text("")
    monkeypatch.setenv("REMIT_ESTOP_FILE", "no-folder/sub/ESTOP")
    monkeypatch.setenv("REMIT_STORE", f"sqlite:///{shell.world.folder}/none.db")
    said = shell("estop", "--reason", "now", code=2)
    assert "NOT STOPPED" in said


def test_a_verb_on_a_held_object_is_recorded_and_exits_3(shell: Shell) -> None:
    shell.world.finish("a-1")
    shell("hold", "agent/worker", "-r", "look first", "--name", "look")
    shell.world.settle()
    said = shell("retry", "a", code=3)
    assert "recorded, but mission/a is held: Hold by user:alice: look first; release:" in said
    shell.world.sync()
    assert shell.world.state("a") is MissionState.ASSIGNED
    shell.world.commit({"b.yaml": mission("b", agent=None)})
    shell.world.sync()
    assert "recorded, but agent/worker is held" in shell("assign", "b", "worker", code=3)
    shell.world.sync()
    assert shell.world.get("Mission", "b").spec["agentRef"] == {"name": "worker"}
    assert shell.world.started == ["a-1"]
    shell("release", "look")
    shell.world.settle()
    assert "a-2" in shell.world.started


def test_a_quarantine_by_command(shell: Shell) -> None:
    said = shell("hold", "agent/worker", "--quarantine", "-r", "it asked for keys", "--name", "q")
    assert "release: remit release hold/q" in said
    shell.world.settle()
    assert shell.world.get("Run", "a-1").status["tokenRevokedAt"]
    assert "quarantine, hold/q" in shell("describe", "agent/worker")
    assert "quarantine" in shell("hold", "mission/a", "--quarantine", "-r", "x", code=2)
