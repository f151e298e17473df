"""The rows of a tree object that follows another one: only the bytes that differ are split.

A folder of a thousand folders is written anew for each commit below it, with one id changed. Rows are read from the
left, so what both begin with is the same rows; and where the bytes in between split into whole rows, so is what both
end with.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from controllers.sources import git_objects

Row = tuple[bytes, bytes, bytes]
"""Mode, name and binary id, as they are stored."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A tree object: its bytes, its rows, and where each row ends."""

    data: bytes
    rows: Sequence[Row]
    ends: Sequence[int]


@dataclass(frozen=True, slots=True)
class Between:
    """The rows of two trees without those that both begin and end with."""

    old: Sequence[Row]
    new: Sequence[Row]


NONE = Rows(b"", (), ())


def split(data: bytes, id_bytes: int) -> Rows:
    """All rows. Raises ValueError as ``git_objects.split_tree``."""
    rows = git_objects.split_tree(data, id_bytes)
    return Rows(data, rows, _ends(rows, 0))


def split_after(old: Rows, data: bytes, id_bytes: int) -> tuple[Rows, Between]:
    """The rows of ``data``, and what differs from ``old``. Raises ValueError as ``split``."""
    first = bisect_right(old.ends, _alike(old.data, data, len(data)))
    start = old.ends[first - 1] if first else 0
    behind = _alike(old.data[start:][::-1], data[start:][::-1], min(len(old.data), len(data)) - start)
    # The first row, from ``first`` on, that begins where the common end has begun already.
    last = max(first, bisect_left(old.ends, len(old.data) - behind) + 1)
    if last >= len(old.rows):
        last, stop = len(old.rows), len(data)
    else:
        stop = len(data) - len(old.data) + old.ends[last - 1]
    try:
        middle = git_objects.split_tree(data[start:stop], id_bytes)
    except ValueError:
        found = split(data, id_bytes)
        return found, Between(old.rows, found.rows)
    shift = len(data) - len(old.data)
    behind_ends = [end + shift for end in old.ends[last:]] if shift else old.ends[last:]
    rows = [*old.rows[:first], *middle, *old.rows[last:]]
    return Rows(data, rows, [*old.ends[:first], *_ends(middle, start), *behind_ends]), Between(
        old.rows[first:last], middle
    )  # fmt: skip


def _ends(rows: Sequence[Row], start: int) -> list[int]:
    return list(accumulate((sum(map(len, row)) + 2 for row in rows), initial=start))[1:]


def _alike(one: bytes, other: bytes, most: int) -> int:
    """How many bytes both begin with, ``most`` at most."""
    low, high = 0, min(len(one), len(other), most)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
