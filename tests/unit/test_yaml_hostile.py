"""Hostile files kill nothing: each ends in a diagnostic that names the file, in bounded time."""

from __future__ import annotations

import random
import sys
import threading
import time

import pytest

from controllers.sources import yaml

MEGABYTE = 1 << 20


def read(data: bytes) -> yaml.LoadResult:
    """Asserts that reading ends soon, on a slow machine too."""
    began = time.perf_counter()
    result = yaml.load(data, path="tenant/evil.yaml")
    assert time.perf_counter() - began < 20
    return result


def refusal(data: bytes) -> str:
    """The first diagnostic; asserts that all name the file and are of moderate length."""
    result = read(data)
    assert result.diagnostics
    assert all(found.path == "tenant/evil.yaml" for found in result.diagnostics)
    assert sum(len(str(found)) for found in result.diagnostics) < 100_000
    return str(result.diagnostics[0])


def fill(unit: bytes, size: int = 4 * MEGABYTE) -> bytes:
    return (unit * (size // len(unit)))[:size]


def test_a_million_opening_brackets() -> None:
    assert "brackets" in refusal(b"[" * 1_000_000)


def test_a_million_opening_brackets_below_a_key_in_a_later_document() -> None:
    assert refusal(b"a: 1\n---\nb:\n  c: " + b"[" * 1_000_000).startswith("tenant/evil.yaml:2:1: ")


def test_brackets_just_below_the_limit_end_at_the_depth_limit() -> None:
    assert refusal(b"[" * 9_999) == (
        "tenant/evil.yaml:1:65: "
        + "[0]" * 64
        + ": more than 64 collections inside one another (split it, or repeat less)"
    )


def test_brackets_hidden_behind_closing_ones_in_texts_and_comments() -> None:
    assert "more than 64" in refusal(b'["]", ' * 9_000)
    assert "more than 64" in refusal(b"[ # ]]]]\n" * 9_000)
    assert "brackets" in refusal(b'["]", ' * 20_000)
    refusal(b"[!<]> a, " * 9_000)


def test_sixty_four_collections_are_fine_and_one_more_is_not() -> None:
    for opening, closing in ((b"[", b"]"), (b"{a: ", b"}")):
        assert yaml.load(opening * 64 + b"1" + closing * 64, path="a.yaml").diagnostics == ()
        assert "more than 64" in refusal(opening * 65 + b"1" + closing * 65)
    block = b"".join(b" " * depth + b"a:\n" for depth in range(64))
    assert yaml.load(block, path="a.yaml").diagnostics == ()
    assert "more than 64" in refusal(block + b" " * 64 + b"a: 1\n")


def test_many_brackets_side_by_side_are_fine() -> None:
    text = b"---\n" + b"- {a: [1], b: {c: 2}}\n" * 3_000
    assert yaml.load(text * 3, path="a.yaml").diagnostics == ()


@pytest.mark.parametrize("unit", [b"- ", b"? ", b"-\t", b"- ? ", b"?\n"])
def test_block_indicators_without_end(unit: bytes) -> None:
    refusal(unit * 1_000_000)
    refusal(unit * 1_000)


def test_an_indentation_that_grows_without_end() -> None:
    refusal(b"".join(b" " * depth + b"a:\n" for depth in range(2_800)))


def test_an_alias_bomb() -> None:
    bomb = b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip(b"bcdefghi", b"abcdefgh", strict=True):
        bomb += b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % before] * 9))
    assert "with aliases, the file has more than 200000 values" in refusal(bomb)


def test_an_alias_bomb_made_of_one_long_text() -> None:
    text = b"a: &a " + b"x" * 100_000 + b"\nb: [" + b", ".join([b"*a"] * 5_000) + b"]\n"
    assert "aliases repeat more than" in refusal(text)


def test_an_alias_bomb_of_long_texts_inside_collections() -> None:
    text = b"a: &a [" + b"x" * 100_000 + b"]\nb: &b [" + b", ".join([b"*a"] * 30) + b"]\nc: [*b, *b]\n"
    assert "aliases repeat more than" in refusal(text)


def test_aliases_that_nest_deeper_than_the_file_does() -> None:
    chain = b"a0: &a0 {x: 1}\n" + b"".join(b"a%d: &a%d {x: *a%d}\n" % (n, n, n - 1) for n in range(1, 10_000))
    assert "with aliases, more than 64 collections" in refusal(chain)


def test_aliases_spread_over_documents_share_one_budget() -> None:
    document = b"---\na: &a [" + b"1, " * 999 + b"1]\nb: [" + b"*a, " * 60 + b"]\n"
    assert "with aliases" in refusal(document * 5)


def test_an_alias_to_itself() -> None:
    assert "stands inside what it names" in refusal(b"&x [*x]")
    assert "stands inside what it names" in refusal(b"a: &x {b: {c: *x}}")


def test_a_line_of_a_hundred_megabytes() -> None:
    assert refusal(b"a: " + b"x" * (100 * MEGABYTE)) == (
        f"tenant/evil.yaml: the file has {100 * MEGABYTE + 3} bytes; "
        "expected at most 4194304 bytes (split it into several files)"
    )


def test_a_file_of_ten_megabytes() -> None:
    assert "bytes" in refusal(b"a: 1\n" * (2 * MEGABYTE))


def test_a_nul_byte() -> None:
    assert refusal(b"a: 1\nb: x\0y\n") == (
        'tenant/evil.yaml:2:5: a NUL byte is not text (in a text write it as an escape, "\\x1b")'
    )


@pytest.mark.parametrize("byte", [b"\x01", b"\x1b", b"\x7f", b"\x0b", b"\x0c"])
def test_control_characters(byte: bytes) -> None:
    assert refusal(b"a: x" + byte).startswith("tenant/evil.yaml:1:5: the control character 0x")


@pytest.mark.parametrize("character", ["\x85", "\x9b", "\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff"])
def test_characters_that_yaml_forbids_or_reads_in_two_ways(character: str) -> None:
    found = refusal(f"é: 1\nb: ü{character}x\n".encode())
    assert found.startswith("tenant/evil.yaml:2:5: the character")
    assert character not in found


def test_a_lone_carriage_return_that_hides_a_line_from_a_reader() -> None:
    assert refusal(b"a: 1 # harmless\rb: 2\n").startswith("tenant/evil.yaml:1:16: a carriage return")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings(encoding: str) -> None:
    refusal("a: 1\n".encode(encoding))


def test_bytes_that_are_not_utf_8() -> None:
    assert refusal("a: 1\nb: ä\n".encode("latin-1")).startswith("tenant/evil.yaml:2:4: the byte 0xe4 is not UTF-8")
    refusal(b"a: \xed\xa0\x80\n")
    refusal(b"a: \xc0\x80\n")


def test_a_file_that_was_cut_off() -> None:
    whole = 'kind: Mission\nmetadata: {name: "grüße", labels: {a: b}}\nspec: {list: [1, 2]}\n'.encode()
    inside_character = whole.index("ü".encode()) + 1
    assert "cut off" in refusal(whole[:inside_character])
    assert "not closed" in refusal(whole[: inside_character + 1])
    assert "not closed" in refusal(whole[:-3])


def test_more_documents_than_allowed() -> None:
    assert "more than 1000 documents" in refusal(b"---\na: 1\n" * 1_001)
    assert "more than 1000 documents" in refusal(fill(b"---\n"))
    assert yaml.load(b"---\na: 1\n" * 1_000, path="a.yaml").diagnostics == ()


def test_more_broken_documents_than_allowed() -> None:
    refusal(fill(b"--- - a\n"))
    refusal(fill(b'---\n"\n'))


def test_more_values_than_allowed() -> None:
    assert "more than 200000 values" in refusal(b"- x\n" * 300_000)


@pytest.mark.parametrize(
    "data",
    [
        b"".join(b"%%TAG !a%d! x\n" % number for number in range(100_000)) + b"---\na: 1\n",
        fill(b"%TAG ! x\n"),
        fill(b"%YAML 1.2\n"),
        b"{" + fill(b"a: b, "),
        b"[" + fill(b"a: b, "),
        b"[" * 60 + fill(b"a, "),
        b'"' + fill(b"a "),
        b'"' + fill(b"\\\n"),
        b"'" + fill(b"''"),
        b"a: !<" + fill(b"x"),
        b"a: !" + fill(b"%41"),
        b"&" + fill(b"a"),
        fill(b"a: &a *a\n"),
        fill(b"&a "),
        fill(b"*a "),
        fill(b"a:\n"),
        fill(b":"),
        fill(b"? a\n"),
        fill(b'"a" '),
        fill(b"|\n"),
        fill(b"a" * 1_000 + b"\n") + b": [",
        b"a: |\n" + fill(b" ") + b"\nb",
        b"a: " + fill(b"9"),
        b"a: 0x" + fill(b"f"),
        b"a: 1" + fill(b":1"),
        b"a: " + fill(b"1_"),
        fill(b" " * 4_095 + b"a\n") + b"\t",
        fill(b"\xc3\xa9: no\n"),
        b"a: [" + fill(b"\xe2\x80\xa8"),
    ],
    ids=lambda data: repr(data[:12]) + f"-{len(data)}",
)
def test_four_megabytes_of_one_thing_end_in_time(data: bytes) -> None:
    read(data[: 4 * MEGABYTE])


def test_reading_needs_no_stack() -> None:
    """Everything the guard lets through is read with a quarter of a megabyte of stack and few Python frames."""
    results: list[yaml.LoadResult] = []
    nested = [b"[" * 9_999, b"{a: " * 9_999, b"- " * 2_000 + b"a", b"? " * 2_000 + b"a", b"[" * 64 + b"]" * 64]

    def read() -> None:
        sys.setrecursionlimit(60)
        results.extend(yaml.load(data, path="a.yaml") for data in nested)

    before, frames = threading.stack_size(256 * 1024), sys.getrecursionlimit()
    try:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
        sys.setrecursionlimit(frames)
    assert [bool(result.diagnostics) for result in results] == [True, True, True, True, False]


def test_random_damage_never_raises() -> None:
    chance = random.Random(7)
    whole = b"a: &x {b: [1, \"two\", '3'], c: |\n  text\n}\n---\n- *x\n- ? k\n  : v\n- !!str 5 # c\n" * 3
    pieces = [
        b"[",
        b"{",
        b"- ",
        b"\n",
        b'"',
        b"'",
        b"#",
        b"---\n",
        b"...\n",
        b"\t",
        b"&a ",
        b"*a ",
        b"!",
        b"\xff",
        b"\0",
        b"|",
    ]
    for _ in range(3_000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            if chance.random() < 0.4:
                data[at : at + chance.randint(1, 20)] = b""
            else:
                data[at:at] = chance.choice(pieces) * chance.randint(1, 3)
            data = data or bytearray(b"x")
        result = yaml.load(bytes(data), path="a.yaml")
        for found in result.diagnostics:
            assert found.line >= 0
            assert found.column >= 0
            assert found.message
