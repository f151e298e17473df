"""Runs commands of the CLI in this process, in a project whose engine is a `World`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import run
from tests.fakes.world import World


class Shell:
    """Called with the words of a command line; gives what it printed, errors included."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command that has to end with ``code``."""
        out, err = self.apart(*arguments, code=code)
        return out + err

    def apart(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """(standard output, standard error) of a command that has to end with ``code``."""
        self._capsys.readouterr()
        ended = run(["-C", str(self.world.folder), *arguments], now=self.world.clock)
        shown = self._capsys.readouterr()
        assert ended == code, shown.out + shown.err
        assert "Traceback" not in shown.out + shown.err
        return shown.out, shown.err


def configure(folder: Path, **git: str) -> None:
    """Write the project's remit.yaml."""
    database = next(folder.rglob("*.db"))
    fields = ", ".join(f"{key}: {value}" for key, value in {"url": "specs", **git}.items())
    (folder / "remit.yaml").write_text(f"source: {{git: {{{fields}}}}}\nstore: sqlite:///{database}\n")
