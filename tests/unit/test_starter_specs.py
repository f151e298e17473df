"""The starter specs: valid as they stand, consistent with each other and with the programs they start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from remit_client.agents import digest, inventory, links, markers, report, tags

from schemas import registry
from schemas.jsonschema import kind_schema
from schemas.resource import Declared

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "specs/starter"
FILES = sorted(STARTER.rglob("*.yaml"))
PROGRAMS = {
    "links": links, "digest": digest, "markers": markers, "inventory": inventory, "report": report, "tags": tags,
}  # fmt: skip


def document(path: Path) -> Any:
    (value,) = yaml.safe_load_all(path.read_text())
    return value


def declared() -> dict[tuple[str, str], Declared]:
    found = {}
    for path in FILES:
        checked = registry.check_document(document(path), default_namespace="default")
        assert isinstance(checked, Declared), f"{path}: {checked}"
        found[checked.kind, checked.name] = checked
    return found


def test_there_are_six_of_everything_that_works() -> None:
    kinds = [kind for kind, _ in declared()]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "Agent": 6, "Budget": 1, "Executor": 6, "Mission": 6, "Policy": 1, "Project": 1,
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_valid_and_says_so_to_editors(path: Path) -> None:
    text = path.read_text()
    value = document(path)
    first = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert first is not None
    assert (path.parent / first.group(1)).resolve() == ROOT / f"schemas/generated/{value['kind'].lower()}.schema.json"
    jsonschema.validate(value, kind_schema(registry.by_kind(value["kind"])))
    assert path.stem == value["metadata"]["name"]
    assert all(len(line) <= 120 for line in text.split("\n"))


def test_every_reference_leads_to_something() -> None:
    objects = declared()
    for (kind, name), item in objects.items():
        spec = item.spec
        if kind == "Agent":
            assert ("Executor", spec["executorRef"]["name"]) in objects, name
        if kind == "Mission":
            assert ("Agent", spec["agentRef"]["name"]) in objects, name
            assert ("Project", spec["projectRef"]["name"]) in objects, name
            assert all(("Mission", ref["name"]) in objects for ref in spec["dependsOn"])


def test_the_report_waits_for_all_others_and_then_for_a_person() -> None:
    missions = {name: item.spec for (kind, name), item in declared().items() if kind == "Mission"}
    others = set(missions) - {"release-report", "tag-release"}
    assert {ref["name"] for ref in missions["release-report"]["dependsOn"]} == others
    assert missions["release-report"]["review"] == "Human"
    assert {missions[name]["review"] for name in others} == {"None", "Auto"}
    assert missions["tag-release"]["dependsOn"] == []
    assert missions["tag-release"]["review"] == "None"
    retry = missions["build-index"]["retry"]
    assert (retry["maxAttempts"], retry["backoff"]["initial"]) == (3, "1s")


def test_every_executor_starts_a_program_that_exists() -> None:
    programs = {
        item.spec["command"]["argv"][-1].rpartition(".")[2]
        for (kind, _), item in declared().items()
        if kind == "Executor"
    }
    assert programs == set(PROGRAMS)
    for (kind, _), item in declared().items():
        if kind == "Executor":
            assert item.spec["command"]["argv"][:3] == ["python3", "-P", "-m"]
            assert (item.spec["command"]["workingDir"], item.spec["command"]["outputFormat"]) == (".", "Remit")


def known_options(module: Any) -> set[str]:
    source = Path(module.__file__).read_text()
    names = set(re.findall(r'options\.(?:text|flag|whole|choice|texts)\(\s*"(\w+)"', source))
    return names | {"timeLimitSeconds"} | ({"root"} if "task.root()" in source else set())


def test_the_input_schemas_name_exactly_the_options_of_the_programs() -> None:
    objects = declared()
    for (kind, name), item in objects.items():
        if kind == "Agent":
            executor = objects["Executor", item.spec["executorRef"]["name"]]
            module = PROGRAMS[executor.spec["command"]["argv"][-1].rpartition(".")[2]]
            schema = item.spec["inputSchema"]
            assert set(schema["properties"]) == known_options(module), name
            assert schema["additionalProperties"] is False


def test_the_inputs_of_the_missions_meet_their_agents_schemas() -> None:
    objects = declared()
    for (kind, _), item in objects.items():
        if kind == "Mission":
            agent = objects["Agent", item.spec["agentRef"]["name"]]
            jsonschema.validate(item.spec["input"], agent.spec["inputSchema"])
