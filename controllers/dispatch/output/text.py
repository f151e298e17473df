"""Text: standard output is the deliverable, the exit code decides."""

from __future__ import annotations

from controllers.dispatch.output.parsed import Parsed, deliverable, exit_failure


def parse(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
    """See ``parsed.Parser``. Bytes that are not UTF-8 are replaced; cost is unknown."""
    text, truncated = deliverable(stdout.decode("utf-8", "replace"))
    return Parsed(deliverable=text, failed=exit_failure(exit_code, stderr, stdout), truncated=truncated)
