"""Making a project: remit.yaml, the starter specs as a git repository, JSON Schemas for editors."""

from __future__ import annotations

import json
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from cli.failures import Exit, Failure
from cli.project import CONFIG_NAME, STATE_NAME
from schemas.errors import Refused

_SCHEMA_LINE = re.compile(r"^# yaml-language-server: \$schema=\S*/(?P<name>[a-z]+\.schema\.json)\s*$", re.MULTILINE)

_CONFIG = """\
# Where this engine finds its specs, its store and its ports. `remit explain` tells about the specs themselves.
source:
  git: {{url: {url}, ref: main, path: ".", interval: 60s}}
store: sqlite:///.remit/state.db
listen: 127.0.0.1:8420
agentListen: 127.0.0.1:8421
profile: Workstation
"""


def make_project(root: Path, *, empty: bool = False) -> list[str]:
    """``remit init``: a project in ``root``. What is there already is left alone; lines for people come back."""
    root.mkdir(parents=True, exist_ok=True)
    config = root / CONFIG_NAME
    hidden = root / STATE_NAME / CONFIG_NAME
    if config.exists() or hidden.exists():
        there = config if config.exists() else hidden
        raise Failure(f"there is a project here already: {there}", hint="remit run", code=Exit.REFUSED)
    lines = [_make_specs(root / "specs", root, empty=empty)]
    config.write_text(_CONFIG.format(url="specs"))
    lines.append(f"wrote {CONFIG_NAME}")
    write_schemas(root / STATE_NAME / "schemas")
    lines.append(f"wrote the JSON Schemas for your editor to {STATE_NAME}/schemas")
    _ignore_state(root)
    return [*lines, "next: remit run"]


def make_demo(root: Path) -> Path:
    """The demo of ``make run``: everything under ``.remit/``, nothing else of the folder is touched. One that is there
    is taken as it is. Returns the repository of specs."""
    state = root / STATE_NAME
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    repository = state / "demo"
    if not (repository / ".git").is_dir():
        _make_specs(repository, root, empty=False)
    config = state / CONFIG_NAME
    if not config.exists():
        config.write_text(_CONFIG.format(url=f"{STATE_NAME}/demo"))
    write_schemas(state / "schemas")
    return repository


def _make_specs(folder: Path, root: Path, *, empty: bool) -> str:
    from controllers.sources.git_edit import init_repository

    files = {} if empty else starter_files(folder, root)
    files["README.md"] = _README.encode()
    try:
        commit = init_repository(folder, files, "Declare the starter fleet" if not empty else "Begin the specs")
    except Refused as error:
        raise Failure(str(error), code=Exit.REFUSED) from None
    return f"made a git repository of {len(files)} files in {folder.relative_to(root)} (commit {commit[:10]})"


def starter_files(folder: Path, root: Path) -> dict[str, bytes]:
    """The starter specs by path, with the schema lines pointing to the project's own copies."""
    base = resources.files("specs").joinpath("starter")
    files: dict[str, bytes] = {}
    for path, item in _walk(base, ""):
        if path.endswith((".yaml", ".yml", ".md")):
            depth = len((folder / path).relative_to(root).parts) - 1
            files[path] = _with_schema(item.read_text(encoding="utf-8"), depth).encode()
    return files


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for item in sorted(folder.iterdir(), key=lambda i: i.name):
        path = f"{prefix}{item.name}"
        found += _walk(item, f"{path}/") if item.is_dir() else [(path, item)]
    return found


def _with_schema(text: str, depth: int) -> str:
    up = "../" * depth
    return _SCHEMA_LINE.sub(lambda m: f"# yaml-language-server: $schema={up}{STATE_NAME}/schemas/{m['name']}", text)


def write_schemas(folder: Path) -> list[Path]:
    """One JSON Schema per kind that people declare, and one for all of them together."""
    from schemas import jsonschema, registry

    folder.mkdir(parents=True, exist_ok=True)
    values = {kind.lower(): jsonschema.kind_schema(registry.by_kind(kind)) for kind in registry.DECLARABLE}
    values["remit"] = jsonschema.combined_schema()
    written = []
    for name, value in values.items():
        path = folder / f"{name}.schema.json"
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        written.append(path)
    return written


def _ignore_state(root: Path) -> None:
    """Keep the engine's state out of the user's own repository, if the folder is one."""
    if not (root / ".git").exists():
        return
    ignore = root / ".gitignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    if not any(line.strip().rstrip("/") == STATE_NAME for line in lines):
        ignore.write_text("\n".join([*lines, f"{STATE_NAME}/", ""]))


_README = """\
# Specs

What is declared here, Remit makes so. Edit a file and commit; `remit diff` shows what it would do, `remit validate`
what is wrong with it. `remit explain mission` tells what may stand in a mission.
"""
