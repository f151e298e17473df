"""Commits one file to a status branch, and dies by SIGKILL around one of the git commands that this takes.

Arguments: repository, path, text, number of the command (from 0), ``before`` or ``after`` it. Prints the commit.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controllers.sources import git_process, git_status


def main(repository: str, path: str, text: str, number: str, when: str) -> None:
    """See above."""
    branch = git_status.StatusBranch(Path(repository), "remit/status", marker=b"# Status\n")
    branch.read()
    real = git_process.run
    left = int(number)

    def run(*arguments: Any, **options: Any) -> git_process.Finished:
        nonlocal left
        left -= 1
        if left < 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*arguments, **options)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    git_process.run = run
    print(branch.commit({path: text.encode()}, "Status", datetime(2026, 11, 21, tzinfo=UTC)))


main(*sys.argv[1:])
