"""Every transition test gets a world, and whatever it did, the world has to be sound afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
        made.settle()
        made.check()
    finally:
        made.close()
