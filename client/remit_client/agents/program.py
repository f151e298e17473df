"""The frame around every starter agent: open the run, report, hand in or fail, and leave with a telling exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from remit_client.agents.options import Options
from remit_client.agents.tree import resolve_inside
from remit_client.errors import Canceled, ClientError, Failure, NotConfigured
from remit_client.protocol import Decision
from remit_client.run import Run

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_NOT_STARTED = 2
EXIT_TEMPORARY = 75
"""EX_TEMPFAIL of sysexits.h: the failure is a passing one, another attempt may succeed."""
EXIT_CANCELED = 130

DEFAULT_TIME_LIMIT_S = 120
_REPORT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something kept beside the deliverable and cited as evidence."""

    name: str
    text: str
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an agent came to. ``failure`` ends the run as failed; then ``text``, unless it is empty, is kept as an
    artifact, so that a person can read what was found."""

    name: str
    text: str
    self_review: str
    evidence: tuple[Artifact, ...] = ()
    failure: Failure | None = None
    media_type: str = "text/markdown"


class Work:
    """What an agent's working function gets. ``project`` is the directory that the program was started in, resolved."""

    def __init__(self, run: Run, project: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._monotonic = monotonic
        self._said_at = float("-inf")
        self.project = project
        given = run.mission.get("input")
        self.options = Options(given if isinstance(given, Mapping) else {})
        self._late_at = monotonic() + self.options.whole("timeLimitSeconds", DEFAULT_TIME_LIMIT_S, 1, 3600)

    @property
    def run(self) -> Run:
        """The run itself, for agents that talk."""
        return self._run

    @property
    def mission(self) -> Mapping[str, Any]:
        """The mission's JSON."""
        return self._run.mission

    def root(self) -> Path:
        """The directory to look at: ``input.root`` below the project. Raises Failure when there is none such."""
        return resolve_inside(self.project, self.options.text("root", "."), "input.root")

    def check(self) -> None:
        """Raise Canceled when the run is to stop. Cheap."""
        self._run.check()

    def authorize(self, tool: str, args: Mapping[str, Any], *, target: str, key: str) -> Decision:
        """Ask before a tool is used, and wait for the answer; ``Run.authorize`` has the details."""
        self.check()
        return self._run.authorize(tool, args, target=target, key=key)

    def tool_result(self, tool: str, decision: Decision, *, error: str = "") -> None:
        """Tell what came of a call that was allowed."""
        self._run.tool_result(tool, ok=not error, error=error, decision=decision)

    @property
    def late(self) -> bool:
        """Whether the time limit of the input (``timeLimitSeconds``) is used up: finish with what there is."""
        return self._monotonic() >= self._late_at

    def say(self, message: str, percent: float | None = None, *, plan: str | None = None) -> None:
        """Report progress."""
        self.check()
        log(message)
        self._run.progress(message, percent=percent, work_plan=plan)
        self._said_at = self._monotonic()

    def tick(self, message: Callable[[], str], percent: float | None = None) -> None:
        """Report progress, but at most once a second. For loops."""
        self.check()
        if self._monotonic() - self._said_at >= _REPORT_EVERY_S:
            self.say(message(), percent)


def log(message: str) -> None:
    """A line for the run's log."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(message.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stderr.flush()


def main(plan: str, work: Callable[[Work], Outcome]) -> int:
    """Run ``work`` as this process's run and return the exit code. ``plan`` is reported as the work plan."""
    try:
        run = Run.from_environment()
    except NotConfigured as error:
        log(str(error))
        return EXIT_NOT_STARTED
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with run:
            return _work(run, plan, work)
    except Canceled as error:
        log(str(error))
        return EXIT_CANCELED
    except Failure as error:
        log(str(error))
        return EXIT_TEMPORARY if error.retryable else EXIT_FAILED
    except ClientError as error:
        # The run is over or the engine is gone: it knows, or finds out by the exit code, what became of the run.
        log(str(error))
        return EXIT_FAILED


def _work(run: Run, plan: str, work: Callable[[Work], Outcome]) -> int:
    task = Work(run, Path(os.getcwd()).resolve())
    task.say("started", 0, plan=plan)
    outcome = work(task)
    for artifact in outcome.evidence:
        run.artifact(artifact.name, artifact.text, artifact.media_type)
    run.usage(usd=0, input_tokens=0, output_tokens=0, source="Reported")
    run.check()
    if outcome.failure is not None:
        if outcome.text:
            run.artifact(outcome.name, outcome.text, outcome.media_type)
        raise outcome.failure
    run.complete(
        outcome.text,
        name=outcome.name,
        media_type=outcome.media_type,
        self_review=outcome.self_review,
        evidence=[artifact.name for artifact in outcome.evidence],
    )
    log("done")
    return EXIT_DONE


def _terminated(number: int, frame: FrameType | None) -> None:
    # Once only: a second signal must not cut off the report that the first one leads to. The engine's kill comes after
    # its grace time anyway.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Canceled("told to stop by SIGTERM")
