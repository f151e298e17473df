"""Programs of this folder that run beside a bench: told what to do by lines, answering with objects in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def program(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A module of this folder, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{name}", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def say(process: subprocess.Popen[str], text: str) -> None:
    """Write a line to it."""
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The object that it prints next. Raises RuntimeError when it ended."""
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        raise RuntimeError(f"{process.args} ended without an answer")
    found: dict[str, Any] = json.loads(text)
    return found


def asked(process: subprocess.Popen[str], text: str) -> dict[str, Any]:
    """What it answers to a line."""
    say(process, text)
    return line(process)
