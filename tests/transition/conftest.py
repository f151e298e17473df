"""Every transition test gets a world, and whatever it did, the world has to be sound afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.world import World


@pytest.fixture
def backend() -> str:
    """The database under the world; modules that run on each parametrize it."""
    return "sqlite"


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[World]:
    made = World(tmp_path, backend=backend)
    try:
        yield made
        made.settle()
        made.check()
    finally:
        made.close()
