"""Installs the coding agents that can be had from npm, and says of each other one why not. 1 when none can be had."""

from __future__ import annotations

import sys

from tests.agents.programs import CODERS, install

if __name__ == "__main__":
    missing = install()
    for coder in CODERS:
        sys.stdout.write(f"{coder.name:<9} {missing.get(coder.name, 'is there')}\n")
    raise SystemExit(1 if len(missing) == len(CODERS) else 0)
