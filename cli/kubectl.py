"""`kubectl remit`: the command as a plugin of kubectl, and what kubectl asks to complete it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys

_NO_FILES = ":4"
"""What kubectl is told after the words: offer no files."""
_ANSWERS = ("approve", "deny")


def main() -> None:
    """Entry point of ``kubectl-remit``. Answers go to the cluster unless ``--via`` says otherwise."""
    from cli.main import run

    words = sys.argv[1:]
    verb = next((word for word in words if word in _ANSWERS), "")
    if verb and not {"-h", "--help"} & set(words) and not any(word.partition("=")[0] == "--via" for word in words):
        at = words.index(verb) + 1
        words[at:at] = ["--via", "kubernetes"]
    sys.exit(run(words, called=sys.argv[0]))


def complete() -> None:
    """Entry point of ``kubectl_complete-remit``: the words so far are its arguments, the last one unfinished."""
    from cli import completion
    from cli.main import run

    words = sys.argv[1:]
    os.environ[completion.VARIABLE] = "complete_bash"
    os.environ["COMP_WORDS"] = shlex.join(["remit", *words])
    os.environ["COMP_CWORD"] = str(len(words))
    with contextlib.suppress(SystemExit):
        run([])
    print(_NO_FILES)
