"""How a command ends: exit codes, and errors as people read them: one line first, details after, what to try next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from schemas.errors import Fenced, InvalidSpec, NotFound, Refused, RemitError, TransitionRefused


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    DIFFERENT = 1  # differences, or a condition that did not come true
    ERROR = 2
    REFUSED = 3  # a guard said no; nothing changed
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command. ``details`` follow the first line; ``hint`` is the next command to try."""

    def __init__(self, message: str, *details: str, hint: str = "", code: Exit = Exit.ERROR) -> None:
        self.message = message
        self.details = details
        self.hint = hint
        self.code = code
        super().__init__(message)


def report(failure: Failure) -> int:
    """Print it to stderr; returns the exit code."""
    print(f"error: {failure.message}", file=sys.stderr)
    for line in failure.details:
        print(f"  {line}", file=sys.stderr)
    if failure.hint:
        print(f"  try: {failure.hint}", file=sys.stderr)
    return int(failure.code)


def translate(error: RemitError) -> Failure:
    """Our own errors, as a command says them."""
    if isinstance(error, InvalidSpec):
        count = len(error.diagnostics)
        word = "error" if count == 1 else "errors"
        return Failure(f"{count} {word} in the input", *(str(d) for d in error.diagnostics))
    if isinstance(error, TransitionRefused | Refused):
        return Failure(str(error), code=Exit.REFUSED)
    if isinstance(error, NotFound | Fenced):
        return Failure(str(error))
    return Failure(str(error))


@contextmanager
def guarded(finish: Callable[[int], NoReturn] = sys.exit) -> Iterator[None]:
    """Run a command: every failure becomes words and an exit code, never a traceback."""
    try:
        yield
    except Failure as failure:
        finish(report(failure))
    except RemitError as error:
        finish(report(translate(error)))
    except KeyboardInterrupt:
        finish(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        # The reader of our output left (`remit get ... | head`): nothing is wrong.
        sys.stderr.close()
        finish(int(Exit.OK))
