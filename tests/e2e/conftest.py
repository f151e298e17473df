"""Every test of this folder gets a project of its own, and leaves no process behind, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import postgres
from tests.fakes.engine_process import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Project, Project]]:
    """Two machines that share a database and a repository."""
    url = postgres.empty_database()
    first = Project(tmp_path / "a", store=url)
    second = Project(tmp_path / "b", store=url, beside=first)
    try:
        yield first, second
    finally:
        first.close()
        second.close()
        postgres.drop_database(url)
