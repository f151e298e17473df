"""YAML syntax errors in plain words, at the place where a person repairs them.

The parser reports where it gave up, often the end of the file; an unclosed quote or bracket is reported here at the
character that opens it.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from controllers.sources.findings import WHOLE_FILE, Findings, Position, cut

MISSING = "a value is missing"
_INDENT_HINT = "check the indentation"
_COLON_HINT = "check the indentation, or quote a text that contains ': '"
_CLOSED = "\"']}"
_OPENERS = {"while parsing a flow sequence": "[", "while parsing a flow mapping": "{"}
_START_HINTS = {
    "\t": "indent with spaces; YAML does not allow tabs here",
    "@": "quote a text that begins with @",
    "`": "quote a text that begins with `",
    "%": "quote a text that begins with %",
}

# libyaml's wording -> (message, expected, hint). Its wordings are fixed for the released versions; an unknown one is
# passed on as it is.
_WORDS: dict[str, tuple[str, str, str]] = {
    "mapping values are not allowed in this context": ("a ':' does not fit here", "", _COLON_HINT),
    "mapping keys are not allowed in this context": ("a '?' does not fit here", "", "quote a text that begins with ?"),
    "block sequence entries are not allowed in this context": (
        "a list item does not fit here",
        "'- ' at the beginning of a line of its own",
        "",
    ),
    "could not find expected ':'": (
        "this line is neither a field nor the rest of a text",
        "'key: value'",
        _INDENT_HINT,
    ),
    "did not find expected key": ("this does not fit the mapping around it", "a key in its column", _INDENT_HINT),
    "did not find expected '-' indicator": ("this does not fit the list around it", "'- ' in its column", _INDENT_HINT),
    "did not find expected node content": (MISSING, "a value", ""),
    "did not find expected ',' or ']'": ("the list is not closed before this", "',' or ']'", ""),
    "did not find expected ',' or '}'": ("the mapping is not closed before this", "',' or '}'", ""),
    "did not find expected <document start>": ("a document ends and more text follows", "'---' before the next", ""),
    "found unexpected end of stream": ("the quoted text that opens here is not closed", "a closing quote", ""),
    "found unexpected document indicator": (
        "the quoted text that opens here is not closed",
        "a closing quote before the line with --- or ...",
        "",
    ),
    "found unknown escape character": (
        "not an escape",
        'one such as \\n, \\t, \\" or \\u00e9',
        "single quotes need none",
    ),
    "did not find expected hexdecimal number": ("not a hexadecimal escape", "as in \\x1b or \\u00e9", ""),
    "found invalid Unicode character escape code": ("this escape names no character", "", ""),
    "found a tab character that violates indentation": ("a tab in the indentation", "spaces", ""),
    "found a tab character where an indentation space is expected": ("a tab in the indentation", "spaces", ""),
    "found an indentation indicator equal to 0": ("an indentation of 0 after | or >", "1 to 9", ""),
    "did not find expected comment or line break": ("text on the line of | or >", "the text on the next line", ""),
    "did not find expected alphabetic or numeric character": (
        "not the name of an anchor or alias",
        "letters, digits, '-' or '_'",
        "quote a text that begins with & or *",
    ),
    "found undefined tag handle": ("an unknown tag", "no tag", "quote a text that begins with !"),
    "did not find the expected '>'": ("a tag that is not closed", "no tag", "quote a text that begins with !"),
    "found incompatible YAML document": ("a YAML version that is not supported", "%YAML 1.2, or no such line", ""),
    "found unknown directive name": ("an unknown directive", "%YAML 1.2, or no such line", ""),
    "found duplicate %TAG directive": ("the same %TAG twice", "no %TAG", ""),
    "found duplicate %YAML directive": ("the same %YAML twice", "one", ""),
}


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    """A syntax error. ``line`` (from 0) is where the parser stopped, which may be below ``place``."""

    place: Position
    line: int
    message: str
    expected: str
    hint: str

    def report(self, findings: Findings) -> None:
        """Add it to the findings of its file."""
        findings.add(self.place, self.message, expected=self.expected, hint=self.hint)


def explain(error: yaml.YAMLError, text: str, line_offset: int) -> SyntaxFault:
    """What the parser's error means. ``text`` is what was parsed; it begins at ``line_offset`` (from 0) of its file."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return SyntaxFault(WHOLE_FILE, line_offset + text.count("\n"), cut(str(error), 200), "", "")
    mark, opened = error.problem_mark, error.context_mark
    problem, context = error.problem or "", error.context or ""
    message, expected, hint = _WORDS.get(problem, (cut(f"{context}: {problem}" if context else problem, 200), "", ""))
    if problem == "found character that cannot start any token":
        character = text[mark.index : mark.index + 1]
        message = "a tab in the indentation" if character == "\t" else f"a value cannot begin with {character}"
        hint = _START_HINTS.get(character, "quote the text")
    at_end = mark.index >= len(text.rstrip()) or (mark.column == 0 and text.startswith(("---", "..."), mark.index))
    place = mark
    if opened is not None:
        opens = line_offset + opened.line + 1
        if problem == "found unexpected end of stream" and "quoted" not in context:
            message, expected = "the text ends too early", ""
        elif problem.startswith("found unexpected") or problem == "could not find expected ':'":
            place = opened
        elif context in _OPENERS and at_end:
            place, message = opened, f"the {_OPENERS[context]} that opens here is not closed"
        elif context in _OPENERS:
            hint = f"{_OPENERS[context]} opens at line {opens}, column {opened.column + 1}"
        elif problem in ("did not find expected key", "did not find expected '-' indicator"):
            message += f", which begins at line {opens}"
            before = text[text.rfind("\n", 0, mark.index) + 1 : mark.index].rstrip()
            if before.endswith(tuple(_CLOSED)):
                message, expected = f"text after the closing {before[-1]}", "the end of the line"
                hint = "quote the whole value, the other quotes inside it doubled or escaped"
    return SyntaxFault(
        Position(line_offset + place.line + 1, place.column + 1), line_offset + mark.line, message, expected, hint
    )
