"""Every example validates, in the engine and in an editor, and together they make one tenant without loose ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from decisions.references import references
from schemas import registry
from schemas.base import Key
from schemas.executor import ExecutorType, OutputFormat
from schemas.jsonschema import combined_schema
from schemas.resource import Declared

FOLDER = Path(__file__).parents[2] / "specs" / "examples"
FILES = sorted(FOLDER.glob("*.yaml"))
EACH = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def everything() -> dict[Key, Declared]:
    found: dict[Key, Declared] = {}
    for path in FILES:
        for document in documents(path):
            declared = registry.check_document(document, default_namespace="default")
            assert isinstance(declared, Declared), [f"{path.name}: {problem}" for problem in declared]
            assert declared.key not in found, f"{declared.key} stands twice"
            found[declared.key] = declared
    return found


@EACH
def test_an_example_is_accepted(path: Path) -> None:
    assert documents(path)
    for document in documents(path):
        checked = registry.check_document(document, default_namespace="default")
        assert isinstance(checked, Declared), [str(problem) for problem in checked]


@EACH
def test_an_editor_accepts_an_example(path: Path) -> None:
    validator = jsonschema.Draft7Validator(combined_schema())
    for document in documents(path):
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)] == []


@EACH
def test_an_example_begins_with_the_line_that_editors_look_for(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve().is_file()


@EACH
def test_an_example_explains_itself_and_fits_the_page(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("# ")
    assert max(map(len, lines)) <= 120


def test_every_declarable_kind_and_every_executor_is_shown() -> None:
    found = everything()
    assert {key.kind for key in found} == set(registry.DECLARABLE)
    executors = [declared.spec for key, declared in found.items() if key.kind == "Executor"]
    assert {spec["type"] for spec in executors} == {str(type_) for type_ in ExecutorType}
    formats = {spec["command"]["outputFormat"] for spec in executors if "command" in spec}
    assert {str(output) for output in OutputFormat} - {"Text"} == formats


def test_every_agent_program_comes_with_an_executor_an_agent_and_a_mission() -> None:
    for stem in ("claude-code", "codex", "gemini", "opencode", "openclaw", "a2a", "http-worker", "kubernetes-job"):
        assert [document["kind"] for document in documents(FOLDER / f"{stem}.yaml")] == ["Executor", "Agent", "Mission"]


def test_the_examples_make_one_tenant_and_every_reference_leads_somewhere() -> None:
    found = everything()
    tenants = [key for key in found if key.kind == "Tenant"]
    assert [tenant.name for tenant in tenants] == ["acme"]
    assert {key.namespace for key in found} == {"", "acme"}
    for key, declared in found.items():
        for reference in references(key.namespace or key.name, declared.spec):
            assert reference.target in found, f"{key}: {reference.field} names {reference.target}"


def test_no_example_holds_a_secret_in_plain_text() -> None:
    token = re.compile(r"\b(sk-|xox[bp]-|ghp_|AKIA)\w|BEGIN [A-Z ]*PRIVATE KEY|[Pp]assword: [^{]")
    assert [path.name for path in FILES if token.search(path.read_text(encoding="utf-8"))] == []
