"""The workflow files of the pages: YAML that CI systems read, with commands that this version has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml

from cli.main import app
from tests.fakes.pages import Block, page

BLOCKS = [b for b in page("docs/howto/check-pull-requests.md").blocks if b.info == "yaml workflow"]
ROOT_COMMAND: Any = typer.main.get_command(app)


def scripts(block: Block) -> list[str]:
    """The shell lines of a workflow."""
    document = yaml.safe_load(block.text)
    if "jobs" in document:
        steps = [step for job in document["jobs"].values() for step in job["steps"]]
        return [line for step in steps for line in step.get("run", "").splitlines()]
    return [line for job in document.values() for line in job["script"]]


def commands(block: Block) -> Iterator[list[str]]:
    for line in scripts(block):
        words = shlex.split(line)
        if words[:1] == ["remit"]:
            yield words[1 : words.index("||")] if "||" in words else words[1:]


def test_there_is_one_for_github_and_one_for_gitlab() -> None:
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.place)
def test_it_validates_and_comments_with_commands_that_exist(block: Block) -> None:
    found = list(commands(block))
    assert [words[0] for words in found] == ["validate", "diff"]
    context = ROOT_COMMAND.make_context("remit", [], resilient_parsing=True)
    for verb, *rest in found:
        command = ROOT_COMMAND.get_command(context, verb)
        # What CI puts in is a number where a number belongs.
        given = [re.sub(r"^\$\{?[A-Z_]*(NUMBER|IID)\}?$", "7", word) for word in rest]
        parsed = command.make_context(verb, given, parent=context)
        if verb == "diff":
            assert parsed.params["markdown"]
            assert parsed.params["comment"] == 7
            assert parsed.params["forge"] in ("GitHub", "GitLab")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.place)
def test_nothing_of_a_pull_request_is_put_into_a_script(block: Block) -> None:
    """An expression is replaced before the shell sees the line: a title or branch could end it."""
    assert [line for line in scripts(block) if "${{" in line] == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.place)
def test_what_ci_puts_in_is_quoted(block: Block) -> None:
    for line in scripts(block):
        assert re.findall(r'(?<!["\w])\$(?!\?)\w+', line) == [], line


def test_the_token_of_github_may_do_what_is_needed_and_no_more() -> None:
    (github,) = [yaml.safe_load(b.text) for b in BLOCKS if "jobs" in yaml.safe_load(b.text)]
    assert github["permissions"] == {"contents": "read", "pull-requests": "write"}
    # YAML 1.1 reads the key "on" as true; forges do not.
    assert "pull_request" in github[True]
