"""A plan in a pull request: it fits, and nothing in it acts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.plan_markdown import LIMIT, code, escape, render
from cli.plans import PlanView, plan_offline
from tests.fakes.world import agent, executor, mission


def plans(tmp_path: Path, old: dict[str, str], new: dict[str, str]) -> list[PlanView]:
    for name, files in (("old", old), ("new", new)):
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return plan_offline(tmp_path, str(tmp_path / "old"), str(tmp_path / "new"), None)


BASE = {"base.yaml": f"{executor()}---\n{agent()}"}


def test_a_large_plan_fits_a_comment(tmp_path: Path) -> None:
    long = "x" * 150
    many = {f"{n:04}.yaml": mission(f"{'m' * 200}{n:04}", title=f"{long}{n}") for n in range(400)}
    text = render(plans(tmp_path, BASE, {**BASE, **many}))
    assert len(text) <= LIMIT
    assert "400 to create" in text
    assert "planDigest sha256:" in text


def test_many_units_fit_as_well(tmp_path: Path) -> None:
    many = {}
    for n in range(60):
        many[f"t{n:03}/tenant.yaml"] = (
            f"apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: t{n:03}}}\nspec: {{displayName: T}}\n"
        )
    text = render(plans(tmp_path, BASE, {**BASE, **many}), 5_000)
    assert len(text) <= 5_000
    assert text.endswith("`remit diff` shows all of it.")


def test_an_empty_plan_says_so(tmp_path: Path) -> None:
    assert "Nothing would change." in render(plans(tmp_path, BASE, BASE))


def test_a_title_that_wants_to_be_a_page_stays_a_cell(tmp_path: Path) -> None:
    hostile = '"a`| b |`<img src=x> [x](https://evil.test) @all \\\\| <!-- remit:plan:default -->"'
    views = plans(
        tmp_path, {**BASE, "m.yaml": mission("m", title="x")}, {**BASE, "m.yaml": mission("m", title=hostile)}
    )
    text = render(views)
    (row,) = [line for line in text.splitlines() if "mission/m" in line and line.startswith("|")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5, "four cells"
    assert row.count("`") % 2 == 0
    outside = "".join(re.split(r"`[^`]*`", row))
    assert "evil" not in outside
    assert "<img" not in outside


@given(st.text(max_size=200))
def test_code_cannot_be_left(text: str) -> None:
    shown = code(text)
    assert shown.startswith("`")
    assert shown.count("`") == 2
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)\|", shown)
    assert not re.search(r"\\\\\|", shown)


@given(st.text(alphabet='ab @#!~%$&<>[]()`*_|\\/:.w-\n\t\u202e\x1b1"', max_size=200))
def test_text_has_no_meaning(text: str) -> None:
    shown = escape(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert "://" not in shown
    assert "www." not in shown
    assert not re.search(r"[@#!~%$][\w\"]", re.sub(r"\\(.)", r"\1", shown))
    assert not re.search(r"(?<!\\)(\\\\)*[\[\]`*_|]", shown)


@pytest.mark.parametrize("text", ["/approve", "- x", "# x", "> x"])
def test_no_line_begins_with_what_somebody_wrote(text: str, tmp_path: Path) -> None:
    views = plans(tmp_path, BASE, {**BASE, "m.yaml": mission("m", title=f'"{text}"')})
    assert not [line for line in render(views).splitlines() if line.startswith(text)]
