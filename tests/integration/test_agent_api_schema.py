"""The OpenAPI of the agent port is kept, whatever an agent or a worker sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.agents.app import create_app
from api.agents.limits import AgentLimits
from controllers.gate.authorize import Gate
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.clock import SystemClock
from schemas.resource import Resource
from tests.fakes.agent_port import TOKENS
from tests.fakes.runs import RunBench

WORKER = "worker-of-a-test"
EXAMPLES = 3
NOT_CHECKED = [positive_data_acceptance]
"""A request may fit the description and be refused all the same: for the state of the run, or for what is in force."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunBench]:
    made = RunBench(tmp_path_factory.mktemp("runs"), now=SystemClock().now)
    yield made
    made.close()


def app_of(bench: RunBench, folder: Path) -> FastAPI:
    limits = AgentLimits(requests_per_s=1e6, burst=1_000_000, in_flight=10_000)
    return create_app(
        bench.store, TOKENS, clock=SystemClock(), blocking=InlineBlocking(), state_dir=folder, limits=limits,
        hosts=["testserver"], worker_token=lambda _: WORKER, gate=Gate(),
    )  # fmt: skip


def _headed(headers: Any, token: str, number: int) -> dict[str, str]:
    """What was made up, with a token that is good and a key that is new: else nothing is answered but 401."""
    found = dict(headers or {})
    found.setdefault("Idempotency-Key", f"key-{number}")
    return {**found, "Authorization": f"Bearer {token}"}


def test_no_request_makes_it_break_its_description(bench: RunBench, tmp_path: Path) -> None:
    app = app_of(bench, tmp_path)
    schema = schemathesis.openapi.from_asgi("/agent/v1/openapi.json", app)
    run: Resource = bench.order(reserve=None)
    token, failures, operations, asked = TOKENS.mint(run.uid), [], 0, 0
    heard: set[int] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        operations += 1

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                             suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate])  # fmt: skip  # noqa: E501
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            if asked % 2 and "run" in (case.path_parameters or {}):
                case.path_parameters["run"] = run.name
            if "wait" in (case.query or {}):
                case.query["wait"] = 0  # nobody waits here
            case.headers = _headed(case.headers, WORKER if "/claims" in case.path else token, asked)  # type: ignore[assignment]
            answer = case.call()
            heard.add(answer.status_code)
            case.validate_response(answer, excluded_checks=NOT_CHECKED)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as error:
            failures.append(f"{operation.label}: {error}")
    assert operations > 15
    assert "\n".join(failures) == ""
    assert heard & {200, 201, 202}, "every request was refused: the run is not known"
    assert not heard & {500}
