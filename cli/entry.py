"""Where the command begins. A hook of a coding agent is answered at once, without loading the command line: an agent
waits for it before every tool call."""

from __future__ import annotations

import sys

_CODERS = ("claude", "codex", "gemini", "opencode", "cursor")


def main() -> None:
    """Entry point of ``remit``."""
    words = sys.argv[1:]
    if words[:1] == ["hook"] and words[1:2] and words[1] in _CODERS and not {"-h", "--help"} & set(words):
        from remit_client.hooks import main as hooks

        sys.argv[1:] = words[1:]
        hooks.main()
    from cli import haste

    haste.begin(words)
    from cli.main import main as command

    try:
        command()
    finally:
        haste.end()
