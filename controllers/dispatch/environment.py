"""The environment of an agent program: nothing of the engine's own, a few fixed variables, what the spec declares.

Secrets are looked up when a run starts, go to the program, and stay nowhere else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controllers.dispatch.executor import RunOrder
from controllers.secrets.keeper import local_secrets
from controllers.secrets.source import SecretMissing as SecretMissing
from controllers.secrets.source import SecretSource as SecretSource
from controllers.secrets.source import SecretUnavailable as SecretUnavailable
from schemas.secret import EnvVar

LocalSecrets = local_secrets
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,199}")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class PrivatePaths:
    """Files and folders that belong to one run."""

    mission: Path
    home: Path
    temporary: Path


def default_path() -> str:
    """PATH without a declared one. The engine's own interpreter comes first, so that ``python3`` has the client."""
    return f"{Path(sys.executable).parent}:{SYSTEM_PATH}"


def build(
    order: RunOrder, declared: Sequence[EnvVar], secrets: SecretSource, paths: PrivatePaths, workspace: Path
) -> dict[str, str]:
    """The whole environment of a program that works in ``workspace``. Raises SecretMissing, SecretUnavailable.

    Later entries win: fixed ones, then what the spec declares (so HOME or PATH can be set there), then the REMIT_
    variables, which nothing can replace.
    """
    granted = secrets.of(order.executor_namespace or order.namespace, order.namespace)
    environment = {
        "PATH": default_path(),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": str(paths.home),
        "TMPDIR": str(paths.temporary),
    }
    for variable in declared:
        environment[variable.name] = _value(variable, granted, order.project_root)
    session = session_of(order)
    return (
        environment
        | ({"REMIT_SESSION": session} if session else {})
        | {
            "REMIT_URL": order.agent_url,
            "REMIT_RUN": order.run_uid,
            "REMIT_TOKEN": order.token,
            "REMIT_MISSION_FILE": str(paths.mission),
            "REMIT_WORKSPACE": str(workspace),
            "REMIT_IDEMPOTENCY_KEY": str(order.mission.get("idempotencyKey", "")),
        }
    )


def session_of(order: RunOrder) -> str:
    """The session of its own that the program is to go on with; "" for a clean one. Nothing that a program said it is
    called can be taken for an option, or for more than one argument."""
    session = order.mission.get("session")
    name = session.get("id") if isinstance(session, dict) else None
    return name if isinstance(name, str) and _SESSION.fullmatch(name) else ""


def hidden(declared: Sequence[EnvVar]) -> list[str]:
    """Names of the variables whose values are secrets."""
    return ["REMIT_TOKEN", *(variable.name for variable in declared if variable.value_from is not None)]


def _value(variable: EnvVar, secrets: SecretSource, project_root: Path) -> str:
    if variable.value_from is None:
        return variable.value or ""
    try:
        value = secrets.resolve(variable.value_from, project_root)
    except SecretMissing as missing:
        raise SecretMissing(f"the variable {variable.name} has no value: {missing}") from None
    except SecretUnavailable as passing:
        raise SecretUnavailable(f"the variable {variable.name} has no value yet: {passing}") from None
    if "\0" in value:
        raise SecretMissing(f"the variable {variable.name} has no value: what its reference names holds a NUL byte")
    return value
