"""Where the command begins. A hook of a coding agent is answered at once, without loading the command line: an agent
waits for it before every tool call."""

from __future__ import annotations

import os
import sys

_CODERS = ("claude", "codex", "gemini", "opencode", "cursor")


def main() -> None:
    """Entry point of ``remit``."""
    words = sys.argv[1:]
    if words[:1] == ["hook"] and words[1:2] and words[1] in _CODERS and not {"-h", "--help"} & set(words):
        from remit_client.hooks import main as hooks

        sys.argv[1:] = words[1:]
        hooks.main()
    # Searching every installed package for plugins of pydantic takes longer than most verbs, and Remit uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from cli.main import main as command

    command()
