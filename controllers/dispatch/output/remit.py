"""Remit: the program reports over the agent protocol; what it prints is its log, and the exit code decides.

Nothing of the output is taken for a result: a program of this kind prints what tools and pages gave it, and a line in
there must not be able to hand in a deliverable.
"""

from __future__ import annotations

from controllers.dispatch.output.parsed import Parsed, exit_failure


def parse(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
    """See ``parsed.Parser``."""
    return Parsed(failed=exit_failure(exit_code, stderr, stdout))
