"""What a call touches: commands, hosts, files and recipients, from its arguments. What cannot be told is said so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from decisions.policy import globs
from decisions.policy.facts import Call


class Facet(StrEnum):
    """A list of ``spec.allowlists``."""

    SHELL = "shell"
    NETWORK = "network"
    READ = "filesystem.read"
    WRITE = "filesystem.write"
    EMAIL = "emailRecipients"


REQUIRED = MappingProxyType(
    {
        "shell_exec": Facet.SHELL,
        "destructive_shell": Facet.SHELL,
        "network_call": Facet.NETWORK,
        "write_file": Facet.WRITE,
        "read_file": Facet.READ,
        "send_email": Facet.EMAIL,
    }
)
"""What the tools that Remit knows always touch, whether or not an argument says so."""

_ARGUMENTS = MappingProxyType(
    {
        "command": Facet.SHELL,
        "cmd": Facet.SHELL,
        "url": Facet.NETWORK,
        "uri": Facet.NETWORK,
        "host": Facet.NETWORK,
        "proxy": Facet.NETWORK,
        "path": Facet.WRITE,
        "paths": Facet.WRITE,
        "file": Facet.WRITE,
        "file_path": Facet.WRITE,
        "filePath": Facet.WRITE,
        "filename": Facet.WRITE,
        "to": Facet.EMAIL,
        "cc": Facet.EMAIL,
        "bcc": Facet.EMAIL,
        "recipient": Facet.EMAIL,
        "recipients": Facet.EMAIL,
    }
)
"""Names of arguments that mean the same with every tool. ``to``, ``cc`` and the like count for mail tools only where
they hold an address."""


_SHELL_ARGUMENTS = frozenset(
    {"command", "cmd", "cwd", "workdir", "working_directory", "workingDir", "description", "timeout", "timeout_ms"}
)
"""What a shell tool may be given without changing what its command means. An environment, a program to run it with, or
anything unknown makes a command that no list vouches for."""
_FOLDERS = ("cwd", "workdir", "working_directory", "workingDir")


class Touch(NamedTuple):
    """One thing that is touched. ``value`` is None when the call does not say what, or in no form that holds."""

    facet: Facet
    value: Any


def touches(call: Call) -> tuple[Touch, ...]:
    """Everything that the call touches, in a stable order."""
    required = REQUIRED.get(call.tool)
    if required is None and _ARGUMENTS.keys().isdisjoint(call.args):
        return ()
    found: list[Touch] = []
    args = call.args
    for name, value in args.items():
        facet = _ARGUMENTS.get(name)
        if facet is None or value is None:
            continue
        if facet is Facet.WRITE and required is Facet.READ:
            facet = Facet.READ
        if facet is Facet.EMAIL and required is not Facet.EMAIL and not _has_address(value):
            continue
        if isinstance(value, str):
            found.append(Touch(facet, value))
        else:
            found.extend([Touch(facet, item) for item in _values(facet, value)])
    if required is Facet.SHELL and not _plain_shell(args):
        found.append(Touch(Facet.SHELL, None))
    if call.target and required is not None:
        found.append(Touch(required, call.target))
    if required is not None and not any(touch.facet is required for touch in found):
        found.append(Touch(required, None))
    return tuple(found)


def _plain_shell(args: Mapping[str, Any]) -> bool:
    folders = [args[name] for name in _FOLDERS if args.get(name) is not None]
    below = all(isinstance(f, str) and (f in (".", "./") or globs.clean_path(f) is not None) for f in folders)
    return below and all(name in _SHELL_ARGUMENTS or value is None for name, value in args.items())


def _values(facet: Facet, value: Any) -> Iterable[Any]:
    """A list of paths or hosts is each of them; a list under ``command`` is an argument vector, which nobody parses as
    shell: it is left to people."""
    if facet in (Facet.READ, Facet.WRITE, Facet.NETWORK) and isinstance(value, list | tuple) and value:
        return [item if isinstance(item, str) else None for item in value[:1000]] + (
            [None] if len(value) > 1000 else []
        )
    if facet is Facet.EMAIL:
        return [value]
    return [value if isinstance(value, str) else None]


def _has_address(value: Any) -> bool:
    if isinstance(value, str):
        return re.search(r"[^\s@]@[^\s@]", value) is not None
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list | tuple) and any(_has_address(item) for item in value[:1000])
