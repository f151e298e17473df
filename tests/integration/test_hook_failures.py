"""What happens when the hook or the engine fails, for every dialect: the hook answers with what its agent takes for a
no. Where an agent goes on without any answer, the page says so; nothing here can change that."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from remit_client.hooks import asking, main
from remit_client.hooks.dialects import DIALECTS

from tests.fakes.gate import Gate
from tests.fakes.pages import page, rows
from tests.integration.test_agent_hooks import EVENTS

FAULTS = ("down", "slow", "cut", "garbage", "html", "empty", "refusing", "broken", "word", "crash", "memory")
ANSWERS = {
    "cut": (200, b'{"decision": "allow", "rea'), "garbage": (200, b"\xff\xfe{"), "html": (200, b"<html>allow</html>"),
    "empty": (200, b""), "refusing": (403, {"decision": "allow"}), "broken": (500, {"decision": "allow"}),
    "word": (200, {"decision": "Allow"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RESTART_S", 0.05)
    monkeypatch.setattr(asking, "ANSWER_S", 0.05)
    monkeypatch.setattr(main, "_alarm", lambda seconds: None)  # it would ring in another test


def engine(fault: str, stack: ExitStack) -> str:
    """The address of an engine with this fault."""
    if fault in ANSWERS:
        return stack.enter_context(Gate(ANSWERS[fault]).serving()).url
    if fault == "slow":
        held = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        return f"http://127.0.0.1:{held.getsockname()[1]}"
    held = stack.enter_context(socket.socket())
    held.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("agent", DIALECTS)
def test_whatever_fails_the_agent_reads_a_no(
    agent: str,
    fault: str,
    stack: ExitStack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object) -> None:
        raise MemoryError if fault == "memory" else RuntimeError("a defect of the hook")

    if fault in ("crash", "memory"):
        monkeypatch.setattr(main, "ask", crash)
    environ = {**os.environ, "REMIT_URL": engine(fault, stack), "REMIT_TOKEN": "rmt_run_x", "REMIT_RUN": "r1"}
    event = json.dumps(EVENTS[agent](tmp_path)).encode()
    code = main.run([agent, "--wait=0"], io.BytesIO(event), environ)
    said = capsys.readouterr()
    # Code 2 with words is what every agent takes for a no; nothing on standard output may say otherwise.
    assert (code, said.out) == (2, ""), said
    assert said.err.startswith("Remit blocks this call: ")
    assert "rmt_run_x" not in said.err


def test_an_answer_that_cannot_be_printed_is_a_no(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    gate = stack.enter_context(Gate((200, {"decision": "allow", "reason": "x"})).serving())
    monkeypatch.setattr("sys.stdout", Closed())
    environ = {"REMIT_URL": gate.url, "REMIT_TOKEN": "t"}
    event = json.dumps(EVENTS["claude"](tmp_path)).encode()
    assert main.run(["claude"], io.BytesIO(event), environ) == 2


def test_the_page_names_every_agent_that_goes_on_without_an_answer() -> None:
    told = {
        row[0]: row[1] for row in rows(page("docs/howto/gate-a-coding-agent.md").section("When the hook itself fails"))
    }
    go_on = sorted(name for name, what in told.items() if "runs" in what)
    assert go_on == ["Claude Code, older", "Codex", "Gemini CLI"]
    assert {"OpenCode", "Cursor", "Claude Code 2.1.329 and newer"} <= set(told)
