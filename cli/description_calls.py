"""What ``describe`` tells of a tool call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.resource import Resource


def exactly(action: dict[str, Any]) -> list[str]:
    """The arguments, one to a line, in JSON: what is inside a text can neither end it nor pass for another line."""
    return json.dumps(action, indent=2, ensure_ascii=False).splitlines()


def call(resource: Resource) -> Iterator[tuple[str, list[str]]]:
    """Sections about a tool call: what was asked and what was answered."""
    spec, status = resource.spec, resource.status
    yield (
        "What was asked",
        [
            f"tool     {spec.get('tool')}",
            f"target   {spec.get('target') or 'not said'}",
            f"by       agent/{spec['agentRef']['name']} in run/{spec['runRef']['name']}",
            f"digest   {spec.get('argsDigest')}",
        ],
    )
    yield "Arguments, redacted", exactly(spec.get("args", {}))
    lines = [f"{status.get('verdict')}: {status.get('message', '')}", f"decided by {status.get('rule', '')}"]
    if status.get("remedy") and status.get("state") in ("Denied", "Asking"):
        lines.append(f"to allow it: {status['remedy']}")
    if status.get("approvalRequest"):
        lines.append(f"asked in approval/{status['approvalRequest']}")
    yield "What was answered", lines
