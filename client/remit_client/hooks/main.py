"""The hook program: one call in, one answer out, and never leave by mistake."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from types import FrameType
from typing import BinaryIO

from remit_client.hooks.asking import Engine, NoAnswer, NotStarted, ask, report
from remit_client.hooks.calls import Workspace
from remit_client.hooks.dialects import BLOCKED, DIALECTS, Dialect, Payload, Said, Verdict, Word

MAX_INPUT = 16 * 1024 * 1024
SPARE_S = 10
"""How long after the end of the waiting the answer is out, whatever happens."""

USAGE = """usage: remit hook {agents} [--wait SECONDS] [--defer] [--keep-prompts] [--outside deny|pass]
                         [--token-file FILE]

Reads one hook event as JSON on standard input, asks Remit, and prints the answer that the agent understands.

  --wait SECONDS       how long to wait for a person's answer, below the agent's own limit for hooks
  --defer              claude only: pause the agent until a person has answered, and be asked again on resume
  --keep-prompts       claude only: where Remit allows, let the agent's own permission rules speak as well
  --outside deny|pass  what an agent gets that Remit did not start; deny by default
  --token-file FILE    the token of this place, in place of REMIT_TOKEN; written by an Executor
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    dialect: Dialect
    wait_s: float
    defer: bool = False
    keep_prompts: bool = False
    outside_passes: bool = False
    token_file: str = ""


class OutOfTime(Exception):
    """The agent will not wait any longer."""


def options(arguments: Sequence[str]) -> Options:
    """Raises ValueError."""
    words = list(arguments)
    dialect = DIALECTS.get(words.pop(0) if words else "")
    if dialect is None:
        raise ValueError(f"name the agent: {', '.join(DIALECTS)}")
    wait, defer, keep, outside, token_file = dialect.wait_s, False, False, "deny", ""
    while words:
        word, _, value = words.pop(0).partition("=")
        if word in ("--wait", "--outside", "--token-file") and not value:
            value = words.pop(0) if words else ""
        match word:
            case "--wait":
                if not value.isdigit() or len(value) > 6:
                    raise ValueError("--wait takes seconds, such as --wait 300")
                wait = float(value)
            case "--outside" if value in ("deny", "pass"):
                outside = value
            case "--token-file" if value:
                token_file = value
            case "--defer" if dialect.later:
                defer = True
            case "--keep-prompts" if dialect.name == "claude":
                keep = True
            case _:
                raise ValueError(f"{word[:40]} is not understood for {dialect.name}")
    return Options(dialect, wait, defer, keep, outside == "pass", token_file)


def answered(chosen: Options, event: bytes, environ: Mapping[str, str], here: str) -> Said:
    """The whole of a hook. Raises ValueError for an event that cannot be understood, NoAnswer, and OSError."""
    payload = json.loads(event)
    if not isinstance(payload, dict):
        raise ValueError("the event is no JSON object")
    dialect = chosen.dialect
    workspace = dialect.workspace(payload, environ, here)
    if _ended(chosen, payload, workspace, environ):
        return Said()
    call = dialect.read(payload, workspace)
    if call is None:
        return Said()
    try:
        engine = Engine.from_environment(environ, _token(chosen))
    except NotStarted:
        if chosen.outside_passes and not environ.get("REMIT_TOKEN") and not environ.get("REMIT_RUN"):
            return Said()
        raise
    verdict = Verdict.of(ask(engine, call, chosen.wait_s), later=chosen.defer)
    if verdict.word is Word.ALLOW and chosen.keep_prompts:
        return Said()
    return dialect.say(verdict, payload)


def _ended(chosen: Options, payload: Payload, workspace: Workspace, environ: Mapping[str, str]) -> bool:
    """Report a call that has ended; whether the event was about one. What goes wrong is only said: the call was made,
    and what it reserved is settled with its run."""
    try:
        end = chosen.dialect.ended(payload, workspace)
        if end is None:
            return False
        report(Engine.from_environment(environ, _token(chosen)), end)
    except NotStarted:
        return True
    except (LookupError, RecursionError) as error:
        sys.stderr.write(f"Remit: the event is not understood: {type(error).__name__}\n")
    except (NoAnswer, OSError, HTTPException, ValueError) as error:
        sys.stderr.write(f"Remit: the result was not reported: {str(error)[:300]}\n")
    return True


def _token(chosen: Options) -> str:
    """What the file holds. Raises NotStarted when it cannot be read: another token would be another place."""
    if not chosen.token_file:
        return ""
    try:
        with open(chosen.token_file, encoding="ascii") as file:
            token = file.read(500).strip()
    except (OSError, ValueError) as error:
        raise NotStarted(f"the token file cannot be read: {type(error).__name__}") from None
    if not token:
        raise NotStarted("the token file is empty")
    return token


def run(arguments: Sequence[str], stdin: BinaryIO, environ: Mapping[str, str]) -> int:
    """Carry out a hook; the exit code. Whatever goes wrong blocks the call: code 2, and words on standard error."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(USAGE.format(agents="|".join(DIALECTS)))
        return 0
    try:
        chosen = options(arguments)
        _alarm(chosen.wait_s + SPARE_S)
        event = stdin.read(MAX_INPUT + 1)
        if len(event) > MAX_INPUT:
            raise ValueError(f"the event is larger than {MAX_INPUT // 1024 // 1024} MB")
        said = answered(chosen, event, environ, os.getcwd())
    except (ValueError, RecursionError) as error:
        said = _blocked(f"the hook does not understand: {error}")
    except OutOfTime:
        said = _blocked("no answer in time")
    except NoAnswer as error:
        said = _blocked(str(error))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  an agent takes a traceback for leave
        said = _blocked(f"the hook failed: {type(error).__name__}")
    try:
        sys.stderr.write(said.err)
        sys.stderr.flush()
        sys.stdout.write(said.out)
        sys.stdout.flush()
    except OSError:
        return BLOCKED
    return said.code


def _blocked(why: str) -> Said:
    return Said(
        err=f"Remit blocks this call: {why[:1000].encode('ascii', 'backslashreplace').decode()}\n", code=BLOCKED
    )


def _alarm(seconds: float) -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Entry point of ``python -m remit_client.hooks``."""
    sys.exit(run(sys.argv[1:], sys.stdin.buffer, os.environ))
