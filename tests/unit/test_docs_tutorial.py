"""What the README and the tutorial show of the starter fleet is what is shipped, and the tutorial's file fits its
output."""

from __future__ import annotations

import re

from cli.compiling import compile_folder, compile_text
from tests.fakes.pages import ROOT, page

TUTORIAL = page("docs/tutorial/first-fleet.md")
README = page("README.md")
STARTER = ROOT / "specs" / "starter"


def _starter() -> list[tuple[str, str]]:
    return [(item.kind, item.name) for unit in compile_folder(STARTER) for item in unit.declared]


def _shown(text: str, pattern: str) -> list[int]:
    return [int(number) for number in re.findall(pattern, text)]


def test_the_starter_fleet_is_as_large_as_shown() -> None:
    count = len(_starter())
    for where in (README, TUTORIAL):
        assert set(_shown(where.text, r"(\d+) created")) == {count}
    assert _shown(TUTORIAL.text, r"(\d+) objects valid") == [count]
    files = len(list(STARTER.rglob("*.yaml")))
    assert _shown(TUTORIAL.text, r"git repository of (\d+) files") == [files + 1], "with the README of the specs"


def test_the_fleet_has_six_agents_as_the_readme_says() -> None:
    assert sum(kind == "Agent" for kind, _ in _starter()) == 6
    assert "Six small programs" in README.text


def test_missions_and_agents_that_are_shown_exist() -> None:
    known = {name for _, name in _starter()} | {"counter", "count-readme"}
    for where in (README, TUTORIAL):
        named = re.findall(r"(?:mission|agent)/([a-z][a-z-]+)(?![\w/-]*\.md)", where.text)
        assert named
        assert sorted(set(named) - known) == []
    table = next(b.text for b in TUTORIAL.blocks if "WAITS FOR" in b.text)
    rows = [line.split()[0] for line in table.splitlines()[2:]]
    assert sorted(rows) == sorted(name for kind, name in _starter() if kind == "Mission")


def test_the_plan_that_the_tutorial_shows_names_the_lines_of_its_file() -> None:
    (file,) = [b.text for b in TUTORIAL.blocks if b.info == "yaml"]
    unit = compile_text(file.encode(), "counter.yaml")
    places = {f"{d.key.short}  {d.provenance.place}" for d in unit.declared if d.provenance is not None}
    plan = next(b.text for b in TUTORIAL.blocks if "planDigest" in b.text)
    assert {line[2:] for line in plan.splitlines() if line.startswith("+ ")} == places
    assert f"{len(unit.declared)} to create" in plan


def test_the_mistake_that_the_tutorial_makes_is_found_where_it_says() -> None:
    (file,) = [b.text for b in TUTORIAL.blocks if b.info == "yaml"]
    unit = compile_text(file.replace("title:", "titel:").encode(), "counter.yaml")
    shown = next(b.text for b in TUTORIAL.blocks if "titel" in b.text)
    places = re.findall(r"counter\.yaml:(\d+):(\d+)", shown)
    assert places
    assert {(str(d.line), str(d.column)) for d in unit.diagnostics} >= set(places)
    assert all("did you mean title?" in str(d) for d in unit.diagnostics if "titel" in d.field)
