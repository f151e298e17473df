"""The project that a command speaks of: its folder, its configuration, its store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import local_user
from cli.failures import Failure
from schemas.config import Config
from schemas.errors import InvalidSpec
from schemas.resource import Actor, ActorKind

if TYPE_CHECKING:
    from store.contract import Store

CONFIG_NAME = "remit.yaml"
STATE_NAME = ".remit"

# Keys of remit.yaml as REMIT_* variables: REMIT_AGENT_LISTEN, REMIT_SOURCE_GIT_URL, ...
_ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "REMIT_STORE": ("store",),
    "REMIT_LISTEN": ("listen",),
    "REMIT_AGENT_LISTEN": ("agentListen",),
    "REMIT_HOOK_LISTEN": ("hookListen",),
    "REMIT_ESTOP_FILE": ("estopFile",),
    "REMIT_STATUS_BRANCH": ("statusBranch",),
    "REMIT_PROFILE": ("profile",),
    "REMIT_SOURCE_GIT_URL": ("source", "git", "url"),
    "REMIT_SOURCE_GIT_REF": ("source", "git", "ref"),
    "REMIT_SOURCE_GIT_PATH": ("source", "git", "path"),
    "REMIT_SOURCE_GIT_INTERVAL": ("source", "git", "interval"),
    "REMIT_SOURCE_DIRECTORY_PATH": ("source", "directory", "path"),
    "REMIT_SOURCE_KUBERNETES_SHARD": ("source", "kubernetes", "shard"),
}


@dataclass(frozen=True, slots=True)
class Project:
    """``root`` is where relative paths start, ``state`` what the engine keeps, ``path`` the file that was read (None:
    defaults only)."""

    root: Path
    state: Path
    config: Config
    path: Path | None


def locate(folder: Path | None = None, overrides: Mapping[tuple[str, ...], str] | None = None) -> Project:
    """The project of ``folder`` (the working directory): ``remit.yaml`` in it, else ``.remit/remit.yaml``.

    ``REMIT_*`` variables replace keys of the file, ``overrides`` replace both. Raises Failure when there is no project
    here, InvalidSpec with file:line:column when the file is wrong.
    """
    root = (folder or Path.cwd()).absolute()
    if not root.is_dir():
        raise Failure(f"there is no folder {root}")
    path = next((p for p in (root / CONFIG_NAME, root / STATE_NAME / CONFIG_NAME) if p.is_file()), None)
    values = _read(path) if path is not None else {}
    given = {keys: os.environ[name] for name, keys in _ENVIRONMENT.items() if os.environ.get(name)}
    given.update(overrides or {})
    if path is None and not given:
        raise Failure(
            f"no {CONFIG_NAME} in {root} and none in its {STATE_NAME}/",
            "a project is made once, in the folder that the agents work in",
            hint="remit init",
        )
    for keys, value in given.items():
        _put(values, keys, value)
    return Project(root, root / STATE_NAME, _validate(values, path), path)


def _read(path: Path) -> dict[str, Any]:
    from controllers.sources import yaml

    loaded = yaml.load(path.read_bytes(), path=str(path))
    if loaded.diagnostics:
        raise InvalidSpec(loaded.diagnostics)
    if not loaded.documents:
        return {}
    value = loaded.documents[0].value
    if len(loaded.documents) > 1 or not isinstance(value, dict):
        raise Failure(f"{path} holds one document: a mapping of settings")
    return value


def _put(values: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    if keys[0] == "source" and len(keys) > 1:
        # One kind of source replaces the other.
        source = values.get("source")
        values["source"] = {keys[1]: (source or {}).get(keys[1]) or {}}
    node = values
    for key in keys[:-1]:
        node = node.setdefault(key, {})
    node[keys[-1]] = value


def _validate(values: dict[str, Any], path: Path | None) -> Config:
    import pydantic

    from controllers.sources import diagnose, yaml

    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        if path is None:
            name, document = "REMIT_* and flags", yaml.load(b"{}\n", path="").documents[0]
        else:
            name, document = str(path), yaml.load(path.read_bytes(), path=str(path)).documents[0]
        raise InvalidSpec(diagnose.from_validation(error, document, name, prefix=(), model=Config)) from None


def me() -> Actor:
    """The local user: who commands on an embedded store act as."""
    return Actor(ActorKind.HUMAN, f"user:{local_user.name()}", "Store")


@contextmanager
def opened(project: Project, *, read_only: bool = False) -> Iterator[Store]:
    """The project's store, for one command."""
    from random import SystemRandom

    from controllers.runtime.clock import SystemClock
    from controllers.runtime.ids import IdMint
    from store import open_store
    from store.location import from_project

    clock = SystemClock()
    mint = IdMint(clock.now, SystemRandom())
    store = open_store(
        from_project(project.config.store, project.root), now=clock.now, new_id=mint.new, read_only=read_only
    )
    try:
        yield store
    finally:
        store.close()
