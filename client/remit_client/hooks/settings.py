"""The files in which coding agents keep their hooks: what of them is ours, how it is put in and taken out again.

Everything else in such a file stays as it is, but for the layout of JSON.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPARE_S = 60
"""How much longer the agent waits for the hook than the hook waits for a person."""
HTTP_WAIT_S = 280
"""How long an HTTP hook waits for a person: common HTTP clients give a silent server up after 300 s."""
_PLUGINS = Path(__file__).parent / "plugins"


class SettingsError(Exception):
    """A file that is not changed. ``hint`` says what to do instead, "" for nothing."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Placed:
    """What is put in: the ``command`` that answers, or the ``url`` that does; ``wait_s`` is how long it waits for a
    person. ``folder`` is where the agent's file lies, absolute."""

    command: str = ""
    wait_s: int = 0
    url: str = ""
    folder: str = ""


Change = Callable[[str, Placed | None], str]
"""The new text of a file from the old one ("" for no file); None takes out what was put in."""


@dataclass(frozen=True, slots=True)
class Hooked:
    """An agent's files. Paths count from the project's or the user's folder."""

    files: tuple[tuple[str, Change], ...]
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The file that names the hook."""
        return self.files[0][0]


def _nested(before: str, *after: str, milliseconds: bool = False, **more: Any) -> Change:
    """``{hooks: {EVENT: [{matcher, hooks: [{type: command, command, timeout}]}]}}``. ``after`` are the events that tell
    what came of a call."""

    def change(text: str, placed: Placed | None) -> str:
        for event in (before, *after):
            text = _one(text, event, placed, before=event == before)
        return text

    def _one(text: str, event: str, placed: Placed | None, *, before: bool) -> str:
        document = _parsed(text)
        groups = [_without(group) for group in _list(document, "hooks", event)]
        groups = [group for group in groups if not isinstance(group, dict) or group.get("hooks") != []]
        if placed is not None:
            wait_s = placed.wait_s if before else 0
            hook = _hook(placed) | {"timeout": (wait_s + SPARE_S) * (1000 if milliseconds else 1)}
            groups.append({"matcher": ".*" if milliseconds else "*", "hooks": [hook | (more if before else {})]})
        return _written(document, text, event, groups)

    return change


def _hook(placed: Placed) -> dict[str, Any]:
    if not placed.url:
        return {"type": "command", "command": placed.command}
    return {
        "type": "http",
        "url": placed.url,
        "headers": {"Authorization": "Bearer $REMIT_TOKEN", "Remit-Workspace": "$REMIT_WORKSPACE"},
        "allowedEnvVars": ["REMIT_TOKEN", "REMIT_WORKSPACE"],
    }


def _without(group: Any) -> Any:
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return group
    kept = [hook for hook in group["hooks"] if not _ours(hook)]
    return group if len(kept) == len(group["hooks"]) else {**group, "hooks": kept}


def _cursor(text: str, placed: Placed | None) -> str:
    for event in ("preToolUse", "postToolUse", "postToolUseFailure"):
        document = _parsed(text)
        hooks = [hook for hook in _list(document, "hooks", event) if not _ours(hook)]
        if placed is not None:
            document.setdefault("version", 1)
            before = {"timeout": placed.wait_s + SPARE_S, "failClosed": True}
            hooks.append({"command": placed.command} | (before if event == "preToolUse" else {"timeout": SPARE_S}))
        text = _written(document, text, event, hooks)
    return text


def _opencode(_: str, placed: Placed | None) -> str:
    if placed is None:
        return ""
    words = json.dumps(shlex.split(placed.command))
    text = (_PLUGINS / "opencode.mjs").read_text(encoding="utf-8")
    return text.replace('["remit", "hook", "opencode"]', words).replace(
        "600_000", str((placed.wait_s + SPARE_S) * 1000)
    )


_OPENCLAW_ID = "remit-gate"


def _openclaw(text: str, placed: Placed | None) -> str:
    """The entry of the plugin. A list of allowed plugins is added to where there is one: making one would switch off
    every other plugin."""
    document = _parsed(text)
    plugins = dict(_map(document, "plugins"))
    load, entries = dict(_map(plugins, "load")), dict(_map(plugins, "entries"))
    paths = [path for path in _list(load, "paths") if not str(path).endswith(f"/{_OPENCLAW_ID}")]
    allow = [name for name in _list(plugins, "allow") if name != _OPENCLAW_ID]
    entries.pop(_OPENCLAW_ID, None)
    if placed is not None:
        paths.append(f"{placed.folder}/{_OPENCLAW_ID}")
        entries[_OPENCLAW_ID] = {"enabled": True, "hooks": {"timeouts": {"before_tool_call": 600_000}}}
        allow += [_OPENCLAW_ID] if "allow" in plugins else []
    load = _with(load, "paths", paths)
    plugins = _with(_with(plugins, "load", load), "entries", entries)
    plugins = plugins | {"allow": allow} if "allow" in plugins else plugins
    document = _with(document, "plugins", plugins)
    return _text(document, text) if document else ""


def _with(document: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The document with a field, or without it when the value is empty."""
    rest = {key: kept for key, kept in document.items() if key != name}
    return {**document, name: value} if value else rest


def _map(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{name} of the file is not an object")
    return value


def _shipped(name: str) -> Change:
    def change(_: str, placed: Placed | None) -> str:
        return "" if placed is None else (_PLUGINS / name).read_text(encoding="utf-8")

    return change


def _fixed(document: dict[str, Any]) -> Change:
    return lambda _, placed: "" if placed is None else json.dumps(document, indent=2) + "\n"


_MANIFEST = {
    "id": _OPENCLAW_ID,
    "name": "Remit gate",
    "activation": {"onStartup": True},
    "configSchema": {"type": "object"},
}
_PACKAGE = {
    "name": _OPENCLAW_ID,
    "version": "1.0.0",
    "private": True,
    "type": "module",
    "openclaw": {"extensions": ["./index.mjs"]},
}

FILES = {
    "claude": Hooked(
        ((".claude/settings.json", _nested("PreToolUse", "PostToolUse", "PostToolUseFailure", onFailure="block")),)
    ),
    "codex": Hooked(
        ((".codex/hooks.json", _nested("PreToolUse", "PostToolUse")),),
        (
            "codex skips a hook that nobody reviewed: review it in codex, or start codex exec with"
            " --dangerously-bypass-hook-trust",
            "codex runs the call when a hook dies or takes too long",
        ),
    ),
    "gemini": Hooked(
        ((".gemini/settings.json", _nested("BeforeTool", "AfterTool", milliseconds=True)),),
        ("gemini runs the call when a hook dies or takes too long",),
    ),
    "opencode": Hooked(((".opencode/plugin/remit.js", _opencode),)),
    "cursor": Hooked(((".cursor/hooks.json", _cursor),)),
    "openclaw": Hooked(
        (
            (".openclaw/openclaw.json", _openclaw),
            (f".openclaw/{_OPENCLAW_ID}/index.mjs", _shipped("openclaw.mjs")),
            (f".openclaw/{_OPENCLAW_ID}/openclaw.plugin.json", _fixed(_MANIFEST)),
            (f".openclaw/{_OPENCLAW_ID}/package.json", _fixed(_PACKAGE)),
        ),
        (
            "restart the gateway: plugins are read at its start",
            "openclaw agent exec loads no plugin, so nothing asks there: start it with openclaw agent --local",
        ),
    ),
}


def _ours(hook: Any) -> bool:
    """Whether a hook is one that ``install`` wrote, of whatever place of the program."""
    url = hook.get("url") if isinstance(hook, dict) else None
    if isinstance(url, str) and "/agent/v1/hooks/" in url:
        return True
    command = hook.get("command") if isinstance(hook, dict) else None
    if not isinstance(command, str):
        return False
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return any(
        (words[i].rpartition("/")[2] == "remit" and words[i + 1 : i + 2] == ["hook"])
        or words[i : i + 2] == ["-m", "remit_client.hooks"]
        for i in range(len(words))
    )


def _parsed(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"not plain JSON: {error}", "take its comments out, or add the hook by hand") from None
    if not isinstance(document, dict):
        raise SettingsError("the file is not a JSON object")
    return document


def _list(document: dict[str, Any], *path: str) -> list[Any]:
    place: Any = document
    for name in path:
        place = place.get(name, {}) if isinstance(place, dict) else None
    if place in ({}, None):
        return []
    if not isinstance(place, list):
        raise SettingsError(f"{'.'.join(path)} of the file is not a list")
    return list(place)


def _written(document: dict[str, Any], text: str, event: str, hooks: list[Any]) -> str:
    """The document with the hooks of an event, in the indentation that it had. What becomes empty by it goes."""
    old = document.get("hooks")
    events = dict(old) if isinstance(old, dict) else {}
    events[event] = hooks
    if not hooks:
        del events[event]
    document = {**document, "hooks": events}
    if not events:
        del document["hooks"]
    if not document or document == {"version": 1}:
        return ""
    return _text(document, text)


def _text(document: dict[str, Any], text: str) -> str:
    """The document, in the indentation that it had."""
    line = next((row for row in text.splitlines()[1:] if row.strip()), "  ")
    indent = line[: len(line) - len(line.lstrip())] or "  "
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"
