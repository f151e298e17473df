"""Python executors that we show to people start so that a file of a workspace cannot shadow a module."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.pages import ROOT

PLACES = ("README.md", "docs/**/*.md", "specs/**/*.yaml", "schemas/**/*.py", "cli/**/*.py", "tests/e2e/**/*.yaml")
ARGV = re.compile(r"argv: \[(?P<words>python3?[^\]]*)\]")


def commands() -> list[tuple[str, str]]:
    """(file, words) of every executor in flow style that calls Python."""
    files = sorted({p for place in PLACES for p in ROOT.glob(place)})
    return [(str(f.relative_to(ROOT)), m["words"]) for f in files for m in ARGV.finditer(f.read_text())]


def test_there_are_such_executors() -> None:
    assert len(commands()) >= 7


@pytest.mark.parametrize(("file", "words"), commands())
def test_python_is_called_without_the_working_directory_in_its_path(file: str, words: str) -> None:
    assert words.split(", ")[1] == "-P", file


def test_a_file_of_the_workspace_shadows_nothing_then(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')\n")
    (tmp_path / "remit_client.py").write_text("raise SystemExit('shadowed')\n")
    program = [sys.executable, "-P", "-m", "json.tool"]
    done = subprocess.run(program, cwd=tmp_path, input=b"{}", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, b"{}")
    without = [sys.executable, "-m", "json.tool"]
    done = subprocess.run(without, cwd=tmp_path, input=b"{}", capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
