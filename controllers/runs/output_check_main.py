"""The program of `output_check`: reads schema and deliverable from stdin, prints what does not fit, or nothing."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, NoReturn

if not __package__:
    # Run by path, isolated: make the own packages importable, after everything else.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from schemas.user_schema import violations


def main() -> int:
    """Exit code 0 whenever the check came to an end."""
    question = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (question["memory"], question["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.buffer.write(_problem(question["schema"], question["text"]).encode("utf-8", "replace"))
    return 0


def _problem(schema: dict[str, Any], text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        return "it is nested too deep"
    except ValueError as error:
        return f"it is not JSON: {error}"
    return "; ".join(violations(schema, value))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a value of JSON")


if __name__ == "__main__":
    sys.exit(main())
