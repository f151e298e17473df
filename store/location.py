"""Where a store is, as seen from a project."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import StoreUnavailable
from store.place import sqlite_path
from store.postgres_address import is_postgres, parse

_SQLITE = "sqlite:///"


def from_project(url: str, project: Path) -> str:
    """``url`` with a relative SQLite path made absolute from ``project``; anything else as it is."""
    if not url.startswith(_SQLITE) or url.startswith(_SQLITE + "/"):
        return url
    return _SQLITE + str((project / url.removeprefix(_SQLITE)).absolute())


def folder(url: str) -> Path | None:
    """The folder that an SQLite store lies in; None of a store on a server. ``url`` as of ``from_project``."""
    return None if is_postgres(url) else sqlite_path(url).parent


def shown(url: str) -> str:
    """``url`` as it may be shown: without a password."""
    if not is_postgres(url):
        return url
    try:
        return parse(url).place
    except StoreUnavailable:
        return "postgresql://..."
