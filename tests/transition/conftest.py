"""Every transition test gets a world, and whatever it did, the world has to be sound afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stores import BACKENDS
from tests.fakes.world import World

OF_GIT = {
    "test_commit_statuses", "test_declared_sources", "test_hostile_sources", "test_provenance", "test_status_branch",
    "test_status_remote",
}  # fmt: skip
"""Modules about git and forges: what they try does not depend on the database, so they run over one."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The database under the world: each test runs on every one, but where the module or the test says otherwise."""
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "backend" in metafunc.fixturenames and "backend" not in given:
        only_one = metafunc.module.__name__.rpartition(".")[2] in OF_GIT
        metafunc.parametrize("backend", ["sqlite"] if only_one else sorted(BACKENDS))


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[World]:
    made = World(tmp_path, backend=backend)
    try:
        yield made
        made.settle()
        made.check()
    finally:
        made.close()
