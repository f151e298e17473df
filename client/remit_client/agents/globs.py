"""Path patterns: ``*`` and ``?`` within a segment, ``**`` for any number of segments. Matching takes polynomial time
whatever the pattern: patterns come from specs, and a regular expression made from one could run for years."""

from __future__ import annotations

from collections.abc import Sequence

from remit_client.errors import Failure

MAX_PATTERN = 300


class Globs:
    """A set of patterns. A pattern without a slash matches the last segment anywhere (``*.md``); one with a slash is
    anchored at the root (``docs/**``). Paths are relative, with ``/``."""

    def __init__(self, patterns: Sequence[str], field: str) -> None:
        """``field`` names the input in errors. Raises Failure (InvalidInput) for patterns that cannot match."""
        self._patterns: list[list[str]] = []
        for pattern in patterns:
            parts = pattern.split("/")
            if len(pattern) > MAX_PATTERN or pattern.startswith("/") or ".." in parts:
                raise Failure(
                    "InvalidInput",
                    f"input.{field}: {pattern!r:.100} is not a pattern below the root of at most {MAX_PATTERN} "
                    "characters, without '..' or a leading '/'",
                )
            parts = [part for part in parts if part not in ("", ".")]
            if len(parts) == 1 and not pattern.endswith("/"):
                parts.insert(0, "**")
            elif pattern.endswith("/"):
                parts.append("**")
            self._patterns.append(parts)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, path: str) -> bool:
        """Whether any pattern matches the whole of ``path``."""
        segments = path.split("/")
        return any(_match(pattern, segments) for pattern in self._patterns)


def _match(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    # One row of the usual table at a time: reachable[i] says whether the pattern so far matches segments[:i].
    reachable = [True] + [False] * len(segments)
    for part in pattern:
        if part == "**":
            first = reachable.index(True) if True in reachable else len(reachable)
            reachable = [i >= first for i in range(len(reachable))]
        else:
            moved = [False] * len(reachable)
            for i, segment in enumerate(segments):
                moved[i + 1] = reachable[i] and _match_segment(part, segment)
            reachable = moved
    return reachable[-1]


def _match_segment(pattern: str, text: str) -> bool:
    # Greedy with one point of return, the last star: enough for wildcards, and at most len(pattern) * len(text) steps.
    p = t = 0
    star, mark = -1, 0
    while t < len(text):
        if p < len(pattern) and (pattern[p] == "?" or (pattern[p] == text[t] and pattern[p] != "*")):
            p += 1
            t += 1
        elif p < len(pattern) and pattern[p] == "*":
            star, mark = p, t
            p += 1
        elif star >= 0:
            mark += 1
            p, t = star + 1, mark
        else:
            return False
    return all(c == "*" for c in pattern[p:])
