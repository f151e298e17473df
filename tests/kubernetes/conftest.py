"""One cluster for all of these tests, a namespace for each."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kubernetes_project import ClusterProject, Place, shared

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def kube() -> Place:
    """The cluster. The benches that need one have the same."""
    return shared()


@pytest.fixture
def make_project(kube: Place, tmp_path: Path) -> Iterator[Callable[..., ClusterProject]]:
    """Makes projects that follow a namespace of their own, unless one is named."""
    made: list[ClusterProject] = []

    def make(namespace: str = "", **options: Any) -> ClusterProject:
        name = namespace or f"t{next(_NUMBERS)}-{secrets.token_hex(3)}"
        found = ClusterProject(tmp_path / f"p{len(made)}", kube, name, make=not namespace, **options)
        made.append(found)
        return found

    yield make
    for each in made:
        each.close()


@pytest.fixture
def project(make_project: Callable[..., ClusterProject]) -> ClusterProject:
    """One project in a namespace of its own."""
    return make_project()
