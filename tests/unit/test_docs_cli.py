"""The CLI reference against the command itself, and every command that a page names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
import typer

from cli import failures
from cli.main import app
from tests.fakes.pages import ROOT, Page, page, rows, written_pages

REFERENCE = "docs/reference/cli.md"
UsageError: Any = typer.BadParameter.__base__
ROOT_COMMAND: Any = typer.main.get_command(app)
CONTEXT: Any = ROOT_COMMAND.make_context("remit", [], resilient_parsing=True)
_OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "#", "2>"}


def verbs() -> dict[str, Any]:
    """Verb -> its command; ``db backup`` for those of a group."""
    found: dict[str, Any] = {}
    for name in ROOT_COMMAND.list_commands(CONTEXT):
        command = ROOT_COMMAND.get_command(CONTEXT, name)
        inner = getattr(command, "commands", None)
        found |= {f"{name} {child}": c for child, c in inner.items()} if inner else {name: command}
    return found


def synopsis(verb: str, command: Any) -> str:
    """``remit get [OPTIONS] KIND[/NAME] [NAMES]...``."""
    words = ["remit", verb, "[OPTIONS]"]
    for param in command.params:
        if param.param_type_name == "argument":
            name = param.metavar or param.name.upper()
            word = name if param.required or name.startswith("[") else f"[{name}]"
            words.append(word + ("..." if param.nargs == -1 and not word.rstrip("]").endswith("...") else ""))
    return " ".join(words)


def option_rows(command: Any) -> list[list[str]]:
    """The rows of a verb's table: option, default, meaning."""
    found = []
    for param in command.params:
        if param.param_type_name != "option" or param.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in sorted(param.opts, key=len))
        value = "" if param.is_flag else " " + _value_name(param)
        default = "required" if param.required else _default(param)
        text = (param.help or "") + (f" (variable `{param.envvar}`)" if param.envvar else "")
        found.append([names + value, default, text])
    return found


def _value_name(param: Any) -> str:
    annotation = param.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation)
    return "TEXT..." if param.multiple else "TEXT"


def _default(param: Any) -> str:
    if param.is_flag or param.default is None or param.default == "":
        return ""
    return f"`{getattr(param.default, 'value', param.default)}`"


def table(command: Any) -> str:
    """That table as Markdown."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in option_rows(command)]
    if not lines:
        return ""
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *(f"| {line} |" for line in lines)])


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_has_its_section_with_synopsis_and_options(verb: str) -> None:
    command = verbs()[verb]
    try:
        text = page(REFERENCE).section(verb)
    except KeyError:
        pytest.fail(f"{REFERENCE} needs the section:\n\n### {verb}\n\n`{synopsis(verb, command)}`\n\n{table(command)}")
    assert f"`{synopsis(verb, command)}`" in text
    shown = [row for row in rows(text) if row[0].startswith("`-")]
    assert shown == option_rows(command), f"the table of {verb} should be:\n\n{table(command)}"


def test_the_reference_has_no_section_of_a_verb_that_is_gone() -> None:
    headings = re.findall(r"^### (.+)$", page(REFERENCE).text, re.MULTILINE)
    assert sorted(headings) == sorted(verbs())


def test_the_exit_codes_are_those_of_the_command() -> None:
    shown = {int(row[0]) for row in rows(page(REFERENCE).section("Exit codes")) if row[0].isdigit()}
    assert shown == {int(code) for code in failures.Exit}


def test_options_before_the_verb_are_listed() -> None:
    text = page(REFERENCE).section("Before the verb")
    own = [o for p in ROOT_COMMAND.params for o in p.opts if p.param_type_name == "option"]
    assert [o for o in own if f"`{o}`" not in text] == []


# Commands in the text.


def commands(where: Page) -> Iterator[tuple[str, str]]:
    """(place, command line) of each ``remit ...`` on a page: in blocks of shell, after a prompt, and inline."""
    for block in where.blocks:
        kind = block.info.split()[0] if block.info else ""
        if kind == "sh":
            lines = [*enumerate(block.text.splitlines(), block.line)]
        elif kind == "console":
            lines = [(n, t[2:]) for n, t in enumerate(block.text.splitlines(), block.line) if t.startswith("$ ")]
        else:
            continue
        for number, line in lines:
            for command in _split(line):
                yield f"{where.path}:{number}", command
    for number, text in where.inline:
        for command in _split(text):
            yield f"{where.path}:{number}", command


def _split(line: str) -> Iterator[str]:
    """The ``remit`` commands of one shell line."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    current: list[str] | None = None
    for word in [*words, ";"]:
        if word in _OPERATORS:
            if current:
                yield shlex.join(current)
            current = None
        elif current is not None:
            current.append(word)
        elif word in ("remit", ".venv/bin/remit"):
            current = []
        elif "=" not in word or word.startswith("-"):
            current = None


def test_the_pages_name_many_commands() -> None:
    assert len([c for p in written_pages() for c in commands(p)]) > 150


@pytest.mark.parametrize("path", [p.path for p in written_pages()])
def test_every_command_that_a_page_names_exists_with_its_options(path: str) -> None:
    wrong = []
    for place, command in commands(page(path)):
        try:
            _parse(shlex.split(command))
        except UsageError as error:
            wrong.append(f"{place}: remit {command}: {error.format_message()}")
    assert wrong == []


def _parse(words: list[str]) -> None:
    """Have the command's own parser read the words. Raises UsageError; a verb without any argument is only named."""
    while words and words[0] in ("-C", "--project"):
        words = words[2:]
    if not words or words[0] in ("--version", "--help", "-h", "VERB"):
        return
    name, words = words[0], words[1:]
    if name not in ROOT_COMMAND.list_commands(CONTEXT):
        raise UsageError(f"there is no verb {name!r}")
    command = ROOT_COMMAND.get_command(CONTEXT, name)
    inner = getattr(command, "commands", None)
    if inner:
        if not words:
            return
        name, words = words[0], words[1:]
        if name not in inner:
            raise UsageError(f"there is no verb {name!r}")
        command = inner[name]
    if words and words != ["--help"] and "[OPTIONS]" not in words:
        command.make_context(name, list(words), resilient_parsing=False)


def rewritten(text: str) -> str:
    """The reference with the synopsis and the table of every verb as they are now; what people wrote stays.

    ``python -m tests.unit.test_docs_cli`` writes it. A verb that is new gets its section at the end."""
    for verb, command in verbs().items():
        head = f"### {verb}\n"
        fresh = "\n\n".join(part for part in (f"{head}\n`{synopsis(verb, command)}`", table(command)) if part) + "\n"
        start = text.find(f"\n{head}")
        if start < 0:
            text += f"\n{fresh}"
            continue
        old = re.compile(r"\n### .+\n\n`remit [^\n]+\n(?:\n(?:\|[^\n]*\n)+)?")
        found = old.match(text, start)
        assert found is not None, f"the section of {verb} begins with its synopsis"
        text = f"{text[:start]}\n{fresh}{text[found.end() :]}"
    return text


if __name__ == "__main__":
    (ROOT / REFERENCE).write_text(rewritten(page(REFERENCE).text), encoding="utf-8")
