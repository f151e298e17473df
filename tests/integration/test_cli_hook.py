"""``remit hook install`` and ``uninstall``: only what is ours comes and goes in an agent's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.hook_files import FILES
from cli.main import run

OTHERS = {
    "claude": {"model": "m", "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"command": "./own.sh"}]}]}},
    "codex": {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "x"}]}]}},
    "gemini": {"theme": "Dark", "hooks": {"BeforeTool": [{"hooks": [{"command": "y", "timeout": 5}]}]}},
    "cursor": {"version": 1, "hooks": {"preToolUse": [{"command": "remit-like hook"}]}},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("agent", FILES)
def test_the_hook_comes_and_goes_without_a_trace(agent: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / FILES[agent].path
    assert run(["hook", "install", agent, "--dry-run"]) == 0
    assert f"remit hook {agent}" in capsys.readouterr().out or agent == "opencode"
    assert not path.exists()
    assert run(["hook", "install", agent]) == 0
    first = path.read_text()
    assert ("hook" in first, agent in first) == (True, True)
    capsys.readouterr()
    assert run(["hook", "install", agent]) == 0
    assert "stays as it is" in capsys.readouterr().out
    assert path.read_text() == first
    assert run(["hook", "uninstall", agent]) == 0
    assert not path.exists()


@pytest.mark.parametrize("agent", OTHERS)
def test_what_others_put_there_stays(agent: str, folder: Path) -> None:
    path = folder / FILES[agent].path
    path.parent.mkdir()
    before = json.dumps(OTHERS[agent], indent=4) + "\n"
    path.write_text(before)
    path.chmod(0o600)
    assert run(["hook", "install", agent, "--wait", "30"]) == 0
    document = json.loads(path.read_text())
    assert "remit hook" in json.dumps(document)
    assert "\n    " in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(["hook", "install", agent]) == 0
    assert path.read_text().count(f"hook {agent}") == 1
    assert run(["hook", "uninstall", agent]) == 0
    assert path.read_text() == before


def test_the_agent_waits_longer_than_the_hook(folder: Path) -> None:
    assert run(["hook", "install", "claude", "--wait", "100", "--defer"]) == 0
    assert run(["hook", "install", "gemini"]) == 0
    (claude,) = json.loads((folder / FILES["claude"].path).read_text())["hooks"]["PreToolUse"]
    assert claude == {
        "matcher": "*",
        "hooks": [
            {
                "type": "command",
                "command": "remit hook claude --wait=100 --defer",
                "timeout": 160,
                "onFailure": "block",
            }
        ],
    }
    (gemini,) = json.loads((folder / FILES["gemini"].path).read_text())["hooks"]["BeforeTool"]
    assert gemini["hooks"][0]["timeout"] == 110_000  # milliseconds, other than everybody else


def test_a_file_that_cannot_be_read_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / FILES["gemini"].path
    path.parent.mkdir()
    for text in ('{"a": 1, // why\n}', "[]", '{"hooks": {"BeforeTool": {}}, "x": 1}', '{"hooks": {"BeforeTool": 3}}'):
        path.write_text(text)
        code = run(["hook", "install", "gemini"])
        said = capsys.readouterr().err
        assert path.read_text() == text or code == 0
        assert code == 0 or (code == 2 and "settings.json" in said)
    path.write_bytes(b"\xff\xfe")
    assert run(["hook", "install", "gemini"]) == 2


def test_pausing_is_for_agents_that_can_be_paused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hook", "install", "codex", "--defer"]) == 2
    assert "cannot be paused" in capsys.readouterr().err
