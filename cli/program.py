"""How this program was called, so that every command that we print for people can be copied and run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cli.catalogue import VERBS

NAME = "remit"
_PLUGIN = "kubectl-remit"
_COMMAND = re.compile(rf"(?<![\w./-]){NAME} (?=(?:{'|'.join(VERBS)}|VERB|--help|--version)(?![\w-]))")
_called: ContextVar[str] = ContextVar("called", default=NAME)
_folder: ContextVar[str] = ContextVar("folder", default="")


def program() -> str:
    """The words that call this program for the project at hand: ``remit`` where that is what a shell finds, else the
    path that was used (``.venv/bin/remit``), with ``-C FOLDER`` where that was given."""
    folder = _folder.get()
    return f"{_called.get()} -C {shlex.quote(folder)}" if folder else _called.get()


def shown(text: str) -> str:
    """``text`` with every command in it (``remit get missions``) as it can be called from here."""
    words = program()
    return text if words == NAME else _COMMAND.sub(lambda _: f"{words} ", text)


@contextmanager
def called_as(first_word: str) -> Iterator[None]:
    """Remember for the block how the program was called; ``first_word`` is ``sys.argv[0]``."""
    called, folder = _called.set(_spelling(first_word)), _folder.set("")
    try:
        yield
    finally:
        _called.reset(called)
        _folder.reset(folder)


def in_folder(folder: Path) -> None:
    """Remember that the project's folder was named by ``-C``."""
    _folder.set(str(folder))


def _spelling(first_word: str) -> str:
    if Path(first_word).name == _PLUGIN:
        return _PLUGIN.replace("-", " ")
    if Path(first_word).name != NAME or os.sep not in first_word:
        return NAME  # started by a test or by `python -c`: there is no path to repeat
    found = shutil.which(NAME)
    try:
        if found is not None and os.path.samefile(found, first_word):
            return NAME
    except OSError:
        pass  # one of the two is gone: the path is the better word
    return shlex.quote(first_word)
