"""The drawing in docs/architecture.md is the house as it stands, and the walls of .importlinter are drawn in it."""

from __future__ import annotations

import configparser
import re

from tests.fakes.pages import ROOT, page, rows

ARCHITECTURE = page("docs/architecture.md")


def _drawing() -> str:
    return next(b.text for b in ARCHITECTURE.blocks if b.info == "text" and "runtime" in b.text)


def _layers(contract: str) -> list[set[str]]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    lines = parser[f"importlinter:contract:{contract}"]["layers"].split("\n")
    return [{part.strip().rpartition(".")[2] for part in line.split("|")} for line in lines if line.strip()]


def _names(line: str) -> set[str]:
    """The packages at the beginning of a line, several with ``|`` between them."""
    words = re.split(r" {3,}", line.strip())[0]
    return {word.strip() for word in words.split("|")}


def test_the_drawing_has_the_layers_of_the_import_contract_in_their_order() -> None:
    drawn = [_names(line) for line in _drawing().splitlines() if re.match(r"[a-z]", line)]
    assert drawn == _layers("layers")


def test_the_drawing_has_the_layers_inside_controllers_in_their_order() -> None:
    drawn = [_names(re.sub(r"[│└─]", " ", line)) for line in _drawing().splitlines() if re.match(r" │ +[└a-z]", line)]
    assert drawn == _layers("controllers")


def test_every_part_of_controllers_is_drawn() -> None:
    folder = ROOT / "controllers"
    parts = {p.name for p in folder.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    parts |= {p.stem for p in folder.glob("*.py")} - {"__init__"}
    drawn = set().union(*_layers("controllers"))
    assert parts == drawn
    assert [name for name in sorted(parts) if name not in _drawing()] == []


def test_every_folder_is_in_the_table_and_there() -> None:
    shown = {row[0].strip("`/") for row in rows(ARCHITECTURE.section("The folders"))[1:]}
    built = {"dist", "build"}
    there = {
        folder.name
        for folder in ROOT.iterdir()
        if folder.is_dir()
        and not folder.name.startswith((".", "_"))
        and folder.name not in built
        and any(p.is_file() and "__pycache__" not in p.parts for p in folder.rglob("*"))
    }
    assert shown == there


def test_every_folder_of_tests_is_listed_where_the_drawing_points() -> None:
    shown = {row[0].strip("`") for row in rows(page("CONTRIBUTING.md").section("Tests"))[1:]}
    there = {
        f"tests/{p.name}"
        for p in (ROOT / "tests").iterdir()
        if p.is_dir() and p.name not in ("fakes", "__pycache__") and any(p.rglob("*.py"))
    }
    assert there <= shown


def test_modules_that_the_page_names_exist() -> None:
    named = re.findall(r"`((?:controllers|store|decisions|schemas|api|cli|tests)/[\w/]+(?:\.py)?)`", ARCHITECTURE.text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
