"""What a tool of a coding agent is called under Remit, and its arguments as a Policy reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Args = dict[str, Any]

SHELL, READ, WRITE, NETWORK = "shell_exec", "read_file", "write_file", "network_call"
_KINDS = {
    **dict.fromkeys(("bash", "shell", "exec", "run_shell_command", "local_shell", "exec_command"), SHELL),
    "unified_exec": SHELL,
    **dict.fromkeys(
        ("read", "read_file", "read_many_files", "grep", "glob", "ls", "list", "list_directory", "grep_search",
         "search_file_content", "notebookread", "view_image"),
        READ,
    ),
    **dict.fromkeys(
        ("write", "write_file", "edit", "multiedit", "replace", "notebookedit", "patch", "apply_patch", "delete"), WRITE
    ),
    **dict.fromkeys(("webfetch", "web_fetch"), NETWORK),
}  # fmt: skip
_PATHS = ("file_path", "filePath", "absolute_path", "notebook_path", "dir_path", "directory_path", "path")
_FOLDERS = ("cwd", "workdir", "directory", "dir_path", "dir")
_PATCHED = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+?)\s*$", re.MULTILINE)
_URL = re.compile(r"https?://[^\s\"'<>`]+", re.IGNORECASE)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call, as Remit is asked about it. ``key`` tells calls apart that look alike; "" where the agent has none."""

    tool: str
    args: Args
    key: str = ""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder that paths of a Policy count from, and where the agent stands now. Both absolute."""

    base: str
    here: str
    real: Callable[[str], str] = field(default=os.path.realpath, repr=False)

    def relative(self, path: str) -> str:
        """``path`` as counted from the workspace. What leads out of it, also by a link, stays absolute, and what holds
        a detour is left as it is: a Policy lets neither through."""
        if not path or path.startswith("~") or "\0" in path or ".." in path.split("/"):
            return path
        whole = path if path.startswith("/") else f"{self.here}/{path}"
        found, base = self.real(whole), self.real(self.base).rstrip("/")
        if found == base:
            return "."
        return found.removeprefix(f"{base}/")


def named(name: str, arguments: Any, workspace: Workspace, *, server: str = "", key: str = "") -> ToolCall:
    """A call by its name in the agent. ``server`` is the MCP server that serves the tool, "" where the name says it
    (``mcp__server__tool``) or it is the agent's own. Raises ValueError when ``arguments`` is no JSON object."""
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise ValueError("the arguments of the call are no JSON object")
    args = dict(arguments)
    if server:
        return ToolCall(f"mcp:{server}/{name.rpartition('__')[2]}", args, key)
    if name.startswith("mcp__"):
        owner, _, tool = name[len("mcp__") :].partition("__")
        return ToolCall(f"mcp:{owner}/{tool}", args, key)
    kind = _KINDS.get(name.lower())
    if kind is None:
        return ToolCall(_WORDS.sub("_", name).lower(), args, key)
    made = {SHELL: _shell, READ: _files, WRITE: _files, NETWORK: _network}[kind](name.lower(), args, workspace)
    return ToolCall(kind, made, key)


def _shell(_: str, args: Args, workspace: Workspace) -> Args:
    """``command`` and, where it is not the workspace itself, ``cwd``. A switch that is off means nothing."""
    made = {name: value for name, value in args.items() if value is not False and name not in _FOLDERS}
    folder = next((args[name] for name in _FOLDERS if args.get(name)), workspace.here)
    where = workspace.relative(folder) if isinstance(folder, str) else folder
    if where != ".":
        made["cwd"] = where
    return made


def _files(name: str, args: Args, workspace: Workspace) -> Args:
    """Paths from the workspace on, under ``path`` or ``paths``."""
    made = {key: value for key, value in args.items() if key not in _PATHS}
    paths: list[Any] = [args[key] for key in _PATHS if args.get(key) is not None]
    for key in ("paths", "include"):
        more = made.pop(key, None)
        paths += more if isinstance(more, list) else [] if more is None else [more]
    if name in ("apply_patch", "patch"):
        paths += _PATCHED.findall("\n".join(text for text in args.values() if isinstance(text, str)))
    pattern = args.get("pattern")
    if name == "glob" and isinstance(pattern, str) and (pattern.startswith(("/", "~")) or ".." in pattern):
        paths.append(pattern)  # it reaches where it says, whatever the folder
    if not paths and name in ("grep", "glob", "ls", "list", "list_directory", "grep_search", "search_file_content"):
        paths.append(workspace.here)
    told = [workspace.relative(path) if isinstance(path, str) else path for path in paths]
    if len(told) == 1:
        made["path"] = told[0]
    elif told:
        made["paths"] = told
    return made


def _network(_: str, args: Args, workspace: Workspace) -> Args:
    """``url``, also where it stands in a prompt; several make a list."""
    if args.get("url") is not None:
        return args
    found = _URL.findall(" ".join(text for text in args.values() if isinstance(text, str)))
    return args if not found else {**args, "url": found[0] if len(found) == 1 else found}
