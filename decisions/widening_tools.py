"""Which edits of a ToolServer let agents do more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def widenings(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """See ``decisions.widening.widenings``."""
    before = {} if old is None else {pin["tool"]: pin["digest"] for pin in old.get("pins", ())}
    found = []
    for pin in new.get("pins", ()):
        known = before.get(pin["tool"])
        if known != pin["digest"]:
            what = "accepted" if known is None else "accepted with another definition"
            found.append(f"pins.{pin['tool']}: {what}")
    if old is None:
        return found
    if old.get("suspend") and not new.get("suspend"):
        found.append("suspend: its tools are served again")
    return found + [f"{block}: it is another server" for block in ("stdio", "http") if _moved(old, new, block)]


def _moved(old: Mapping[str, Any], new: Mapping[str, Any], block: str) -> bool:
    if new.get(block) is None:
        return False
    names = ("argv", "url", "network")
    before = old.get(block) or {}
    return any(before.get(name) != new[block].get(name) for name in names)
