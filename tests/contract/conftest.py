"""The contract suite runs over every backend of ``tests.fakes.stores``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.contract import Store
from tests.fakes.stores import BACKENDS, Harness, SettableClock


@pytest.fixture(params=sorted(BACKENDS))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    made = BACKENDS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(harness: Harness) -> Store:
    return harness.open()


@pytest.fixture
def clock(harness: Harness) -> SettableClock:
    return harness.clock
