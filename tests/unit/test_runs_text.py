"""Texts of agents: cut, cleaned, kept."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from controllers.runs.text import clean, line

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=200)


@given(ANYTHING, st.integers(1, 50))
def test_what_is_cleaned_is_short_safe_and_stays_as_it_is(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    cleaned.encode()
    assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") for c in cleaned)
    assert clean(cleaned, limit) == cleaned


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=50))
def test_plain_text_is_kept(text: str) -> None:
    assert clean(text) == text


def test_terminal_escapes_and_reordering_marks_go() -> None:
    assert clean("\x1b[31mred\x1b[0m \x9b2J\x07 a\u202eb\u2066c") == "[31mred[0m 2J abc"


def test_line_ends_become_one_kind() -> None:
    assert clean("a\r\nb\rc\n\td\0") == "a\nb\nc\n\td"


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    assert clean("a\ud800b") == "a\ufffdb"


def test_a_cut_is_marked() -> None:
    assert clean("abcdef", 4) == "abc…"
    assert clean("abcd", 4) == "abcd"


def test_cutting_a_huge_text_does_not_walk_all_of_it() -> None:
    assert clean("x" * 50_000_000, 10) == "x" * 9 + "…"


def test_a_line_has_no_line_ends() -> None:
    assert line(" a\n\n b\t\x00c ", 20) == "a b c"
    assert line("x" * 300, 100) == "x" * 99 + "…"
