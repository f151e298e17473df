"""Every test that the pages of faults and of conformance scenarios name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPLAINED = ROOT / "docs" / "explanation"
PAGES = [EXPLAINED / "faults.md", EXPLAINED / "conformance.md"]
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_named_test_exists(page: Path) -> None:
    named = _NAMED.findall(page.read_text())
    assert len(named) > 40
    missing = [f"{file}::{name}" for file, name in named if name not in defined(ROOT / file)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_names_a_test(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and " | test |" not in line]
    assert [row for row in rows if not _NAMED.search(row)] == []


def test_every_scenario_has_a_test() -> None:
    text = PAGES[1].read_text()
    shown = {int(number) for number in re.findall(r"^\| (\d+) ", text, re.MULTILINE)}
    said_open = {int(number) for number in re.findall(r"^Open: (\d+)", text, re.MULTILINE)}
    assert shown | said_open == set(range(1, 29))
    assert not shown & said_open


def defined(file: Path) -> set[str]:
    """Names of the functions in a module; empty when it is not there."""
    if not file.is_file():
        return set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, functions)}
