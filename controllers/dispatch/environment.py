"""The environment of an agent program: nothing of the engine's own, a few fixed variables, what the spec declares.

Secrets are looked up when a run starts, go to the program, and stay nowhere else.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from controllers.dispatch.executor import RunOrder
from schemas.secret import EnvVar, ValueFrom

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_SECRET = 65_536


class SecretMissing(Exception):
    """A reference leads to no value. The message names the reference and never a value."""


class SecretSource(Protocol):
    """Looks up references."""

    def resolve(self, reference: ValueFrom, project_root: Path) -> str:
        """The value. May block. Raises SecretMissing."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSecrets:
    """Secrets from the engine's environment and from files; a relative path counts from the project.

    ``variables`` is the environment that ``env`` references may read. Kinds of reference that need a service are
    passed to ``others``; without it they are missing.
    """

    variables: Mapping[str, str] = field(repr=False)
    others: SecretSource | None = None

    def resolve(self, reference: ValueFrom, project_root: Path) -> str:
        """See ``SecretSource.resolve``."""
        if reference.env is not None:
            value = self.variables.get(reference.env)
            if value is None:
                raise SecretMissing(f"the engine has no environment variable {reference.env}")
            return value
        if reference.file is not None:
            return _read_secret(project_root / reference.file, reference.file)
        if self.others is not None:
            return self.others.resolve(reference, project_root)
        (kind,) = reference.to_wire()
        raise SecretMissing(f"this engine has no source for secrets of the kind {kind}")


@dataclass(frozen=True, slots=True)
class PrivatePaths:
    """Files and folders that belong to one run."""

    mission: Path
    home: Path
    temporary: Path


def default_path() -> str:
    """PATH without a declared one. The engine's own interpreter comes first, so that ``python3`` has the client."""
    return f"{Path(sys.executable).parent}:{SYSTEM_PATH}"


def build(order: RunOrder, declared: Sequence[EnvVar], secrets: SecretSource, paths: PrivatePaths) -> dict[str, str]:
    """The whole environment of a program. Raises SecretMissing.

    Later entries win: fixed ones, then what the spec declares (so HOME or PATH can be set there), then the REMIT_
    variables, which nothing can replace.
    """
    environment = {
        "PATH": default_path(),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": str(paths.home),
        "TMPDIR": str(paths.temporary),
    }
    for variable in declared:
        environment[variable.name] = _value(variable, secrets, order.project_root)
    return environment | {
        "REMIT_URL": order.agent_url,
        "REMIT_RUN": order.run_uid,
        "REMIT_TOKEN": order.token,
        "REMIT_MISSION_FILE": str(paths.mission),
    }


def _value(variable: EnvVar, secrets: SecretSource, project_root: Path) -> str:
    if variable.value_from is None:
        return variable.value or ""
    try:
        value = secrets.resolve(variable.value_from, project_root)
    except SecretMissing as missing:
        raise SecretMissing(f"the variable {variable.name} has no value: {missing}") from None
    if "\0" in value:
        raise SecretMissing(f"the variable {variable.name} has no value: what its reference names holds a NUL byte")
    return value


def _read_secret(path: Path, shown: str) -> str:
    """The text of a regular file, without one final newline. Never waits for a pipe or a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else "not a path"
        raise SecretMissing(f"cannot read the file {shown}: {detail}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SecretMissing(f"{shown} is not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(_MAX_SECRET + 1)
    except OSError as error:
        raise SecretMissing(f"cannot read the file {shown}: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(data) > _MAX_SECRET:
        raise SecretMissing(f"the file {shown} is larger than {_MAX_SECRET} bytes")
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretMissing(f"the file {shown} is not UTF-8 text") from None
