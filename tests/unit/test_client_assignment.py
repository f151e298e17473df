"""What the client accepts as a run, and what it says when it was not started by Remit."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import remit_client
from remit_client import Assignment, Failure, NotConfigured
from remit_client.async_run import describe_failure, reason_word

GOOD = {"REMIT_URL": "http://127.0.0.1:8421/", "REMIT_RUN": "audit-1", "REMIT_TOKEN": "secret-token"}


def stdin(value: object) -> io.BytesIO:
    return io.BytesIO(json.dumps(value).encode())


def test_the_mission_is_read_from_its_file_and_standard_input_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mission.json"
    path.write_text('{"title": "from the file"}')
    stream = stdin({"title": "from stdin"})
    assignment = Assignment.from_environment({**GOOD, "REMIT_MISSION_FILE": str(path)}, stream)
    assert assignment.mission["title"] == "from the file"
    assert stream.tell() == 0
    assert (assignment.url, assignment.run) == ("http://127.0.0.1:8421", "audit-1")


def test_without_a_file_the_mission_comes_from_standard_input() -> None:
    assert Assignment.from_environment(GOOD, stdin({"title": "t"})).mission == {"title": "t"}


@pytest.mark.parametrize("name", ["REMIT_URL", "REMIT_RUN", "REMIT_TOKEN"])
def test_a_missing_variable_is_named(name: str) -> None:
    environ = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(NotConfigured, match=name):
        Assignment.from_environment(environ, stdin({}))


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8421",
        "ftp://x",
        "http://",
        "http://a b",
        "http://x:99999",
        "http://x:0",
        "http://u:p@x",
        "http://x?a",
        "http://[::1",
        "http://ex\u00e4mple",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(NotConfigured, match="REMIT_URL"):
        Assignment(url, "r", "t")


def test_an_ipv6_address_is_fine() -> None:
    assert Assignment("http://[::1]:8421", "r", "t").url == "http://[::1]:8421"


def test_a_token_that_could_forge_headers_is_refused_and_not_shown() -> None:
    with pytest.raises(NotConfigured) as caught:
        Assignment("http://x", "r", "hush\r\nX-Admin: 1")
    assert "hush" not in str(caught.value)


def test_the_token_is_not_part_of_the_text_of_an_assignment() -> None:
    assert "secret-token" not in repr(Assignment.from_environment(GOOD, stdin({})))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000])
def test_a_mission_that_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(NotConfigured, match="standard input"):
        Assignment.from_environment(GOOD, io.BytesIO(data))


def test_a_mission_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="REMIT_MISSION_FILE"):
        Assignment.from_environment({**GOOD, "REMIT_MISSION_FILE": str(tmp_path / "none")}, None)


def test_a_mission_of_absurd_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit_client.assignment.MAX_MISSION_BYTES", 100)
    with pytest.raises(NotConfigured, match="larger"):
        Assignment.from_environment(GOOD, io.BytesIO(b" " * 101))


def test_no_mission_at_all_is_said() -> None:
    with pytest.raises(NotConfigured, match="no mission"):
        Assignment.from_environment(GOOD, None)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ValueError", "ValueError"),
        ("_Lost", "Lost"),
        ("error", "Error"),
        ("index-cold", "IndexCold"),
        ("", "Failed"),
        ("Straße", "StraE"),
        ("123", "Failed"),
        ("A" * 200, "A" * 63),
    ],
)
def test_reasons_are_camel_case_words(text: str, word: str) -> None:
    assert reason_word(text) == word


def test_a_foreign_exception_is_reported_without_its_text() -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError as error:
        reason, message, retryable = describe_failure(error)
    assert (reason, retryable) == ("ValueError", True)
    assert "hunter2" not in message
    assert "test_client_assignment.py" in message
    assert "/" not in message


def test_a_failure_is_reported_in_its_own_words() -> None:
    assert describe_failure(Failure("IndexCold", "built now", retryable=True)) == ("IndexCold", "built now", True)


def test_every_public_name_is_exported_and_nothing_else() -> None:
    names = set(remit_client.__all__)
    for name in names:
        assert getattr(remit_client, name).__doc__
    assert names == {
        "AlreadyDone", "Assignment", "AsyncRun", "BadAnswer", "Canceled", "ClientError", "Clock", "Conflict",
        "Decision", "Denied",
        "EngineUnreachable", "Failure", "NotConfigured", "NotInScope", "Notice", "Problem", "RateLimited",
        "Rejected", "RetryPolicy", "Run",
        "RunOver", "SystemClock", "Usage", "guard", "guarded",
    }  # fmt: skip
