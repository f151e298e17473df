"""Whatever the bytes are, the process that reads them lives: tried in a process of its own, with a small stack."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]


class ReaderProcess:
    """A running ``tests/fakes/yaml_reader_process.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.yaml_reader_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def read(self, data: bytes) -> tuple[int, list[str]]:
        """The number of documents, and the diagnostics. Fails if the process dies of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(data) + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the reader died with status {self._process.wait()}"
        documents, diagnostics = json.loads(answer)
        return documents, diagnostics

    def close(self) -> None:
        """Ends the process, which must still be there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0
        self._process.stdout.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[ReaderProcess]:
    process = ReaderProcess()
    yield process
    process.close()


openers = st.sampled_from(
    [
        b"[",
        b"{",
        b"[[",
        b"{a: ",
        b"{[",
        b"- ",
        b"? ",
        b"-\t",
        b"? - ",
        b"!x [",
        b"!<]> [",
        b"&a [",
        b'"]" , [',
        b"[ # ]\n",
    ]
)
heads = st.sampled_from(
    [b"", b"a: ", b"---\n", b"- - ", b"a:\n  b: ", b"%YAML 1.2\n---\n", b"x: '", b'x: "', b"# ", b"|\n "]
)
# Around every limit of the guard and of the reader, and around where recursive readers die.
counts = st.sampled_from(
    [1, 63, 64, 65, 2_047, 4_095, 4_096, 9_999, 10_000, 10_001, 20_000, 30_000, 100_000, 1_000_000]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(heads, openers, counts), min_size=1, max_size=3))
def test_no_nesting_kills_the_reader(reader: ReaderProcess, parts: list[tuple[bytes, bytes, int]]) -> None:
    data = b"\n".join(head + opener * count for head, opener, count in parts)
    _, diagnostics = reader.read(data)
    assert all(text.startswith("evil.yaml") for text in diagnostics)
    if len(parts) == 1 and parts[0][0] in (b"", b"---\n", b"a: ") and parts[0][1] in (b"[", b"{", b"- ", b"? "):
        assert diagnostics or parts[0][2] <= 64


words = (
    b"[ ] { } , : - ? | > & * ! % # @ ` ' \" ~ = << a b 1 true --- ... \t &a *a !!str \r\n \r \0 \xff \xc2\x85".split(
        b" "
    )
)
fragments = st.sampled_from([*words, b" ", b"\n", b"\n  ", b": ", b"- ", b"&a ", b"!!str ", b"\xef\xbb\xbf"])


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(fragments, max_size=60).map(b"".join) | st.binary(max_size=200))
def test_no_bytes_kill_the_reader(reader: ReaderProcess, data: bytes) -> None:
    reader.read(data)
