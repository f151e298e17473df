"""What ``describe`` tells of a tool call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.resource import Resource


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
    yield "Arguments, redacted", json.dumps(spec.get("args", {}), indent=2, ensure_ascii=False).splitlines()
    lines = [f"{status.get('verdict')}: {status.get('message', '')}", f"decided by {status.get('rule', '')}"]
    if status.get("remedy") and status.get("state") in ("Denied", "Asking"):
        lines.append(f"to allow it: {status['remedy']}")
    if status.get("approvalRequest"):
        lines.append(f"asked in approval/{status['approvalRequest']}")
    yield "What was answered", lines
