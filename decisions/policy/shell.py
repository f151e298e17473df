"""What a shell command is made of, by its syntax tree. Text is never searched for what it might mean.

``one_command`` reads the only form that an allowlist can vouch for: one program with literal words. ``programs`` finds
every program in a command of any form, for the hard stops. Two parsers have to agree on the words: the grammar of bash
that tree-sitter has, and ``shlex`` of the standard library.
"""

from __future__ import annotations

import functools
import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Language, Node, Parser

MAX_COMMAND = 8_192
"""Characters; a longer command is not looked at."""
MAX_NODES = 5_000
_REMEMBERED = 32
"""Commands whose reading is kept: one decision asks for the same one several times."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-][A-Za-z0-9_./:=@%+,-]*")
_ODD = re.compile(r"[^\n\t -~]")
_PROGRAM = re.compile(r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]*")


class Refused(ValueError):
    """The command is not one program with literal words; the message says what it is instead."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that a command starts. ``words`` is None where they are not known ahead of the run."""

    name: str | None
    words: tuple[str | None, ...]


_FORMS = {
    "list": "several commands joined by && or ||",
    "pipeline": "a pipe",
    "redirected_statement": "a redirection",
    "variable_assignment": "an assignment",
    "variable_assignments": "an assignment",
    "subshell": "a subshell",
    "compound_statement": "a group of commands",
    "function_definition": "a function",
    "negated_command": "a negation",
    "declaration_command": "a declaration",
    "unset_command": "an unset",
    "test_command": "a test",
    "if_statement": "a condition",
    "while_statement": "a loop",
    "for_statement": "a loop",
    "c_style_for_statement": "a loop",
    "case_statement": "a choice",
    "comment": "a comment",
    "command_substitution": "a command substitution",
    "process_substitution": "a process substitution",
    "simple_expansion": "an expansion",
    "expansion": "an expansion",
    "arithmetic_expansion": "an arithmetic expansion",
    "brace_expression": "a brace expansion",
    "ansi_c_string": "a string with escapes",
    "translated_string": "a translated string",
    "heredoc_redirect": "a here-document",
    "herestring_redirect": "a here-string",
    "file_redirect": "a redirection",
}


@functools.cache
def _language() -> Language:
    import tree_sitter_bash  # 15 ms, which commands that see no command of an agent need not pay

    return Language(tree_sitter_bash.language())


def _parse(command: str) -> Node:
    """The tree. Raises Refused for what no honest command looks like."""
    if len(command) > MAX_COMMAND:
        raise Refused(f"longer than {MAX_COMMAND} characters")
    try:
        data = command.encode()
    except UnicodeEncodeError:
        raise Refused("not text") from None
    if _ODD.search(command) is not None:
        _require_plain(command)
    # A parser of its own for each command: they are cheap (3 us) and must not be shared between threads.
    root = Parser(_language()).parse(data).root_node
    if root.has_error:
        raise Refused("not a command that can be parsed")
    return root


def _require_plain(command: str) -> None:
    """Raise Refused for characters that are not what they seem."""
    for character in command:
        if character < " " and character not in "\n\t":
            raise Refused(f"the control character U+{ord(character):04X}")
        if character > "~" and not character.isalnum() and not (character.isprintable() and character != "\u00a0"):
            raise Refused(f"the invisible character U+{ord(character):04X}")
    if unicodedata.normalize("NFKC", command) != command:
        raise Refused("characters that look like others")


def one_command(command: str) -> tuple[str, ...]:
    """The program and its words, if the command is one program with literal words and nothing else.

    Raises Refused, with what it is instead: joined or piped commands, redirections, assignments, expansions, groups,
    background jobs, comments, escapes, control characters, look-alikes, whatever cannot be parsed.
    """
    found = _read_one(command)
    if isinstance(found, str):
        raise Refused(found)
    return found


@functools.lru_cache(maxsize=_REMEMBERED)
def _read_one(command: str) -> tuple[str, ...] | str:
    """Its words, or why it is not one command."""
    try:
        return _one_command(command)
    except Refused as error:
        return str(error)


def _one_command(command: str) -> tuple[str, ...]:
    if "\n" in command:
        raise Refused("several lines")
    root = _parse(command)
    if not root.named_children:
        raise Refused("no command")
    if len(root.named_children) > 1:
        second = root.named_children[1]
        raise Refused(_FORMS.get(second.type, "several commands"))
    node = root.named_children[0]
    if node.type != "command":
        raise Refused(_FORMS.get(node.type, "more than a command"))
    data = command.encode()
    if data.strip(b" \t") != data[node.start_byte : node.end_byte]:
        raise Refused("a separator or a background job")
    words: list[str] = []
    for child in node.children:
        if child.type == "command_name":
            text = _text(child)
            if words or _PROGRAM.fullmatch(text) is None:
                raise Refused("a program name that is not plain")
            words.append(text)
        elif not words:
            raise Refused(_FORMS.get(child.type, "something before the program"))
        else:
            words.append(_literal(child))
    if not words:
        raise Refused("no program")
    try:
        again = shlex.split(command, posix=True)
    except ValueError:
        raise Refused("quotes that do not pair") from None
    if again != words:
        raise Refused("words that two parsers read differently")
    return tuple(words)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _literal(node: Node) -> str:
    """The word that a node stands for. Raises Refused when that is known only as the command runs."""
    text = _text(node)
    if node.type in ("word", "number"):
        if node.named_children:
            raise Refused("an expansion")
        if not text.isascii():
            raise Refused("letters beyond ASCII outside quotes")
        if _PLAIN.fullmatch(text) is None:
            raise Refused("an expansion or an escape")
        return text
    if node.type == "raw_string":
        return text[1:-1]
    if node.type == "string":
        inner = text[1:-1]
        if any(child.type != "string_content" for child in node.named_children):
            raise Refused(_FORMS.get(node.named_children[0].type, "an expansion"))
        if re.search(r"[$`\\!]", inner):
            raise Refused("an expansion or an escape")
        return inner
    if node.type == "concatenation":
        if any(_text(child) in ("''", '""') for child in node.children):
            raise Refused("quotes around nothing inside a word")
        return "".join(_literal(child) for child in node.children)
    raise Refused(_FORMS.get(node.type, "more than words"))


def programs(command: str) -> list[Program] | None:
    """Every program that the command names, at any depth, in order; None when it cannot be told which."""
    found = _programs(command)
    return None if found is None else list(found)


@functools.lru_cache(maxsize=_REMEMBERED)
def _programs(command: str) -> tuple[Program, ...] | None:
    try:
        root = _parse(command)
    except Refused:
        return None
    found: list[Program] = []
    for count, node in enumerate(_walk(root)):
        if count > MAX_NODES:
            return None
        if node.type == "command":
            found.append(_program(node))
    return tuple(found)


def _walk(root: Node) -> Iterator[Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def _program(node: Node) -> Program:
    name: str | None = None
    words: list[str | None] = []
    for child in node.named_children:
        if child.type == "command_name":
            name = _maybe(child.named_children[0]) if child.named_children else _text(child)
        elif child.type not in ("variable_assignment", "file_redirect", "herestring_redirect", "heredoc_redirect"):
            words.append(_maybe(child))
    return Program(name, tuple(words))


def _maybe(node: Node) -> str | None:
    try:
        return _literal(node)
    except Refused:
        return None
