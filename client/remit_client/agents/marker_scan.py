"""Finds unfinished places in one text file: markers in comments, and stubs in code.

A marker counts where a person would put one: at the beginning of a comment, or directly followed by ``:`` or ``(``.
So a sentence about markers, or a string that names one, is no finding. Pure functions; time in proportion to the text.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_LINE = 2000
_MAX_EXCERPT = 160
_MAX_LOOK_BACK = 100


class Severity(StrEnum):
    """How much it matters (requirement A3)."""

    FAIL = "Fail"  # a stub, a placeholder, or a marker that says nobody and nothing
    WARNING = "Warning"  # documented: it names an owner, an issue or an address


@dataclass(frozen=True, slots=True)
class Finding:
    """One unfinished place. ``word`` is the marker, or ``stub``."""

    line: int
    word: str
    severity: Severity
    excerpt: str


_HASH, _SLASH, _DASH, _PERCENT, _SEMICOLON, _MARKUP = ("#",), ("//", "/*"), ("--",), ("%",), (";",), ("<!--",)
_LEADERS: dict[str, tuple[str, ...]] = {}
for _leaders, _suffixes in (
    (_HASH, "py pyi pyx sh bash zsh fish rb pl pm yaml yml toml cfg conf mk cmake r jl tf tfvars hcl nix ps1"),
    (_HASH, "ex exs gd awk sed"),
    (_SLASH, "c h cc cpp cxx hpp java js mjs cjs jsx ts tsx go rs swift kt kts scala cs css scss less proto dart m mm"),
    (_SLASH, "groovy gradle zig sol v sv jsonc json5"),
    ((*_HASH, *_SLASH), "php"),
    (_DASH, "sql lua hs elm ada adb ads vhd vhdl"),
    (_PERCENT, "tex sty erl hrl"),
    (_SEMICOLON, "lisp clj cljs cljc el scm asm s"),
    ((*_HASH, *_SEMICOLON), "ini"),
    (_MARKUP, "html htm xml xsl svg xhtml"),
    ((*_MARKUP, *_SLASH), "vue svelte"),
):
    _LEADERS.update(dict.fromkeys(_suffixes.split(), _leaders))
_HASH_NAMES = ("makefile", "dockerfile", "gemfile", "rakefile", "vagrantfile", ".gitignore", ".dockerignore")
_PROSE = frozenset({"md", "markdown", "mdown", "rst", "txt", "adoc", "org"})
SOURCE_SUFFIXES = frozenset(_LEADERS)

_CANDIDATE = re.compile(
    r"TODO|FIXME|XXX|HACK|PLACEHOLDER|todo|fixme|NotImplemented|unimplemented!|(?i:not implemented)", re.ASCII
)
_MARKER = re.compile(r"\b(?:(TODO|FIXME|XXX|HACK|PLACEHOLDER)\b|(todo|fixme)(?=[:(]))", re.ASCII)
# An owner in parentheses or a ticket right behind the marker; or an issue or an address in what follows.
_DOCUMENTED = re.compile(
    r"\s*\([^)\s][^)]{0,80}\)|[:\s-]*[A-Z][A-Z0-9]{1,9}-\d|[^\n]{0,200}?(?:#\d|https?://)", re.ASCII
)
_VALUE = re.compile(r"""[:=]\s*(["']?)<?PLACEHOLDER>?\1\s*[,;]?\s*$""", re.ASCII)
_PROSE_LEAD = re.compile(r"[\s>*+#_\-|\[\]]*(?:\d{1,9}[.)]\s+)?[*_]{0,3}")
_COMMENT_LEAD = re.compile(r"[\s*#/!;%@<\-]*")
_STUBS: tuple[tuple[frozenset[str], re.Pattern[str]], ...] = (
    (frozenset({"py", "pyi", "pyx"}), re.compile(r"^\s*raise\s+NotImplementedError\b")),
    (frozenset({"rs"}), re.compile(r"(?:^|[\s{;=>(])(?:unimplemented|todo)!\s*[(\[{]")),
    (
        frozenset({"js", "mjs", "cjs", "jsx", "ts", "tsx", "java", "kt", "kts", "cs", "scala", "swift", "dart", "php"}),
        re.compile(
            r"(?:\bthrow\b[^\"']{0,80}|\bfatalError\()(?:NotImplemented|[\"'][^\"']{0,80}not implemented)",
            re.IGNORECASE,
        ),
    ),
    (frozenset({"go"}), re.compile(r"\bpanic\(\s*[\"`][^\"`]{0,80}not implemented", re.IGNORECASE)),
    (frozenset({"kt", "kts"}), re.compile(r"(?:^|[\s={])TODO\(")),
)


def scan(path: str, text: str) -> list[Finding]:
    """What is unfinished in a file, by line, at most one finding a line. ``path`` tells the language; an unknown one
    is read with the most common comment signs."""
    if _CANDIDATE.search(text) is None:
        return []
    suffix = _suffix(path)
    if suffix in _PROSE:
        return [finding for number, line in _prose(text) if (finding := _scan_prose(number, line)) is not None]
    leaders = _LEADERS.get(suffix)
    if leaders is None:
        leaders = _HASH if posixpath.basename(path).lower() in _HASH_NAMES else (*_HASH, *_SLASH, *_MARKUP)
    lines = text.split("\n")
    starts = _starts(lines)
    findings = []
    done = 0
    for candidate in _CANDIDATE.finditer(text):
        number = bisect_right(starts, candidate.start())
        if number <= done:
            continue
        done = number
        finding = _scan_code(number, lines, suffix, leaders)
        if finding is not None:
            findings.append(finding)
    return findings


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1][1:].lower()


def _starts(lines: list[str]) -> list[int]:
    starts, at = [], 0
    for line in lines:
        starts.append(at)
        at += len(line) + 1
    return starts


def _scan_code(number: int, lines: list[str], suffix: str, leaders: tuple[str, ...]) -> Finding | None:
    line = lines[number - 1][:MAX_LINE]
    at = _comment(line, leaders)
    code = line if at < 0 else line[:at]
    for suffixes, stub in _STUBS:
        if suffix in suffixes and stub.search(code) is not None and not _is_abstract(number, lines, suffix):
            return Finding(number, "stub", Severity.FAIL, _excerpt(line))
    if _VALUE.search(code) is not None:
        return Finding(number, "PLACEHOLDER", Severity.FAIL, _excerpt(line))
    if at >= 0:
        return _marker(number, line[at:], _COMMENT_LEAD)
    # Inside a comment or a string of several lines there is no sign on this line; what is left is how it begins.
    lead = _COMMENT_LEAD.match(line)
    marker = _MARKER.match(line, lead.end() if lead else 0)
    if marker is not None and marker.group(1) and line[marker.end() : marker.end() + 1] in (":", "("):
        return _marker(number, line, _COMMENT_LEAD)
    return None


def _marker(number: int, text: str, lead: re.Pattern[str]) -> Finding | None:
    begin = lead.match(text)
    first = begin.end() if begin else 0
    for marker in _MARKER.finditer(text):
        if marker.start() == first or text[marker.end() : marker.end() + 1] in (":", "("):
            word = marker.group().upper()
            documented = word != "PLACEHOLDER" and _DOCUMENTED.match(text, marker.end()) is not None
            severity = Severity.WARNING if documented else Severity.FAIL
            return Finding(number, word, severity, _excerpt(text[marker.start() :]))
    return None


def _scan_prose(number: int, line: str) -> Finding | None:
    comment = line.find("<!--")
    if comment >= 0:
        found = _marker(number, line[comment:], _COMMENT_LEAD)
        if found is not None:
            return found
    lead = _PROSE_LEAD.match(line)
    marker = _MARKER.match(line, lead.end() if lead else 0)
    if marker is None or not re.match(r"[*_]{2,3}|[:(]|\s*$|\s+[-–—#]", line[marker.end() :]):
        return None
    return _marker(number, line[marker.start() :], _COMMENT_LEAD)


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text outside of fenced code, each without its code spans."""
    fence = ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line[:MAX_LINE].strip()
        if fence:
            if stripped and stripped == fence[0] * len(stripped) and len(stripped) >= len(fence):
                fence = ""
            continue
        opening = re.match(r"(`{3,}|~{3,})", stripped)
        if opening is not None:
            fence = opening.group()
        elif _CANDIDATE.search(stripped) is not None:
            yield number, re.sub(r"`[^`]*`", "", stripped)


def _comment(line: str, leaders: tuple[str, ...]) -> int:
    """Where the comment of a line begins; -1 when it has none. Signs inside of strings do not count."""
    at = 0
    while at < len(line):
        char = line[at]
        if char in "\"'`":
            end = _string_end(line, at)
            if end > 0:
                at = end
                continue
        if any(line.startswith(leader, at) for leader in leaders):
            return at
        if char == "*" and "/*" in leaders and not line[:at].strip():
            return at  # a line within a block comment, by the usual layout
        at += 1
    return -1


def _string_end(line: str, at: int) -> int:
    """The place behind the string that begins here; 0 when it does not end on this line (an apostrophe, say)."""
    quote = line[at]
    at += 1
    while at < len(line):
        if line[at] == "\\":
            at += 2
            continue
        if line[at] == quote:
            return at + 1
        at += 1
    return 0


def _is_abstract(number: int, lines: list[str], suffix: str) -> bool:
    """Whether a Python stub is the body of a method that is declared abstract: that is what it is for."""
    if suffix not in ("py", "pyi", "pyx"):
        return False
    body = _indent(lines[number - 1])
    for above in range(number - 2, max(-1, number - 2 - _MAX_LOOK_BACK), -1):
        line = lines[above]
        if not line.strip() or _indent(line) >= body:
            continue
        if not re.match(r"\s*(?:async\s+)?def\s", line[:MAX_LINE]):
            if line.strip()[:1] in ")]}":
                body = _indent(line) + 1  # the end of a signature that takes several lines
                continue
            return False
        for decorator in range(above - 1, max(-1, above - 10), -1):
            text = lines[decorator].strip()
            if not text.startswith("@"):
                return False
            if re.match(r"@(?:abc\.)?(?:abstract\w*|overload|typing\.overload)\b", text):
                return True
        return False
    return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_EXCERPT else text[: _MAX_EXCERPT - 1] + "…"
