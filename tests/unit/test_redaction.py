"""What is taken out of texts, what stays, and that neither takes long."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.policy import Redaction
from schemas.redaction import HIDDEN, OFF, STANDARD, STRICT, Redactor, forms
from schemas.redaction_stream import LIMIT, StreamRedactor
from tests.fakes.credentials import PERSONAL, corpus, readable

VALUE = 'kn0wn/value+of "a" secret'
LEVELS = (OFF, STANDARD, STRICT)


def test_the_levels_are_those_of_policies() -> None:
    assert set(LEVELS) == {level.value for level in Redaction}


@pytest.mark.parametrize(("text", "secret"), corpus())
def test_a_credential_is_hidden_in_any_text(text: str, secret: str) -> None:
    shown = Redactor().text(text)
    assert secret not in shown
    assert HIDDEN in shown
    assert Redactor().text(shown) == shown
    assert Redactor((), OFF).text(text) == text
    if text.startswith(("{", '"{')):
        json.loads(shown)


@pytest.mark.parametrize("text", readable())
def test_ids_digests_counts_and_sentences_stay(text: str) -> None:
    for level in LEVELS:
        if level == STRICT and "git@" in text:
            continue
        assert Redactor(("another-known-value",), level).text(text) == text


@pytest.mark.parametrize(("text", "personal"), PERSONAL)
def test_personal_data_is_hidden_by_strict_only(text: str, personal: str) -> None:
    assert personal not in Redactor((), STRICT).text(text)
    assert Redactor((), STANDARD).text(text) == text


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        json.dumps(VALUE)[1:-1],
        quote(VALUE, safe=""),
        quote(VALUE, safe="/"),
        quote_plus(VALUE),
        VALUE.encode().hex(),
        VALUE.encode().hex().upper(),
        base64.b64encode(VALUE.encode()).decode(),
        base64.b64encode(b"user:" + VALUE.encode() + b"\n").decode(),
        base64.b64encode(b"u:" + VALUE.encode()).decode(),
        base64.urlsafe_b64encode(b"usr:" + VALUE.encode() + b"!!").decode(),
    ],
)
def test_a_known_value_is_hidden_however_it_is_written(written: str, level: str) -> None:
    shown = Redactor((VALUE,), level).text(f"before {written} after")
    assert HIDDEN in shown
    core = written.strip("=")[8:-8]
    assert core not in shown
    assert (shown.startswith("before "), shown.endswith(" after")) == (True, True)


def test_a_known_value_of_several_lines_is_hidden_whole_and_line_by_line() -> None:
    body = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" + str(n) for n in range(3)]
    value = "\n".join(["-----BEGIN CERTIFICATE-----", *body, "-----END CERTIFICATE-----"])
    redactor = Redactor((value,), OFF)
    assert redactor.text(value) == HIDDEN
    indented = "\n".join(f"    {line}" for line in value.splitlines())
    assert not any(line in redactor.text(indented) for line in body)
    assert "-----BEGIN CERTIFICATE-----" in redactor.text("a -----BEGIN CERTIFICATE----- of others")


def test_a_value_that_is_too_short_is_not_looked_for() -> None:
    assert forms("abc") == set()
    assert Redactor(("abc",), OFF).text("abcabc") == "abcabc"


def test_json_is_searched_by_name_and_by_text_and_keeps_its_form() -> None:
    value = {
        "apiKey": "x",
        "password": ["a", {"b": "c"}],
        "maxTokens": 5,
        "tokens": 12,
        "note": "sk-" + "a" * 30,
        "nested": {"db_password": "y", "user": "ann"},
        "token": None,
    }
    assert Redactor().json(value) == {
        "apiKey": HIDDEN,
        "password": [HIDDEN, {"b": "c"}],
        "maxTokens": 5,
        "tokens": 12,
        "note": HIDDEN,
        "nested": {"db_password": HIDDEN, "user": "ann"},
        "token": None,
    }
    assert Redactor((VALUE,), OFF).known({VALUE: [VALUE, 1], "a": "b"}) == {HIDDEN: [HIDDEN, 1], "a": "b"}


@given(st.text(alphabet=st.sampled_from("ab:=\"'\\/@. \n-_[]0eyJsktoenpawrd"), max_size=200))
def test_hiding_twice_is_hiding_once(text: str) -> None:
    redactor = Redactor((VALUE,), STANDARD)
    assert redactor.text(redactor.text(text)) == redactor.text(text)


@given(st.dictionaries(st.text(max_size=10), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["token", "a", "password"]), inner),
    max_leaves=10,
), max_size=4))  # fmt: skip
def test_a_line_of_json_is_json_afterwards(value: dict[str, object]) -> None:
    shown = Redactor(("known-value",), STRICT).text(json.dumps(value))
    json.loads(shown)


# Streams.


def streamed(redactor: Redactor, data: bytes, *sizes: int) -> bytes:
    stream, out, at, turn = StreamRedactor(redactor), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        out.append(stream.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
        assert stream.held <= 2 * LIMIT
    return b"".join([*out, stream.finish()])


def test_a_secret_that_is_split_over_chunks_is_hidden() -> None:
    redactor = Redactor((VALUE, "two\nlines-of-secret"), STANDARD, octets=True)
    text = f"a {VALUE} b\nsk-{'x' * 40}\r\ntwo\nlines-of-secret\nend: {base64.b64encode(VALUE.encode()).decode()}"
    for size in (1, 2, 3, 7, 1000):
        shown = streamed(redactor, text.encode(), size).decode()
        assert shown == f"a {HIDDEN} b\n{HIDDEN}\r\n{HIDDEN}\nend: {HIDDEN}A==", size


@pytest.mark.parametrize("size", [1, 5, 64, 65, 4096])
def test_a_private_key_is_hidden_line_by_line(size: int) -> None:
    body = "\n".join("q" * 63 + str(n % 10) for n in range(30))
    text = f"one\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\ntwo three\n"
    shown = streamed(Redactor((), STANDARD, octets=True), text.encode(), size).decode()
    assert "qqq" not in shown
    assert shown.startswith("one\n")
    assert shown.endswith("two three\n")


def test_a_key_that_never_ends_hides_no_line_of_prose() -> None:
    text = b"-----BEGIN PRIVATE KEY-----\nAAAA\n(no more of it)\nnext\n"
    shown = streamed(Redactor((), STANDARD, octets=True), text, 3)
    assert b"AAAA" not in shown
    assert shown.endswith(b"(no more of it)\nnext\n")


def test_a_line_without_end_goes_on_in_pieces_and_holds_no_half_of_a_secret() -> None:
    redactor = Redactor((VALUE,), STANDARD, octets=True)
    filler = b"x. " * 7000
    data = b"".join(filler + VALUE.encode() for _ in range(20)) + b"token=" + b"t" * 300_000 + b" end"
    for size in (1000, 4099, 65536):
        shown = streamed(redactor, data, size)
        assert VALUE.encode() not in shown
        assert shown.count(HIDDEN.encode()) == 21
        assert b"tttt" not in shown
        assert shown.endswith(b" end")
        assert shown.count(b"x. ") == 20 * 7000


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"\r\n", b"a b"]), max_size=40), st.integers(1, 20))
def test_bytes_without_credentials_pass_as_they_are(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    assert streamed(Redactor(("known-value",), OFF, octets=True), data, size) == data


@given(st.integers(0, 200), st.integers(1, 40), st.sampled_from(corpus()))
def test_a_stream_hides_what_a_text_would(before: int, size: int, item: tuple[str, str]) -> None:
    text, secret = item
    data = b"." * before + b"\n" + text.encode() + b"\n"
    assert secret.encode() not in streamed(Redactor((), STANDARD, octets=True), data, size)


HOSTILE = {
    "letters": "a",
    "jwt": "eyJ",
    "jwt-": "eyJ-",
    "jwt.": "eyJaaaaaaaa.",
    "url": "://",
    "user": "://a:",
    "named": "token=",
    "quoted": "token='",
    "escaped": "token=\\\\",
    "armour": "-----BEGIN PRIVATE KEY-----",
    "prefix": "sk-",
    "spaces": "token                ",
    "bearer": "bearer ",
    "cookie": "cookie: ",
    "phone": "+1 ",
    "digits": "1-",
    "mail": "a@a.",
    "iban": "AA00 ",
    "known": VALUE[:-1],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_takes_time_in_proportion_to_its_length(name: str) -> None:
    """Ten times the length takes about ten times as long: far from the hundred times of a search that goes back."""
    redactor = Redactor((VALUE,), STRICT)

    def took(length: int) -> float:
        text = HOSTILE[name] * (length // len(HOSTILE[name]))
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            redactor.text(text)
            best = min(best, time.process_time() - start)
        return best

    assert took(500_000) < 40 * max(took(50_000), 0.002)


def test_a_line_of_ten_megabytes_passes_a_stream() -> None:
    data = b"token='eyJ sk- ://" * (10_000_000 // 18)
    start = time.process_time()
    streamed(Redactor((VALUE,), STANDARD, octets=True), data, 65536)
    assert time.process_time() - start < 60
