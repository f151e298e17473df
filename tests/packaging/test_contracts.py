"""The walls of the house: each import contract is planted a violation, and has to report it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources, to plant things in."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    client = ROOT / "client" / "remit_client"
    shutil.copytree(client, tmp_path / "remit_client", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_contracts_hold() -> None:
    result = _lint(ROOT)
    assert result.returncode == 0, result.stdout


def test_every_contract_has_a_violation_to_plant() -> None:
    text = (ROOT / ".importlinter").read_text()
    names = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith("name")]
    assert sorted(names) == sorted(VIOLATIONS)


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_a_planted_violation_is_reported(house: Path, contract: str) -> None:
    module, line = VIOLATIONS[contract]
    file = house / module
    file.write_text((file.read_text() if file.exists() else "") + f"\n{line}\n")
    result = _lint(house)
    assert result.returncode == 1, result.stdout
    broken = [text for text in result.stdout.splitlines() if re.search(r" BROKEN( \(.*\))?$", text.rstrip())]
    assert any(text.startswith(contract[:60]) for text in broken), result.stdout
