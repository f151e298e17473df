"""The walls of the house: each import contract is planted a violation, and has to report it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "cli", "controllers", "decisions", "schemas", "store")

# Contract -> (module to plant, what it imports).
VIOLATIONS = {
    "cli > api > controllers > {store, decisions} > schemas": ("schemas/planted.py", "import store.contract"),
    "wiring > term > gate > reconcilers > {effects, dispatch, runs, sources} > runtime": (
        "controllers/runtime/planted.py",
        "import controllers.reconcilers.missions",
    ),
    "api reaches controllers from the agent protocol only": ("api/hosts.py", "import controllers.runtime.clock"),
    "schemas and decisions use no clock, no randomness and no I/O": ("decisions/planted.py", "import random"),
    "only decisions.policy reads CEL and bash": ("controllers/runs/planted.py", "import tree_sitter"),
    "only store speaks SQL": ("controllers/runs/planted.py", "import sqlalchemy"),
    "only controllers.sources.git* import GitPython": ("controllers/dispatch/planted.py", "import git"),
    "only api imports FastAPI": ("controllers/effects/planted.py", "import fastapi"),
    "only api.mcp speaks MCP": ("controllers/effects/planted.py", "import mcp_types"),
    "only the watch of a cluster imports kopf": ("controllers/effects/planted.py", "import kopf"),
    "the supervisor stands on the standard library": (
        "controllers/dispatch/supervision/planted.py",
        "import schemas.base",
    ),
    "the client stands alone": ("remit_client/planted.py", "import schemas.base"),
}


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "COLUMNS": "200"},
        timeout=120,
    )


def _house(folder: Path) -> Path:
    """A copy of the sources, to plant things in."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    client = ROOT / "client" / "remit_client"
    shutil.copytree(client, folder / "remit_client", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", folder)
    return folder


def test_every_contract_has_a_violation_to_plant() -> None:
    text = (ROOT / ".importlinter").read_text()
    names = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith("name")]
    assert sorted(names) == sorted(VIOLATIONS)


def test_every_planted_violation_is_reported_under_the_contract_that_it_breaks(tmp_path: Path) -> None:
    """All of them at once: what is said under a contract names the import that was planted for it. That the contracts
    hold where nothing is planted is what ``make check`` looks at."""
    house = _house(tmp_path)
    for module, line in VIOLATIONS.values():
        file = house / module
        file.write_text((file.read_text() if file.exists() else "") + f"\n{line}\n")
    result = _lint(house)
    assert result.returncode == 1, result.stdout
    told = dict(
        re.findall(r"^(.+)\n-{5,}\n\n((?:.*\n)*?)(?=\n\n\S|\Z)", result.stdout.split("Broken contracts")[1], re.M)
    )
    for contract, (module, line) in VIOLATIONS.items():
        planted = f"{module.removesuffix('.py').replace('/', '.')} -> {line.removeprefix('import ')} (l."
        assert planted in told.get(contract, ""), (contract, result.stdout)
