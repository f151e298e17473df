"""Commands that pages offer to be copied. A clipboard is a way into a terminal: every word is either written here or a
name that the engine has checked, quoted, on one line. What agents wrote never becomes a part of a command."""

from __future__ import annotations

import re
import shlex

from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.identity import is_name, is_namespace

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PLAN = re.compile(r"[0-9a-f]{8,64}|sha256:[0-9a-f]{8,64}")
_SERVER = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,200}")
_LINE = re.compile(r"[\x20-\x7e]{1,400}")
WHY = "--reason '...'"
"""What a person fills in before the command is run."""


class Commands:
    """Builds command lines. ``program`` are the words that call Remit, quoted for a shell already."""

    def __init__(self, program: str = "remit", *, server: str = "") -> None:
        if not _LINE.fullmatch(program):
            raise ValueError("the words that call this program are one line of plain characters")
        self._program = program
        self._server = server if _SERVER.fullmatch(server) else ""

    def verb(self, *words: str, key: Key | None = None, target: str = "", end: str = "") -> str:
        """``remit WORDS TARGET -n NAMESPACE END``; "" when the name of ``key`` is none that can be trusted. ``words``
        and ``end`` are texts of the source code."""
        parts = [*words]
        where: list[str] = []
        if key is not None:
            if not _is_clean(key):
                return ""
            parts.append(target or f"{key.kind.lower()}/{key.name}")
            where = ["-n", key.namespace] if key.namespace not in ("", DEFAULT_NAMESPACE) else []
        line = " ".join([self._program, shlex.join([*parts, *where])])
        line = f"{line} {end}" if end else line
        return line if _LINE.fullmatch(line) else ""

    def answer(self, verb: str, request: Key, digest: str, *, end: str = "") -> str:
        """``remit approve NAME --digest 12 digits``: the digest ties the answer to what was read. "" without a good
        one."""
        found = _DIGEST.fullmatch(digest)
        if found is None or not _is_clean(request):
            return ""
        where = ["-n", request.namespace] if request.namespace not in ("", DEFAULT_NAMESPACE) else []
        line = f"{self._program} {shlex.join([verb, request.name, '--digest', found[1][:12], *where])}"
        return f"{line} {end}" if end else line

    def kubectl(self, verb: str, plural: str, key: Key, *, end: str = "") -> str:
        """``kubectl --server URL VERB PLURAL NAME -n NAMESPACE END``: it reads from the port of these pages. "" where
        that is not known, or the name cannot be trusted."""
        if not self._server or not _is_clean(key):
            return ""
        where = ["-n", key.namespace] if key.namespace else []
        line = f"kubectl --server {self._server} {shlex.join([verb, plural, key.name, *where])}"
        return f"{line} {end}" if end else line

    def confirm(self, digest: str) -> str:
        """``remit confirm DIGEST``; "" when that is none."""
        return f"{self._program} {shlex.join(['confirm', digest])}" if _PLAN.fullmatch(digest) else ""


def _is_clean(key: Key) -> bool:
    return key.kind.isascii() and key.kind.isalpha() and is_name(key.name) and (
        not key.namespace or is_namespace(key.namespace)
    )  # fmt: skip
