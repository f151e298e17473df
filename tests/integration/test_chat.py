"""`remit say` and `remit chat`: who is told, what a person sees, and that no text acts on the terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import pwd
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.runs import chat, messages
from controllers.runs.once import Once
from schemas.base import Key
from schemas.resource import SYSTEM
from tests.fakes.shell import Shell, configure
from tests.fakes.world import ALICE, World, agent, executor, mission

ME = pwd.getpwuid(os.getuid()).pw_name
EVIL = "\x1b[31mred\x1b]0;owned\x07\r2026-11-21 09:00  #9    boss\n  | approve it\x9b2J\u202eback\u200b"
PROJECT = "---\napiVersion: remit.dev/v1alpha1\nkind: Project\nmetadata: {name: docs}\nspec: {stage: Development}\n"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_STORE", "REMIT_NAMESPACE", "REMIT_SOURCE_GIT_URL", "GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    world = World(tmp_path)
    fleet = executor().replace("Text", "Remit") + "---\n" + agent(maxConcurrentMissions="9") + PROJECT
    world.commit({"fleet.yaml": fleet, "a.yaml": mission("a", projectRef="{name: docs}")})
    world.sync()
    configure(tmp_path)
    yield Shell(world, capsys)
    world.close()


def agent_says(world: World, text: str, *, reply: str = "") -> None:
    with world.store.transaction(SYSTEM) as tx:
        messages.agent_says(tx, world.get("Run", "a-1").uid, text, (), reply, once=Once.of(text, b""))
    world.settle()


def alice_says(world: World, text: str, name: str = "a", kind: str = "Mission") -> None:
    with world.store.transaction(ALICE) as tx:
        subject = tx.get(Key(kind, "default", name))
        assert subject is not None
        chat.say(tx, subject, ALICE, text, key=text)


def test_what_is_said_says_to_whom_it_goes(shell: Shell) -> None:
    assert shell("say", "mission/a", "hello") == f"said in mission/a as #1 to worker on a (as user:{ME})\n"
    assert "as #2 to worker on a" in shell("say", "agent/worker", "and you?")
    assert "#1 to nobody but who reads the thread" in shell("say", "project/docs", "good morning")
    assert "#2 to worker on a" in shell("say", "project/docs", "@worker what is left?")
    assert "#3 to worker on a" in shell("say", "a", "a bare name is a mission's", "--reply-to", "#1")
    assert "holds no message '77'" in shell("say", "a", "x", "--reply-to", "77", code=2)
    assert "the text is empty" in shell("say", "a", " ", code=2)
    assert "at most 10,000" in shell("say", "a", "x" * 10_001, code=2)
    assert "TEXT, or -f FILE" in shell("say", "a", code=2)
    assert "has no thread" in shell("say", "executor/local", "x", code=3)
    help_ = shell("say", "a", "/help")
    assert "to the engine" in help_
    assert "/status: how things stand" in help_


def test_a_text_may_come_from_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"first\nsecond\n")))
    shell("say", "a", "-f", "-")
    out = shell("chat", "a")
    assert "  | first\n  | second\n" in out


def test_a_thread_is_printed_and_ends_where_there_is_no_terminal(shell: Shell) -> None:
    assert "nobody has said anything" in shell("chat", "mission/a")
    alice_says(shell.world, "hello")
    agent_says(shell.world, "by myself")
    shell("say", "a", "and me", "--reply-to", "1")
    out, err = shell.apart("chat", "a")
    assert err == ""
    heads = [re.sub(r"^[0-9-]+ [0-9:]+  ", "", line) for line in out.splitlines() if not line.startswith("  |")]
    assert heads == ["#1   alice", "#2   worker (agent)  [by itself]", f"#3   {ME} (you)  [answers #1]"]
    for n in range(5):
        alice_says(shell.world, f"n{n}")
    out, err = shell.apart("chat", "a", "--limit", "3")
    assert [line for line in out.splitlines() if line.startswith("  |")] == ["  | n2", "  | n3", "  | n4"]
    before = re.search(r"--before (\d+)", err)
    assert before is not None
    out, _ = shell.apart("chat", "a", "--limit", "3", "--before", before[1])
    assert [line for line in out.splitlines() if line.startswith("  |")] == ["  | and me", "  | n0", "  | n1"]
    items = json.loads(shell("chat", "a", "-o", "json", "--limit", "2"))["items"]
    assert [item["spec"]["text"] for item in items] == ["n3", "n4"]


def test_nothing_that_anybody_wrote_acts_on_the_terminal_or_passes_for_another(shell: Shell) -> None:
    agent_says(shell.world, EVIL)
    alice_says(shell.world, f"@bob {EVIL}")
    for command in (["chat", "a"], ["get", "messages"], ["get", "messages", "-o", "wide"], ["get", "threads"],
                    ["describe", "message", shell.world.everything()[-1].name]):  # fmt: skip
        if command[0] == "describe":
            names = shell("get", "messages", "-o", "name").split()
            command = ["describe", names[0]]
        out = shell(*command)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u200b]", out), command
    lines = shell("chat", "a").splitlines()
    assert sum(not line.startswith("  |") for line in lines) == 2  # the forged head stands behind a bar


def test_unread_is_counted_for_who_follows_and_reading_ends_it(shell: Shell) -> None:
    assert "nobody has said anything yet" in shell("chat")
    shell("chat", "project/docs", "--subscribe")
    alice_says(shell.world, f"look @{ME}", "docs", "Project")
    alice_says(shell.world, "elsewhere")

    def row(thread: str) -> list[str]:
        return next(line.split()[:4] for line in shell("chat").splitlines() if line.startswith(thread))

    assert row("project/docs") == ["project/docs", "1", "1", "1"]
    assert row("mission/a") == ["mission/a", "1", "-", "-"]
    shell("chat", "project/docs")
    assert row("project/docs") == ["project/docs", "1", "0", "0"]
    shell("chat", "project/docs", "--unsubscribe")
    alice_says(shell.world, "more", "docs", "Project")
    assert row("project/docs")[2] == "-"
    assert shell("chat", "-o", "name") == "mission/a\nproject/docs\n"


def test_sessions_and_messages_are_listed_with_selectors_and_described(shell: Shell) -> None:
    agent_says(shell.world, "one")
    agent_says(shell.world, "two")
    alice_says(shell.world, "who reads this?", "docs", "Project")
    assert "worker" in shell("get", "sessions", "-l", "remit.dev/mission=a")
    assert len(shell("get", "messages", "-l", "remit.dev/agent=worker", "-o", "name").split()) == 2
    assert len(shell("get", "messages", "--state", "Pending", "-o", "name").split()) == 1
    assert len(shell("get", "messages", "-l", "remit.dev/project=docs", "-o", "name").split()) == 1
    name = shell("get", "sessions", "-o", "name").strip()
    text = shell("describe", name)
    assert "to go out, in this order: two" in text
    assert "messages in a row by itself: 1" in text
    assert "What was decided" in text
    threads = shell("get", "threads", "-o", "name").split()
    assert any("user:alice: read 1 of 1" in shell("describe", thread) for thread in threads)


def test_without_a_terminal_a_thread_is_followed_on_request(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    alice_says(shell.world, "before")
    steps = iter(("said meanwhile", "and more", ""))

    def pause(seconds: float) -> None:
        text = next(steps)
        if not text:
            raise KeyboardInterrupt
        alice_says(shell.world, text)

    monkeypatch.setattr("cli.common.pause", pause)
    out = shell("chat", "a", "-w", code=130)
    assert [line for line in out.splitlines() if line.startswith("  |")] == [
        "  | before",
        "  | said meanwhile",
        "  | and more",
    ]


def test_at_a_terminal_a_thread_is_followed_and_what_is_typed_is_said(shell: Shell) -> None:
    world = shell.world
    alice_says(world, "hello")
    outer, inner = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    command = [sys.executable, "-c", "from cli.main import main; main()", "-C", str(world.folder), "chat", "a"]
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=environment, close_fds=True) as process:
        os.close(inner)
        screen = _Screen(outer)
        try:
            screen.until("  | hello")
            screen.until("> ")
            os.write(outer, b"typed by hand\n")
            screen.until("  | typed by hand")
            alice_says(world, "said meanwhile")
            screen.until("  | said meanwhile")
            os.write(outer, b"/status\n")
            screen.until("a: InProgress, worker")
            os.write(outer, b"\x04")
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(outer)
    assert "\x1b[3" not in screen.text  # no colour


class _Screen:
    """What a terminal got so far."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.text = ""

    def until(self, wanted: str) -> None:
        """Read until it shows ``wanted``."""
        ends = time.monotonic() + 60
        while wanted not in self.text:
            assert time.monotonic() < ends, self.text
            if select.select([self.fd], [], [], 1)[0]:
                self.text += os.read(self.fd, 65536).decode()
