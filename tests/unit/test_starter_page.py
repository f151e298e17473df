"""What the links agent reads from a Markdown page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remit_client.agents.anchors import slug
from remit_client.agents.page import read_page

from tests.fakes.effort import effort


def targets(text: str) -> list[str]:
    return [link.target for link in read_page(text).links]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](b.md)", ["b.md"]),
        ("![a](b.png 'title')", ["b.png"]),
        ('[a](<b c.md> "t")', ["b c.md"]),
        ("[a](b(1).md)", ["b(1).md"]),
        ("[a](b\\(.md)", ["b(.md"]),
        ("[a](b&amp;c.md)", ["b&c.md"]),
        ("[![i](i.png)](n.md)", ["i.png", "n.md"]),
        ("[a]()", [""]),
        ("[two\nlines](b.md)", ["b.md"]),
        ("[a](\nb.md\n)", ["b.md"]),
        ("[a](b c.md)", []),
        ('[a](b.md "open)', []),
        ("\\[a](b.md)", []),
        ("a](b.md)", []),
        ('<a href="b.md">x</a> <img src=c.png>', ["b.md", "c.png"]),
        ("<https://example.org/x> and https://example.org", []),
        ("`[a](b.md)` and ``[a`](b.md)``", []),
        ("`open [a](b.md)", ["b.md"]),
        ("x <!-- [a](b.md) --> [c](d.md)", ["d.md"]),
        ("<!-- [a](b.md) --> [c](d.md)", []),
        ("[a][l]\n\n[l]: b.md", ["b.md"]),
        ("[L  X]\n\n[l x]:\n  b.md 'title'", ["b.md"]),
        ("[^1]\n\n[^1]: note [a](b.md)", ["b.md"]),
        ("| a | [b](c.md) |\n|---|---|\n| `x` | [d](e.md) |", ["c.md", "e.md"]),
        ("> quoted [a](b.md)\n> more [c](d.md)", ["b.md", "d.md"]),
        ("- item [a](b.md)\n\n  more [c](d.md)\n1. - deep [e](f.md)", ["b.md", "d.md", "f.md"]),
    ],
)
def test_links_are_found_as_commonmark_finds_them(text: str, expected: list[str]) -> None:
    assert sorted(targets(text)) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        "```\n[a](b.md)\n```",
        "~~~ sh\n[a](b.md)\n```\n[a](b.md)\n~~~",
        "````\n```\n[a](b.md)\n````",
        "- x\n  ```\n  [a](b.md)\n  ```",
        "- ```\n  [a](b.md)\n  ```",
        "> ```\n> [a](b.md)\n> ```",
        "para\n\n    [a](b.md)",
        "- x\n\n      [a](b.md)",
        "<!--\n[a](b.md)\n\n[a](b.md)\n-->",
        "<pre>\n[a](b.md)\n</pre>",
        "---\nlink: '[a](b.md)'\n---\n",
        "```\n[a](b.md)",
        "\t[a](b.md)",
    ],
)
def test_code_comments_and_front_matter_hold_no_links(text: str) -> None:
    assert targets(text) == []


def test_text_after_code_is_read_again() -> None:
    text = "```\nx\n```\n[a](a.md)\n\n    code\n\n[b](b.md)\n> ```\n> x\n[c](c.md)\n\n- ```\n  x\n[d](d.md)\n"
    assert targets(text) == ["a.md", "b.md", "c.md", "d.md"]


def test_lines_are_those_of_the_file() -> None:
    text = "---\na: b\n---\n\n# T\n\n[a](1.md)\nmore [b](2.md)\n\n```\n\n```\n> - [c](3.md)\n\n[d]: 4.md\n"
    assert [(link.line, link.target) for link in read_page(text).links] == [
        (7, "1.md"),
        (8, "2.md"),
        (13, "3.md"),
        (15, "4.md"),
    ]


def test_a_reference_that_nothing_defines_is_told_but_an_index_in_a_sentence_is_not() -> None:
    page = read_page("[text][nowhere] and array[i][j] and [x] and [ ] and [text][yes]\n\n[yes]: a.md\n")
    assert [(u.line, u.label) for u in page.undefined] == [(1, "nowhere")]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("# Hello, World!", "hello-world"),
        ("## What's new?", "whats-new"),
        ("### `code_span` & more ###", "code_span--more"),
        ("# [A link](x.md) here", "a-link-here"),
        ("# **Bold** and _em_", "bold-and-em"),
        ("# snake_case_name", "snake_case_name"),
        ("# Grüße – öffnen", "grüße--öffnen"),
        ("# a  b", "a--b"),
        ("# C# and <b>tags</b>", "c-and-tags"),
        ("# AT&amp;T", "att"),
        ("Setext\n======", "setext"),
        ("Two\nlines\n---", "two-lines"),
        ("> # Quoted", "quoted"),
        ("- # In a list", "in-a-list"),
        ("# हिन्दी", "हिन्दी"),
        ("# ![logo](l.png) Name", "name"),
    ],
)
def test_headings_get_the_anchors_that_github_gives(heading: str, anchor: str) -> None:
    assert anchor in read_page(heading).anchors


def test_equal_headings_are_numbered_without_clashes() -> None:
    assert read_page("# Use\n# Use\n# Use-1\n# use\n").anchors == {"use", "use-1", "use-1-1", "use-2"}


def test_ids_and_names_of_html_are_anchors() -> None:
    assert {"one", "two"} <= read_page('<a name="one"></a> text <h2 id=two>x</h2>').anchors


def test_headings_in_code_are_no_anchors() -> None:
    assert read_page("```\n# no\n```\n\n    # no\n").anchors == set()


@given(st.text(alphabet="[]()<>`#-*_!\\\n >\"'ab:|~ \t1.", max_size=300))
def test_any_text_can_be_read_and_lines_stay_within_it(text: str) -> None:
    page = read_page(text)
    assert all(1 <= link.line <= text.count("\n") + 1 for link in page.links)


@given(st.text(max_size=200))
def test_an_anchor_has_no_space_and_no_upper_case(text: str) -> None:
    anchor = slug(text)
    assert " " not in anchor
    assert "#" not in anchor


SLOW = ["[", "]", "[](", '[](a "', "[](a (", "[](<a", "![", "[a][", "`a``b", "<a ", "<!--", "> ", "- ", "\n- a", "# _a",
        "\\", "<", "((", "a\n==\n", "[a]:\n", "```\n", "- ```\n", "<pre>\n", "<a x=", "\t"]  # fmt: skip


@pytest.mark.parametrize("piece", SLOW)
def test_a_page_made_to_be_slow_takes_time_in_proportion_to_its_size(piece: str) -> None:
    """Eight times the text may take at most some twenty times as long: a quadratic reader would take sixty-four."""

    def took(size: int) -> float:
        text = "x\n\n" + piece * (size // len(piece))
        return effort(lambda: read_page(text))

    small = max(took(8_000), 0.002)
    assert took(64_000) < 24 * small + 0.05
