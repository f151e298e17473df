"""Checking a deliverable against its agent's outputSchema, whatever the deliverable tries."""

from __future__ import annotations

import time

import pytest

from controllers.runs import output_check
from controllers.runs.output_check import check_output

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["total"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("data", [b'{"total": 1}', '{"total": 1, "name": "Größe"}'.encode()])
def test_what_fits_has_no_problem(data: bytes) -> None:
    assert check_output(SCHEMA, data) == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"total": "x"}', "total: 'x' is not of type 'integer'"),
        (b"{}", "'total' is a required property"),
        (b"not json", "it is not JSON"),
        (b"", "it is not JSON"),
        (b"\xff\xfe", "not even UTF-8"),
        (b'{"total": NaN}', "NaN is not a value of JSON"),
        (b'{"total": 1e999, "\\ud800": 1}', "does not meet"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"total": ' + b"9" * 10_000 + b"}", "it is not JSON"),
    ],
)
def test_what_does_not_fit_is_told(data: bytes, words: str) -> None:
    problem = check_output(SCHEMA, data)
    assert problem.startswith("the deliverable does not meet the agent's outputSchema: ")
    assert words in problem
    assert len(problem) < 2000


def test_no_schema_takes_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_check.subprocess, "run", None)
    assert check_output({}, b"\xff") == ""


def test_a_text_made_for_a_regular_expression_does_not_stop_us() -> None:
    begun = time.monotonic()
    problem = check_output({"pattern": "^(a+)+$"}, b'"' + b"a" * 60 + b'b"', seconds=1.0)
    assert "did not end within 1 s" in problem
    assert time.monotonic() - begun < 60


def test_a_deliverable_that_fills_the_memory_does_not_pass() -> None:
    data = b"[" + b"{}," * (output_check.LARGEST // 3 - 2) + b"{}]"
    problem = check_output({"type": "array", "maxItems": 1}, data, seconds=30.0)
    assert problem


def test_more_than_is_checked_does_not_pass() -> None:
    assert "are checked" in check_output({"type": "string"}, b'"' + b"x" * output_check.LARGEST + b'"')
