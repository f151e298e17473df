"""What a call of a coding agent becomes: tools and paths by the names that a Policy knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from remit_client.hooks.calls import Workspace, named


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    (tmp_path / "work" / "docs").mkdir(parents=True)
    return Workspace(str(tmp_path / "work"), str(tmp_path / "work"))


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("Bash", "shell_exec"), ("run_shell_command", "shell_exec"), ("Shell", "shell_exec"), ("Read", "read_file"),
        ("read_file", "read_file"), ("Write", "write_file"), ("MultiEdit", "write_file"), ("replace", "write_file"),
        ("WebFetch", "network_call"), ("TodoWrite", "todo_write"), ("WebSearch", "web_search"),
        ("mcp__shop__refund", "mcp:shop/refund"), ("mcp__a__b__c", "mcp:a/b__c"), ("Task", "task"),
    ],
)  # fmt: skip
def test_tools_get_the_names_that_policies_use(name: str, tool: str, place: Workspace) -> None:
    assert named(name, {}, place).tool == tool


def test_the_server_of_a_tool_is_part_of_its_name(place: Workspace) -> None:
    assert named("refund", {"a": 1}, place, server="shop").tool == "mcp:shop/refund"
    assert named("mcp__shop__refund", {}, place, server="shop").tool == "mcp:shop/refund"


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("Write", {"file_path": "{base}/docs/a.md", "content": "x"}, {"path": "docs/a.md", "content": "x"}),
        ("Write", {"file_path": "docs/../../x"}, {"path": "docs/../../x"}),
        ("Write", {"file_path": "{base}/../x"}, {"path": "{base}/../x"}),
        ("Write", {"file_path": "~/x"}, {"path": "~/x"}),
        ("Edit", {"filePath": "docs/a.md"}, {"path": "docs/a.md"}),
        ("Read", {"absolute_path": "/etc/passwd"}, {"path": "/etc/passwd"}),
        ("NotebookEdit", {"notebook_path": "{base}/n.ipynb"}, {"path": "n.ipynb"}),
        ("read_many_files", {"paths": ["docs/a", "/etc/b"]}, {"paths": ["docs/a", "/etc/b"]}),
        ("Grep", {"pattern": "x"}, {"pattern": "x", "path": "."}),
        ("Glob", {"pattern": "/etc/**"}, {"pattern": "/etc/**", "path": "/etc/**"}),
        ("Glob", {"pattern": "../**", "path": "docs"}, {"pattern": "../**", "paths": ["docs", "../**"]}),
        (
            "apply_patch",
            {"input": "*** Begin Patch\n*** Update File: docs/a\n*** Move to: /etc/b\n*** End Patch"},
            {
                "input": "*** Begin Patch\n*** Update File: docs/a\n*** Move to: /etc/b\n*** End Patch",
                "paths": ["docs/a", "/etc/b"],
            },
        ),
        ("web_fetch", {"prompt": "sum up https://a.example/x"},
         {"prompt": "sum up https://a.example/x", "url": "https://a.example/x"}),
        ("Bash", {"command": "ls", "run_in_background": False}, {"command": "ls"}),
        ("Bash", {"command": "ls", "run_in_background": True}, {"command": "ls", "run_in_background": True}),
        ("bash", {"command": "ls", "workdir": "docs"}, {"command": "ls", "cwd": "docs"}),
        ("bash", {"command": "ls", "workdir": "/etc"}, {"command": "ls", "cwd": "/etc"}),
    ],
)  # fmt: skip
def test_paths_count_from_the_workspace(
    tool: str, arguments: dict[str, Any], expected: dict[str, Any], place: Workspace
) -> None:
    base = place.base

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{base}", base)
        return {k: filled(v) for k, v in value.items()} if isinstance(value, dict) else value

    assert named(tool, filled(arguments), place).args == filled(expected)


def test_a_link_that_leads_out_is_seen(place: Workspace) -> None:
    (Path(place.base) / "docs" / "out").symlink_to("/etc")
    assert named("Write", {"file_path": "docs/out/passwd"}, place).args["path"] == "/etc/passwd"


def test_an_agent_that_went_elsewhere_does_not_move_the_workspace(place: Workspace) -> None:
    inside = Workspace(place.base, f"{place.base}/docs")
    assert named("Write", {"file_path": "a.md"}, inside).args == {"path": "docs/a.md"}
    assert named("Bash", {"command": "ls"}, inside).args == {"command": "ls", "cwd": "docs"}
    outside = Workspace(place.base, "/etc")
    assert named("Write", {"file_path": "passwd"}, outside).args == {"path": "/etc/passwd"}
    assert named("Bash", {"command": "ls"}, outside).args == {"command": "ls", "cwd": "/etc"}


@pytest.mark.parametrize("arguments", ["text", ["a"], 3])
def test_arguments_that_are_no_object_are_refused(arguments: Any, place: Workspace) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        named("Bash", arguments, place)
