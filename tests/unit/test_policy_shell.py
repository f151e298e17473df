"""An allowlist of commands lets through what it says, and nothing that only looks like it."""

from __future__ import annotations

from random import Random

import pytest

from decisions.policy import commands, shell
from decisions.policy.decide import command_listed
from tests.fakes.hostile_shell import ALLOWLIST, HONEST, hostile_command

ENTRIES = [commands.compile_entry(text) for text in ALLOWLIST]
HOSTILE = 10_000


def entry_for(command: str, *entries: str) -> str:
    return command_listed(command, [commands.compile_entry(text) for text in entries] or ENTRIES)[0]


@pytest.mark.parametrize("command", HONEST)
def test_an_honest_command_passes(command: str) -> None:
    assert entry_for(command) in ALLOWLIST


def test_ten_thousand_hostile_commands_do_not_pass() -> None:
    random = Random(20261121)
    made: dict[str, None] = {}
    while len(made) < HOSTILE:
        made[hostile_command(random)] = None
    assert [command for command in made if entry_for(command)] == []


def test_most_hostile_commands_are_refused_by_their_form_and_not_by_their_words() -> None:
    random = Random(7)
    forms = set()
    for _ in range(4_000):
        try:
            shell.one_command(hostile_command(random))
        except shell.Refused as error:
            forms.add(str(error))
    told = (
        "a pipe",
        "a redirection",
        "an assignment",
        "a subshell",
        "a command substitution",
        "several lines",
        "a process substitution",
        "an expansion",
        "a string with escapes",
        "characters that look like others",
        "not a command that can be parsed",
        "several commands joined by && or ||",
        "a separator or a background job",
    )
    assert set(told) - forms == set()


@pytest.mark.parametrize(
    ("entries", "passes", "refused"),
    [
        (
            ["git diff *"],
            ["git diff", "git diff --stat a b", "git diff HEAD -- src"],
            ["git diff --output=/etc/x", "git diff --outp=x", "git diff --ext-diff", "git diff --textconv", "git log"],
        ),
        (["git diff --output=diff.txt *"], ["git diff --output=diff.txt a"], ["git diff --output=other.txt"]),
        (["make test"], ["make test"], ["make", "make test x", "make test SHELL=./x", "make -f x test", "make tests"]),
        (
            ["find . *"],
            ["find . -name '*.py'"],
            ["find . -exec id", "find . -delete", "find / -name x", "find . -fprintf x y", "find . -ok id"],
        ),
        (
            ["pytest tests/*"],
            ["pytest tests/unit"],
            ["pytest", "pytest -p evil", "pytest tests/../x", "pytest tests/a -x"],
        ),
        (
            ["pytest *"],
            ["pytest -x tests"],
            ["pytest -p evil", "pytest -c x.ini", "pytest --rootdir=/x", "pytest -xc a"],
        ),
        (["sort *"], ["sort -n a"], ["sort -o x a", "sort -no x", "sort --outp=x", "sort --compress-program=id a"]),
        (["tar *"], ["tar tf a.tar"], ["tar xf a --to-command=id", "tar -I id -xf a", "tar --checkpoint-act=exec=id"]),
        (["rg *"], ["rg -n TODO src"], ["rg --pre id x", "rg --pre=id x"]),
        (["ls --color=*"], ["ls --color=auto"], ["ls", "ls --hyperlink=auto", "ls --color=auto -la"]),
        (["/usr/bin/git status"], ["/usr/bin/git status"], ["git status", "/usr/bin/git  -c a=b status"]),
        (["grep"], ["grep -rn TODO src"], ["grep -f x src", "grep --include=x a", "grep a /etc/passwd", "grep -P x y"]),
    ],
)
def test_an_entry_stands_for_its_words(entries: list[str], passes: list[str], refused: list[str]) -> None:
    assert [c for c in passes if not entry_for(c, *entries)] == []
    assert [c for c in refused if entry_for(c, *entries)] == []


@pytest.mark.parametrize(
    "text",
    [
        "bash *",
        "sh -c *",
        "env *",
        "sudo apt *",
        "xargs *",
        "git *",
        "git -c *",
        "python3 *",
        "python3 -c *",
        "timeout 5 *",
        "/usr/bin/env *",
        "find *",
        "ls | cat",
        "ls && id",
        "$(id)",
        "'open",
        "",
        "* ls",
        "ls * a",
        "-x",
        "awk *",
        "make *",
    ],
)
def test_an_entry_that_would_open_everything_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(commands.BadEntry):
        commands.compile_entry(text)


def test_long_and_deep_commands_are_refused_in_time() -> None:
    for command in (
        "ls " + "a" * 10_000,
        "$(" * 2_000,
        "(" * 4_000 + ")" * 4_000,
        "ls " + "'a'" * 2_000,
        "[[ " * 1_000,
    ):
        assert entry_for(command) == "" or command.startswith("ls 'a'")
        shell.programs(command)


def test_programs_are_found_at_any_depth() -> None:
    found = shell.programs('a | b $(c `d`) && { (e) ; } ; if f; then g; fi; k <(h) > "$(i)" <<E\n$(j)\nE\n')
    assert found is not None
    assert {p.name for p in found} >= set("abcdefghijk")
    assert [p.name for p in shell.programs("$x a; 'b' c; X=1 d") or ()] == [None, "b", "d"]
