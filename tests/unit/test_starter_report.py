"""The report agent: one report from many deliverables, whatever they hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remit_client.agents import report
from remit_client.agents.page import read_page
from remit_client.agents.report import read_parts, render


def part(name: str, text: str | None = "x", **more: Any) -> dict[str, Any]:
    deliverable = {"name": f"{name}.md", "mediaType": "text/markdown", "text": text}
    return {"name": name, "state": "Done", "deliverable": deliverable, **more}


def rendered(*parts: dict[str, Any], **options: str) -> str:
    return render(read_parts({"dependencies": list(parts)}), **{"title": "T", "note": "", "feedback": "", **options})


def test_parts_stand_under_one_table_in_the_order_of_their_names() -> None:
    text = rendered(part("b", "# B\n\n**All good.**\n\n## More\n\n- x\n"), part("a", "# A\n\nTwo findings.\n"))
    assert text.startswith("# T\n\n**All 2 parts are in.**\n")
    assert "| a | Done | `a.md` | Two findings. |\n| b | Done | `b.md` | All good. |" in text
    assert text.index("\n## a\n") < text.index("\n## b\n")
    assert "\n### More\n" in text
    assert "# B" not in text


def test_what_is_missing_or_not_done_is_named_first() -> None:
    text = rendered(part("a"), {"name": "b", "state": "Done"}, part("c", state="Failed"))
    assert "**1 of 3 parts are in; b, c need a look.**" in text
    assert "| b | Done | none | nothing was handed in |" in text


def test_a_mission_without_dependencies_says_so() -> None:
    assert "this mission depends on no other" in rendered()
    assert "this mission depends on no other" in render(
        read_parts({"dependencies": "x"}), title="T", note="", feedback=""
    )


@pytest.mark.parametrize("junk", [None, 5, "x", {}, {"name": 5}, []])
def test_entries_that_are_none_are_dropped(junk: object) -> None:
    assert [p.mission for p in read_parts({"dependencies": [junk, part("a")]})] == ["a"]


@pytest.mark.parametrize("deliverable", [None, 5, {}, {"text": 5}])
def test_a_deliverable_that_is_no_text_is_told(deliverable: object) -> None:
    assert "Nothing was handed in." in rendered({"name": "a", "state": "Done", "deliverable": deliverable})


def test_a_deliverable_that_was_not_passed_on_counts_as_handed_in() -> None:
    text = rendered({"name": "a", "state": "Done", "deliverable": {"name": "big.md", "size": 1 << 30}})
    assert "**The part is in.**" in text
    assert "| a | Done | `big.md` | not text, or too long to be passed on |" in text


def test_an_open_fence_of_one_part_does_not_swallow_the_next() -> None:
    text = rendered(part("a", "```sh\n# not a heading\n## nor this"), part("b", "[x](y)"))
    assert "# not a heading\n## nor this\n```\n" in text
    assert "b" in read_page(text).anchors


def test_an_open_comment_of_one_part_does_not_hide_the_next() -> None:
    assert "b" in read_page(rendered(part("a", "<!-- hidden\n"), part("b"))).anchors


@given(st.text(alphabet="`~<!-#> ab\n\t|*[]()\x00\ud800", max_size=120))
def test_no_part_can_swallow_the_next(text: str) -> None:
    result = rendered(part("a", text), part("zz-last", "the end"))
    result.encode()
    assert result.endswith("\n## zz-last\n\nthe end\n")
    assert "zz-last" in read_page(result).anchors


def test_text_that_is_no_markdown_stands_in_a_fence_longer_than_its_own() -> None:
    item = part("a", "````\n# x\n")
    item["deliverable"]["mediaType"] = "text/plain; charset=utf-8"
    assert "`````\n````\n# x\n`````" in rendered(item)


def test_names_and_states_cannot_forge_the_table() -> None:
    text = rendered(part("a|b\n# c", "x", state="Done | **x**"))
    assert "| a\\|b \\# c | Done \\| \\*\\*x\\*\\* |" in text


def test_remarks_of_the_reviewer_and_a_note_are_shown() -> None:
    text = rendered(part("a"), note="For *all*.", feedback="Too long.\n# Shorten")
    assert "For \\*all\\*." in text
    assert "## Remarks of the last review\n\n> Too long.\n> \\# Shorten" in text


def test_a_part_that_is_too_long_is_cut_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_PART", 100)
    monkeypatch.setattr(report, "MAX_TOTAL", 150)
    text = rendered(part("a", "x" * 120), part("b", "y" * 120))
    assert "Cut here: 20 more characters" in text
    assert "Cut here: 70 more characters" in text


def test_headings_stop_at_the_sixth_level() -> None:
    assert "\n###### Deep\n" in rendered(part("a", "# A\n\n###### Deep\n"))
