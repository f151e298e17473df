"""The YAML and the program of the pages are what the engine takes."""

from __future__ import annotations

import ast

import pytest
import remit_client
import yaml

from cli.compiling import compile_text
from schemas.config import Config
from schemas.policy_case import CaseFile
from tests.fakes.pages import Block, pages

BLOCKS = [block for page in pages() for block in page.blocks]
YAML = [block for block in BLOCKS if block.info == "yaml"]
FRAGMENTS = [block for block in BLOCKS if block.info == "yaml fragment"]
INFOS = {
    "",
    "sh",
    "console",
    "text",
    "yaml",
    "yaml fragment",
    "yaml workflow",
    "yaml cases",
    "yaml kubernetes",
    "python",
}


def _documents(block: Block) -> list[object]:
    return list(yaml.safe_load_all(block.text))


def _is_configuration(block: Block) -> bool:
    documents = _documents(block)
    first = documents[0]
    names = {field.alias or name for name, field in Config.model_fields.items()}
    return len(documents) == 1 and isinstance(first, dict) and set(first) <= names


def test_every_block_says_what_it_is() -> None:
    assert [f"{b.place}: {b.info!r}" for b in BLOCKS if b.info not in INFOS] == []


@pytest.mark.parametrize("block", YAML, ids=lambda b: b.place)
def test_a_yaml_block_is_a_whole_spec_or_a_whole_configuration(block: Block) -> None:
    if _is_configuration(block):
        Config.model_validate(_documents(block)[0])
        return
    unit = compile_text(block.text.encode(), block.place)
    assert [str(found) for found in unit.diagnostics] == []
    assert len(unit.declared) == len(_documents(block))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.info == "yaml cases"], ids=lambda b: b.place)
def test_cases_of_policies_are_read(block: Block) -> None:
    (document,) = _documents(block)
    CaseFile.model_validate(document)


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda b: b.place)
def test_a_fragment_is_a_part_of_a_spec(block: Block) -> None:
    (document,) = _documents(block)
    assert isinstance(document, dict)
    assert set(document) <= {"metadata", "spec"}
    kind = "Agent" if "executorRef" in document["spec"] else "Mission"
    spec = document["spec"] if kind == "Agent" else {"title": "x", **document["spec"]}
    whole = {"apiVersion": "remit.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert [str(d) for d in compile_text(yaml.safe_dump(whole).encode(), block.place).diagnostics] == []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.info == "python"], ids=lambda b: b.place)
def test_a_program_uses_what_the_client_has(block: Block) -> None:
    nodes = list(ast.walk(ast.parse(block.text)))
    imports = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "remit_client"]
    assert {alias.name for node in imports for alias in node.names} <= set(remit_client.__all__)
    of_run = [
        n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "run"
    ]
    assert of_run
    assert [n.attr for n in of_run if not hasattr(remit_client.Run, n.attr)] == []
