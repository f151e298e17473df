"""Where a store is, as seen from a project."""

from __future__ import annotations

from pathlib import Path

_SQLITE = "sqlite:///"


def from_project(url: str, project: Path) -> str:
    """``url`` with a relative SQLite path made absolute from ``project``; anything else as it is."""
    if not url.startswith(_SQLITE) or url.startswith(_SQLITE + "/"):
        return url
    return _SQLITE + str((project / url.removeprefix(_SQLITE)).absolute())
