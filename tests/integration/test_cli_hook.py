"""``remit hook install`` and ``uninstall``: only what is ours comes and goes in an agent's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from remit_client.hooks.settings import FILES

from cli.main import run

OTHERS = {
    "claude": {"model": "m", "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"command": "./own.sh"}]}]}},
    "codex": {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "x"}]}]}},
    "gemini": {"theme": "Dark", "hooks": {"BeforeTool": [{"hooks": [{"command": "y", "timeout": 5}]}]}},
    "cursor": {"version": 1, "hooks": {"preToolUse": [{"command": "remit-like hook"}]}},
    "openclaw": {"plugins": {"allow": ["own"], "load": {"paths": ["/own"]}, "entries": {"own": {"enabled": True}}}},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("agent", FILES)
def test_the_hook_comes_and_goes_without_a_trace(agent: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / FILES[agent].path
    assert run(["hook", "install", agent, "--dry-run"]) == 0
    assert f"remit hook {agent}" in capsys.readouterr().out or agent in ("opencode", "openclaw")
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
    assert not [found for found in folder.rglob("*") if found.is_file()]


@pytest.mark.parametrize("agent", OTHERS)
def test_what_others_put_there_stays(agent: str, folder: Path) -> None:
    path = folder / FILES[agent].path
    path.parent.mkdir()
    before = json.dumps(OTHERS[agent], indent=4) + "\n"
    path.write_text(before)
    path.chmod(0o600)
    assert run(["hook", "install", agent, *(() if agent == "openclaw" else ("--wait", "30"))]) == 0
    document = json.loads(path.read_text())
    assert "remit-gate" in json.dumps(document) or "remit hook" in json.dumps(document)
    assert "\n    " in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(["hook", "install", agent]) == 0
    once = {"claude": 3, "codex": 2, "gemini": 2, "cursor": 3}
    if agent in once:  # one a kind of event
        assert path.read_text().count(f"hook {agent}") == once[agent]
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


def test_claude_can_be_asked_over_http(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hook", "install", "claude"]) == 0
    assert run(["hook", "install", "claude", "--http", "--url", "http://127.0.0.1:9/", "--wait", "30", "--defer"]) == 0
    assert "2.1.329" in capsys.readouterr().err
    hooks = json.loads((folder / FILES["claude"].path).read_text())["hooks"]
    ((asked,), (told,), (failed,)) = (hooks[e][0]["hooks"] for e in ("PreToolUse", "PostToolUse", "PostToolUseFailure"))
    assert asked == {
        "type": "http",
        "url": "http://127.0.0.1:9/agent/v1/hooks/claude?wait=30&defer=true",
        "headers": {"Authorization": "Bearer $REMIT_TOKEN", "Remit-Workspace": "$REMIT_WORKSPACE"},
        "allowedEnvVars": ["REMIT_TOKEN", "REMIT_WORKSPACE"],
        "timeout": 90,
        "onFailure": "block",
    }
    assert "onFailure" not in told
    assert told == failed
    assert run(["hook", "uninstall", "claude"]) == 0
    assert not (folder / FILES["claude"].path).exists()
    assert run(["hook", "install", "gemini", "--http"]) == 2


def test_the_plugin_of_openclaw_is_named_where_its_files_are(folder: Path) -> None:
    assert run(["hook", "install", "openclaw"]) == 0
    plugins = json.loads((folder / ".openclaw/openclaw.json").read_text())["plugins"]
    (place,) = plugins["load"]["paths"]
    assert Path(place) == folder / ".openclaw/remit-gate"
    assert plugins["entries"]["remit-gate"]["enabled"] is True
    assert "allow" not in plugins, "a list would switch off every other plugin"
    manifest = json.loads((Path(place) / "openclaw.plugin.json").read_text())
    package = json.loads((Path(place) / "package.json").read_text())
    assert (manifest["id"], package["openclaw"]["extensions"]) == ("remit-gate", ["./index.mjs"])
    assert (Path(place) / "index.mjs").read_text().startswith("// Puts every tool call")


@pytest.mark.parametrize("text", ['{"plugins": []}', '{"plugins": {"load": {"paths": 3}}}', "// json5"])
def test_a_config_of_openclaw_that_is_not_understood_is_left_alone(folder: Path, text: str) -> None:
    path = folder / ".openclaw/openclaw.json"
    path.parent.mkdir()
    path.write_text(text)
    assert run(["hook", "install", "openclaw"]) == 2
    assert path.read_text() == text
    assert not (folder / ".openclaw/remit-gate").exists()
