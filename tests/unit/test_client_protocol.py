"""How the client builds requests and reads answers."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remit_client import (
    BadAnswer,
    Conflict,
    NotInScope,
    Problem,
    RateLimited,
    Rejected,
    RetryPolicy,
    RunOver,
    Usage,
)
from remit_client.protocol import Call, Calls, clean_text, read_answer, read_notices
from remit_client.retry import retry_after

CALLS = Calls("audit-1")
CALL = Call("POST", "/agent/v1/runs/audit-1/progress", b"{}", "k")


def body(call: Call) -> dict[str, object]:
    assert call.body is not None
    value = json.loads(call.body)
    assert isinstance(value, dict)
    return value


def test_complete_and_fail_are_keyed_by_the_run_so_that_they_happen_once() -> None:
    first = CALLS.complete("a.md", "x", None, "checked", [], None)
    second = CALLS.complete("b.md", "y", None, "checked", [], None)
    assert first.key == second.key == "audit-1:complete"
    assert CALLS.fail("Lost", "gone", True).key == "audit-1:fail"


def test_a_run_name_cannot_leave_its_place_in_the_path_or_break_a_header() -> None:
    calls = Calls("../x/ü\n?a=b")
    assert calls.heartbeat("k").path == "/agent/v1/runs/..%2Fx%2F%C3%BC%0A%3Fa%3Db/heartbeat"
    key = calls.fail("A", "b", False).key
    assert key is not None
    assert key.isascii()
    assert "\n" not in key


def test_text_travels_as_text_and_bytes_as_base64() -> None:
    assert body(CALLS.artifact("k", "a", "hi", None)) == {"name": "a", "mediaType": "text/plain", "text": "hi"}
    assert body(CALLS.artifact("k", "a", b"\xff\x00", None)) == {
        "name": "a",
        "mediaType": "application/octet-stream",
        "base64": "/wA=",
    }


def test_complete_carries_deliverable_self_review_evidence_and_usage() -> None:
    call = CALLS.complete("a.md", "# A", "text/markdown", "read twice", ["log"], Usage(usd="0.10", input_tokens=3))
    assert body(call) == {
        "deliverable": {"name": "a.md", "mediaType": "text/markdown", "text": "# A"},
        "selfReview": "read twice",
        "evidence": ["log"],
        "usage": {"source": "Reported", "usd": "0.1", "inputTokens": 3},
    }


@pytest.mark.parametrize(("given_", "sent"), [(-5, 0), (0.4, 0), (99.6, 100), (1e9, 100), (float("inf"), 100)])
def test_percent_is_rounded_and_kept_within_bounds(given_: float, sent: int) -> None:
    assert body(CALLS.progress("k", "m", given_, None))["percent"] == sent


def test_percent_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="percent"):
        CALLS.progress("k", "m", float("nan"), None)


@given(st.text())
def test_any_text_can_be_sent_and_holds_no_nul_and_no_lone_surrogate(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert "\x00" not in cleaned
    assert clean_text(cleaned) == cleaned


def test_a_file_name_that_is_not_utf8_can_be_sent() -> None:
    assert body(CALLS.progress("k", "caf\udce9", None, None))["message"] == "caf?"


def test_long_messages_are_cut_with_a_mark() -> None:
    message = body(CALLS.progress("k", "x" * 5000, None, None))["message"]
    assert isinstance(message, str)
    assert len(message) == 2000
    assert message.endswith("…")


@pytest.mark.parametrize(
    ("usd", "wire"),
    [(0, "0"), (1.5, "1.5"), ("0.0000001", "0.000001"), (Decimal("100"), "100"), (Decimal("1E-3"), "0.001")],
)
def test_amounts_are_decimal_texts_rounded_up_to_the_millionth(usd: Decimal | float | str, wire: str) -> None:
    assert Usage(usd=usd).to_wire()["usd"] == wire


@pytest.mark.parametrize("usd", [-1, float("nan"), float("inf"), "ten", True])
def test_amounts_that_are_none_are_refused(usd: float | str) -> None:
    with pytest.raises(ValueError, match="usd"):
        Usage(usd=usd).to_wire()


def test_token_counts_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="inputTokens"):
        Usage(input_tokens=-1).to_wire()


def test_unknown_usage_is_left_out_rather_than_sent_as_zero() -> None:
    assert Usage().to_wire() == {"source": "Reported"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, RunOver),
        (404, NotInScope),
        (409, Conflict),
        (429, RateLimited),
        (400, Rejected),
        (413, Rejected),
        (422, Rejected),
        (500, Rejected),
        (503, Rejected),
    ],
)
def test_each_refusal_has_its_class_and_keeps_the_engines_words(status: int, kind: type[Problem]) -> None:
    problem = json.dumps({"title": "No", "detail": "the run has ended", "code": "RunEnded", "status": 1}).encode()
    with pytest.raises(kind) as caught:
        read_answer(CALL, status, problem)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "RunEnded")
    assert caught.value.detail == "the run has ended"
    assert "progress" in str(caught.value)
    assert "the run has ended" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"<html>", b"[1]", b'{"detail": 5}', b"\xff\xfe", b"[" * 100_000])
def test_a_refusal_without_a_proper_problem_is_still_a_refusal(text: bytes) -> None:
    with pytest.raises(Conflict, match="no reason given"):
        read_answer(CALL, 409, text)


@pytest.mark.parametrize("text", [b"<html>", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_a_good_status_with_a_senseless_body_is_no_answer(text: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_answer(CALL, 200, text)


def test_an_empty_good_answer_is_an_empty_object() -> None:
    assert read_answer(CALL, 204, b"") == {}


def test_redirects_are_not_followed() -> None:
    with pytest.raises(BadAnswer, match="redirect"):
        read_answer(CALL, 307, b"")


def test_notices_without_identity_are_dropped() -> None:
    items = [{"id": "1", "type": "Cancel"}, {"type": "Cancel"}, {"id": 2, "type": "X"}, 7, {"id": True, "type": "X"}]
    assert [(n.id, n.type) for n in read_notices({"items": items})] == [("1", "Cancel"), ("2", "X")]
    assert read_notices({"items": "x"}) == []


def test_pauses_double_up_to_the_longest_and_jitter_only_shortens() -> None:
    policy = RetryPolicy(first_s=0.5, longest_s=4, jitter=0.5)
    assert [policy.pause(n, 0.0) for n in (1, 2, 3, 4, 5, 500)] == [0.5, 1, 2, 4, 4, 4]
    assert policy.pause(3, 0.999) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, None, None),
        ("7", None, 7.0),
        (" 7 ", None, 7.0),
        ("soon", None, None),
        ("٧", None, None),
        ("Fri, 21 Nov 2026 10:00:30 GMT", "Fri, 21 Nov 2026 10:00:00 GMT", 30.0),
        ("Fri, 21 Nov 2026 10:00:00 GMT", "Fri, 21 Nov 2026 10:00:30 GMT", 0.0),
        ("Fri, 21 Nov 2026 10:00:30 GMT", None, None),
        ("Fri, 21 Nov 2026 10:00:30 GMT", "yesterday", None),
    ],
)
def test_retry_after_is_read_in_both_forms_without_a_clock(
    value: str | None, date: str | None, seconds: float | None
) -> None:
    assert retry_after(value, date) == seconds


def test_talking_and_spawning_carry_what_was_given() -> None:
    assert body(CALLS.say("k", "hello", ["user:ann"], None)) == {"text": "hello", "to": ["user:ann"]}
    assert body(CALLS.say("k", "yes", (), "uid"))["inReplyTo"] == "uid"
    spawn = CALLS.spawn("k", "links", "check them", {"hosted": True, "ttlSeconds": 60})
    assert (spawn.path, spawn.key) == ("/agent/v1/runs/audit-1/sub-agents", "k")
    assert body(spawn) == {"hosted": True, "ttlSeconds": 60, "name": "links", "title": "check them"}
    assert body(CALLS.terminate("k", "links", "enough")) == {"subAgent": "links", "reason": "enough"}


def test_the_words_of_a_message_are_its_text() -> None:
    item = {"id": "message/1", "type": "Message", "reason": "a person said something", "text": "stop"}
    assert read_notices({"items": [item]})[0].text == "stop"


def test_a_refusal_of_the_provider_is_told_with_its_retry_after_rounded_up() -> None:
    call = CALLS.provider_refused("k", 429, 1.2, "slow down")
    assert call.path.endswith("/usage")
    assert body(call) == {"providerError": {"status": 429, "message": "slow down", "retryAfterSeconds": 2}}
    assert "retryAfterSeconds" not in str(body(CALLS.provider_refused("k", 503, None, "")))


def test_a_session_is_named_with_the_progress() -> None:
    assert body(CALLS.progress("k", "reading", None, None, "s-1")) == {"message": "reading", "sessionId": "s-1"}
