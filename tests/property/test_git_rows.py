"""The rows of a tree that follows another one are those of the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controllers.sources import git_rows

rows = st.lists(
    st.tuples(
        st.sampled_from([b"100644", b"40000"]),
        st.sampled_from([b"a", b"b", b"ab", b"100644 a"]),
        st.sampled_from([b"1" * 20, b"2" * 20, b"1" * 19 + b"2", b"\0" * 20, b"100644 a\0" + b"1" * 11]),
    ),
    max_size=6,
)


def stored(those: list[git_rows.Row]) -> bytes:
    return b"".join(b"%s %s\0%s" % row for row in those)


@given(rows, rows, rows, rows)
def test_what_is_split_after_another_is_what_is_split_whole(
    head: list[git_rows.Row], old: list[git_rows.Row], new: list[git_rows.Row], tail: list[git_rows.Row]
) -> None:
    before = git_rows.split(stored([*head, *old, *tail]), 20)
    data = stored([*head, *new, *tail])
    found, between = git_rows.split_after(before, data, 20)
    whole = git_rows.split(data, 20)
    assert (found.data, list(found.rows), list(found.ends)) == (data, [*head, *new, *tail], list(whole.ends))
    assert set(before.rows) - set(found.rows) <= set(between.old)
    assert set(found.rows) - set(before.rows) <= set(between.new)
    assert len(between.new) - len(between.old) == len(new) - len(old)
