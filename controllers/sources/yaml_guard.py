"""The gate before the YAML parser: which bytes it may see at all.

The parser is C code, and code built on it has died of deep nesting: a file of some 30,000 ``[`` ends the process when
nodes are composed recursively. So nothing reaches it before these checks, all of them linear and most a single pass
in C. They bound what nesting a file *could* have without understanding it: a flow collection needs a ``[`` or ``{``
each, and a block collection starts at a column that only spaces and indicators can have led to. The exact depth is
then counted by the reader, event by event, without recursion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from controllers.sources.findings import WHOLE_FILE, Findings, Position, excerpt

BOM = b"\xef\xbb\xbf"
_MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may be. Sizes are bytes of UTF-8; counts hold for the whole file unless said otherwise."""

    max_bytes: int = 4 * 1024 * 1024
    """Size of the file, and (in characters) of what its aliases repeat."""
    max_documents: int = 1000
    """Documents, empty ones included."""
    max_depth: int = 64
    """Collections inside one another, aliases written out."""
    max_values: int = 200_000
    """Values, collections included, aliases written out."""
    max_openers: int = 10_000
    """``[`` and ``{`` in one document, wherever they stand: what bounds flow nesting before parsing."""
    max_lead: int = 4096
    """Length of a run of spaces and block indicators: what bounds block nesting before parsing."""
    max_directives: int = 16
    """Lines that begin with ``%``; the parser compares each %TAG with every other."""
    max_findings: int = 100
    """Diagnostics kept of one file."""

    def __post_init__(self) -> None:
        if self.max_bytes > _MAX_BYTES:
            raise ValueError(f"max_bytes is at most {_MAX_BYTES}: places hold columns of 24 bits")


DEFAULT = Limits()


# Between these, flow collections cannot nest: the parser ends the document, or the file with an error, at each.
_BOUNDARY = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_DIRECTIVE = re.compile(rb"^%", re.MULTILINE)
_CONTROLS = bytes(b for b in (*range(0x20), 0x7F) if b not in b"\t\n\r")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONE_RETURN = re.compile(rb"\r(?!\n)")
# Beyond ASCII: C1 controls, the byte order mark, surrogates and non-characters are not YAML. U+0085, U+2028 and U+2029
# end a line for YAML 1.1 and do not for 1.2, so that a tool may see a field where a reader sees a comment.
_UNREADABLE = re.compile("[\x80-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_LEAD = bytes.maketrans(b"\t-?:", b"    ")


def admit(data: bytes, findings: Findings, limits: Limits) -> tuple[bytes, str] | None:
    """The file without byte order mark, as bytes and as text; None, with a finding, when it must not be parsed."""
    if len(data) > limits.max_bytes:
        findings.add(
            WHOLE_FILE,
            f"the file has {len(data)} bytes",
            expected=f"at most {limits.max_bytes} bytes",
            hint="split it into several files",
        )
        return None
    data = data.removeprefix(BOM)
    text = _decode(data, findings)
    if text is None or not _nesting_is_bounded(data, findings, limits):
        return None
    return data, text


def _decode(data: bytes, findings: Findings) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (data[1:2] == b"\0" and data[3:4] == b"\0"):
        findings.add(WHOLE_FILE, "the file is not UTF-8 but looks like UTF-16 or UTF-32", hint="save it as UTF-8")
        return None
    # Deleting is one fast pass; the slower search runs only when there is something to find.
    if len(data.translate(None, _CONTROLS)) != len(data) and (control := _CONTROL.search(data)) is not None:
        offset = control.start()
        what = "a NUL byte" if data[offset] == 0 else f"the control character 0x{data[offset]:02x}"
        findings.add(_at(data, offset), f"{what} is not text", hint='in a text write it as an escape, "\\x1b"')
        return None
    if b"\r" in data and (lone := _LONE_RETURN.search(data)) is not None:
        findings.add(
            _at(data, lone.start()),
            "a carriage return without a line feed",
            hint="it hides a line from some readers; end lines with LF or CRLF",
        )
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        findings.add(
            _at(data, error.start),
            f"the byte 0x{data[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8; if it was cut off, restore it",
        )
        return None
    if not data.isascii() and (bad := _UNREADABLE.search(text)) is not None:
        findings.add(
            _at(data, len(text[: bad.start()].encode())),
            f"the character {excerpt(bad.group())} is not allowed here",
            hint="remove it, or write it as an escape inside double quotes",
        )
        return None
    return text


def _nesting_is_bounded(data: bytes, findings: Findings, limits: Limits) -> bool:
    if data.count(b"[") + data.count(b"{") > limits.max_openers:
        start = 0
        for end in [match.start() for match in _BOUNDARY.finditer(data)] + [len(data)]:
            if data.count(b"[", start, end) + data.count(b"{", start, end) > limits.max_openers:
                findings.add(
                    _at(data, start),
                    f"one document with more than {limits.max_openers} brackets",
                    expected=f"at most {limits.max_openers} [ and {{ in one document",
                    hint="split it into several documents",
                )
                return False
            start = end
    if len(data) > limits.max_lead:
        lead = data.translate(_LEAD).find(b" " * limits.max_lead)
        if lead >= 0:
            findings.add(_at(data, lead), f"a run of {limits.max_lead} spaces or block indicators")
            return False
    if b"\n%" in data and len(_DIRECTIVE.findall(data)) > limits.max_directives:
        findings.add(WHOLE_FILE, f"more than {limits.max_directives} lines begin with %")
        return False
    return True


def _at(data: bytes, offset: int) -> Position:
    begin = data.rfind(b"\n", 0, offset) + 1
    return Position(data.count(b"\n", 0, offset) + 1, len(data[begin:offset].decode(errors="replace")) + 1)
