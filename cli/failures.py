"""How a command ends: exit codes, and errors as people read them: one line first, details after, what to try next."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from cli.output import safe
from cli.program import shown
from schemas.errors import Diagnostic, InvalidSpec, Refused, RemitError, StoreUnavailable, UnknownName


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    DIFFERENT = 1  # differences, or a condition that did not come true
    ERROR = 2
    REFUSED = 3  # a guard said no; nothing changed
    INTERRUPTED = 130  # Ctrl-C, as shells say it
    READER_LEFT = 141  # whoever read our output closed it (`| head`), as shells say it


class Failure(Exception):
    """Ends the command. ``details`` follow the first line; ``hint`` is the next command to try."""

    def __init__(self, message: str, *details: str, hint: str = "", code: Exit = Exit.ERROR) -> None:
        self.message = message
        self.details = details
        self.hint = hint
        self.code = code
        super().__init__(message)


class ReaderLeft(Exception):
    """Nobody reads what we print any more."""


def report(failure: Failure) -> int:
    """Print it to stderr; returns the exit code."""
    lines = [f"error: {failure.message}", *(f"  {line}" for line in failure.details)]
    if failure.hint:
        lines.append(f"  try: {failure.hint}")
    for line in lines:
        print(safe(shown(line)), file=sys.stderr)
    return int(failure.code)


def guarded(command: Callable[[], int]) -> int:
    """Run a command to its exit code: every failure becomes words, never a traceback. ``REMIT_DEBUG=1`` lets an
    unexpected one through, for whoever mends it."""
    _open_what_is_closed()
    try:
        code = command()
        sys.stdout.flush()
    except (ReaderLeft, BrokenPipeError):
        _drop_output()
        return int(Exit.READER_LEFT)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Exit.OK)
    except Exception as error:
        failure = translate(error)
        if failure is None:
            if os.environ.get("REMIT_DEBUG"):
                raise
            failure = _unexpected(error)
        return report(failure)
    return code


def translate(error: Exception) -> Failure | None:
    """What a command says of an error that it met; None of one that nobody foresaw."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, InvalidSpec):
        return invalid(error.diagnostics)
    if isinstance(error, Refused):
        return _in_parts(str(error), code=Exit.REFUSED)
    if isinstance(error, UnknownName):
        return _in_parts(str(error), hint="remit explain")
    if isinstance(error, StoreUnavailable):
        return _in_parts(str(error), hint="remit doctor")
    if isinstance(error, RemitError):
        return _in_parts(str(error))
    if isinstance(error, OSError):
        return _of_system(error)
    return _of_model(error) or _of_usage(error)


def invalid(diagnostics: Sequence[Diagnostic]) -> Failure:
    """An input that is not accepted, with everything that is wrong with it."""
    count = len(diagnostics)
    paths = {d.path for d in diagnostics}
    where = f"in {paths.pop()}" if len(paths) == 1 else f"in {len(paths)} files"
    return Failure(f"{count} error{'s' if count != 1 else ''} {where}", *(str(d) for d in diagnostics))


def _in_parts(text: str, *, hint: str = "", code: Exit = Exit.ERROR) -> Failure:
    first, *rest = text.splitlines() or [""]
    return Failure(first, *rest, hint=hint, code=code)


def _of_system(error: OSError) -> Failure:
    """Files that cannot be read or written, full disks, ports in use."""
    place = f"{error.filename}: " if error.filename else ""
    return Failure(f"{place}{(error.strerror or str(error)).lower()}")


def _of_model(error: Exception) -> Failure | None:
    """A value that a schema does not take, given by an option. Pydantic is not imported to find out."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(error, pydantic.ValidationError):
        return None
    found = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in fault["loc"])
        text = str(fault["msg"]).removeprefix("Value error, ")
        found.append(f"{field}: {text}" if field else text)
    return Failure(found[0], *found[1:])


def _of_usage(error: Exception) -> Failure | None:
    """A command line that cannot be parsed, as typer tells it."""
    import typer.exceptions

    if not isinstance(error, typer.exceptions.TyperException):
        return Failure("it was given up") if isinstance(error, typer.Abort) else None
    given: Any = error
    context = getattr(given, "ctx", None)
    path = context.command_path if context is not None else "remit"
    near = [*(getattr(given, "possibilities", None) or ())]
    if hasattr(given, "option_name") and not hasattr(given, "param"):
        option = str(given.option_name)
        if str(error).startswith("No such option"):
            details = [f"did you mean {' or '.join(sorted(near))}?"] if near else []
            return Failure(f"{path} has no option {option}", *details, hint=f"{path} --help")
    text = given.format_message().replace("Value error, ", "").rstrip(".")
    return Failure(f"{path}: {text[:1].lower()}{text[1:]}", hint=f"{path} --help")


def _unexpected(error: Exception) -> Failure:
    text = str(error).splitlines()
    return Failure(
        f"Remit failed where it should not: {type(error).__name__}" + (f": {text[0]}" if text else ""),
        "this is a fault of Remit; REMIT_DEBUG=1 shows where it happened",
        hint="remit doctor",
    )


def _open_what_is_closed() -> None:
    """A caller that closed standard output or error (`>&-`) wants no words, and everything else all the same."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  open as long as the program


def _drop_output() -> None:
    """Send what is still to be flushed nowhere: Python would complain at its exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # standard output is no file, or is closed
        pass
