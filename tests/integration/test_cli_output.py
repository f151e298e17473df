"""What verbs print: forms, sorting, watching, colour; hostile text shows as escapes in every one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli import catalogue, common, failures, output
from cli.main import run
from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.verdict import Share
from schemas.mission import Spend
from schemas.resource import SYSTEM
from tests.fakes.shell import Shell, configure
from tests.fakes.world import World, agent, executor, mission

EVIL = "\x1b[31mred\x1b]0;owned\x07\nFORGED: line\r\x9b2J\u202eback\u2066\u061c\u200b\U000e0041"
RAW = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


QUOTED = '"' + "".join(f"\\U{ord(c):08x}" for c in EVIL) + '"'


def harmless(text: str) -> bool:
    return RAW.search(text) is None and not any(line.startswith("FORGED") for line in text.splitlines())


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.delenv("REMIT_NAMESPACE", raising=False)
    world = World(tmp_path)
    configure(tmp_path)
    world.commit(
        {
            "fleet.yaml": executor() + "---\n" + agent(),
            "a.yaml": mission("a", review="Human", priority=10, description=QUOTED, labels="team: docs"),
            "b.yaml": mission("b", agent=None, priority=90),
        }
    )
    world.sync()
    with world.store.transaction(SYSTEM) as tx:
        used = Share(EVIL, Spend(input_tokens=5, source="Reported"))
        reports.use(tx, world.get("Run", "a-1").uid, used, once=Once("evil", "evil"))
    world.finish("a-1", text=EVIL, message=EVIL)
    yield Shell(world, capsys)
    world.close()


READING = [
    *(("get", "missions,runs,approvals", "-o", form) for form in ("table", "wide", "json", "yaml", "name")),
    ("get", "all", "-A"),
    ("describe", "mission/a"),
    ("describe", "run/a-1"),
    ("tree",),
    ("timeline", "a"),
    ("timeline", "a", "-o", "json"),
    ("timeline", "a", "-o", "yaml"),
    *(("costs", "--by", "model", "-o", form) for form in ("table", "json", "yaml", "csv")),
    *(("events", "-A", "-o", form) for form in ("table", "wide", "json", "yaml", "name")),
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_hostile_text_is_shown_escaped(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert harmless(shell(*arguments))


@pytest.mark.parametrize("form", ["human", "json", "markdown"])
def test_hostile_text_in_a_plan_is_shown_escaped(shell: Shell, form: str) -> None:
    file = shell.world.folder / "specs" / "a.yaml"
    file.write_text(mission("a", review="Human", title='"other \\u202e"'))
    assert harmless(shell("diff", "-o", form, code=1))


def test_hostile_text_in_what_is_answered_and_refused_is_shown_escaped(shell: Shell) -> None:
    assert harmless(shell("describe", f"mission/{EVIL}", code=2))
    assert harmless(shell("get", EVIL, code=2))
    assert harmless(shell(EVIL, code=2))
    assert harmless(shell("events", "--types", EVIL, code=2))
    assert harmless(shell("hold", "mission/a", "-r", EVIL))
    assert harmless(shell("get", "holds", "-o", "wide"))
    assert harmless(shell("approve", "mission/a", "--reason", EVIL, "--no-wait"))
    assert harmless(shell("get", "decision", "-o", "yaml"))


def test_hostile_text_in_an_error_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    failures.report(failures.Failure(EVIL, EVIL, hint=EVIL))
    assert harmless(capsys.readouterr().err)


def test_escaped_documents_are_still_the_same_documents() -> None:
    value = {"text": EVIL, "plain": "one\ntwo", EVIL: [EVIL]}
    for text, read in ((output.dump_json(value), json.loads), (output.dump_yaml(value), yaml.safe_load)):
        assert harmless(text)
        assert read(text) == value


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_json_and_yaml_are_valid(shell: Shell, arguments: tuple[str, ...]) -> None:
    out, _ = shell.apart(*arguments)
    if "json" in arguments:
        assert json.loads(out)
    if "yaml" in arguments:
        assert yaml.safe_load(out)


@pytest.mark.parametrize(
    "kind", ["source", "agent", "executor", "mission", "run", "approvalrequest"]
)  # what this world holds
def test_every_object_can_be_described(shell: Shell, kind: str) -> None:
    names = shell("get", kind, "-A", "-o", "name").split()
    assert names
    for name in names:
        said = shell("describe", name)
        assert said.startswith("Name:")
        assert "Events:" in said


def test_a_list_is_sorted_by_a_field(shell: Shell) -> None:
    by_priority = shell("get", "missions", "--sort-by", "spec.priority", "-o", "name").split()
    assert by_priority == ["mission/a", "mission/b"]
    assert shell("get", "missions", "--sort-by", ".metadata.name", "-o", "name").split() == ["mission/a", "mission/b"]
    shell.world.commit({"a.yaml": mission("a", review="Human", priority=95, labels="team: docs")})
    shell.world.sync()
    by_priority = shell("get", "missions", "--sort-by", "spec.priority", "-o", "name").split()
    assert by_priority == ["mission/b", "mission/a"]


def test_a_state_that_is_none_is_refused_instead_of_found_nowhere(shell: Shell) -> None:
    assert shell("get", "missions", "--state", "review,done", "-o", "name").split() == ["mission/a"]
    said = shell("get", "missions", "--state", "Blokced", code=2)
    assert "--state 'Blokced': there is no such state" in said
    assert "Blocked" in said


def test_a_text_that_is_cut_says_so_and_how_to_read_the_rest(shell: Shell) -> None:
    shell.world.commit({"c.yaml": mission("c", review="Human")})
    shell.world.sync()
    shell.world.settle()
    shell.world.finish("c-1", text="x" * 4000 + "and delete the backups")
    shown = shell("describe", "mission/c")
    assert "... 22 more characters: remit get mission/c -o yaml (status.deliverable.text)" in shown
    assert "delete the backups" in shell("get", "mission/c", "-o", "yaml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hold", "mission/a", "-r", "x", "--for", "5"), "--for '5': not a duration"),
        (("hold", "mission/a", "-r", "x", "--for", "0s"), "--for '0s': it would be over at once"),
        (("approve", "mission/a", "--for", "0s"), "--for '0s': it would be over at once"),
    ],
)
def test_a_duration_that_is_refused_names_its_option(shell: Shell, words: tuple[str, ...], said: str) -> None:
    assert said in shell(*words, code=2)
    assert shell("get", "holds", "-o", "name").strip() in ("", "no holds in namespace default")


def test_labels_states_several_kinds_and_names_select(shell: Shell) -> None:
    assert shell("get", "missions", "-l", "team=docs", "-o", "name").split() == ["mission/a"]
    assert shell("get", "missions", "--state", "Review", "-o", "name").split() == ["mission/a"]
    assert shell("get", "missions", "a", "b", "-o", "name").split() == ["mission/a", "mission/b"]
    assert shell("get", "agent/worker", "mission/a", "-o", "name").split() == ["agent/worker", "mission/a"]
    assert shell("get", "agents,missions", "-o", "name").split() == ["agent/worker", "mission/a", "mission/b"]
    out, err = shell.apart("get", "missions", "-n", "elsewhere")
    assert (out.strip(), err) == ("", "no missions in namespace elsewhere\n")


@pytest.mark.parametrize("form", ["table", "name", "json"])
def test_watching_prints_what_is_there_then_what_changes(
    shell: Shell, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter(["change", "end"])

    def pause(_: float) -> None:
        if next(rounds) == "end":
            raise KeyboardInterrupt
        shell.world.commit({"b.yaml": mission("b", agent=None, priority=80)})
        shell.world.sync()

    monkeypatch.setattr(common, "pause", pause)
    out, _ = shell.apart("get", "missions", "-w", "-o", form, code=130)
    if form == "json":
        decoder, names, position = json.JSONDecoder(), [], 0
        while position < len(out.rstrip()):
            document, position = decoder.raw_decode(out, position)
            names.append(document["metadata"]["name"])
            position += 1
    else:
        names = [line.split()[0].removeprefix("mission/") for line in out.splitlines() if not line.startswith("NAME")]
    assert names == ["a", "b", "b"]


@pytest.mark.parametrize("form", ["table", "name", "json"])
def test_watching_says_what_is_deleted_and_not_what_only_left_the_selection(
    shell: Shell, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter(["leave", "delete", "end"])

    def pause(_: float) -> None:
        match next(rounds):
            case "leave":
                shell.world.commit({"a.yaml": mission("a", review="Human", labels="team: other")})
            case "delete":
                shell.world.commit(delete=("b.yaml",))
            case "end":
                raise KeyboardInterrupt
        shell.world.sync()

    shell.world.commit({"b.yaml": mission("b", agent=None, labels="team: docs")})
    shell.world.sync()
    monkeypatch.setattr(common, "pause", pause)
    out, err = shell.apart("get", "missions", "-l", "team=docs", "-w", "-o", form, code=130)
    said = [line for line in (err if form == "json" else out).splitlines() if line.endswith(" deleted")]
    assert said == ["mission/b deleted"]


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_left_out_when_it_is_not_wanted(variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.paint("word", "bad") == "\x1b[31mword\x1b[0m"
    monkeypatch.setenv(*variable)
    assert output.paint("word", "bad") == "word"


GROUPS = {"hook": ("claude", "install", "uninstall"), "policy": ("explain", "test", "replay"), "audit": (), "db": (),
          "export": ("audit", "tenant", "jobs", "verify", "import")}  # fmt: skip
VERBS = [verb for verb in catalogue.VERBS if verb not in GROUPS]
VERBS += [f"{group} {verb}" for group, verbs in GROUPS.items() for verb in verbs]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert f"remit {verb}" in said.partition("Examples:")[2] or f"{verb}" in said.partition("Examples:")[2]


# init.


def test_init_makes_a_project_in_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "fleet")]) == 0
    assert "next: remit run" in capsys.readouterr().out
    assert (tmp_path / "fleet" / "remit.yaml").is_file()
    assert run(["-C", str(tmp_path / "fleet"), "validate"]) == 0


def test_init_leaves_what_is_in_a_folder_and_refuses_a_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")
    assert run(["init", str(tmp_path), "--empty"]) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert run(["init", str(tmp_path)]) == 3
    assert "there is a project here already" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_init_writes_over_no_file_of_a_folder_of_specs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "README.md").write_text("mine\n")
    assert run(["init", str(tmp_path)]) == 3
    assert "README.md" in capsys.readouterr().err
    assert (tmp_path / "specs" / "README.md").read_text() == "mine\n"
    assert not (tmp_path / "remit.yaml").exists()
