"""The OpenAPI of the read port is kept, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis

from tests.fakes.read_api import StoreClock, read_app
from tests.fakes.world import EXECUTOR, World, agent, mission


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    world.commit({"executor.yaml": EXECUTOR, "agent.yaml": agent(), "mission.yaml": mission("one")})
    world.sync()
    yield world
    world.close()


def test_no_question_makes_it_break_its_description(world: World) -> None:
    app = read_app(world.store, StoreClock(world.clock), hosts=["testserver"])
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    failures = []
    operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        operations += 1

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(max_examples=3, deadline=None, derandomize=True, database=None,
                             suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate])  # fmt: skip  # noqa: E501
        def ask(case: schemathesis.Case) -> None:
            case.validate_response(case.call())

        try:
            ask()
        except (Exception, BaseExceptionGroup) as error:
            failures.append(f"{operation.label}: {error}")
    assert operations > 8
    assert failures == []
