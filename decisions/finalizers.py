"""What has to be undone before an object may go, by kind. Objects without outside effects have none."""

from __future__ import annotations

DRAIN = "remit.dev/drain"
REVOKE_KEYS = "remit.dev/revoke-keys"
CLOSE_APPROVALS = "remit.dev/close-approvals"
RELEASE_BUDGET = "remit.dev/release-budget"
IN_USE = "remit.dev/in-use"
CASCADE = "remit.dev/cascade"

_BY_KIND = {
    "Agent": (DRAIN, REVOKE_KEYS),
    "Mission": (DRAIN, CLOSE_APPROVALS, RELEASE_BUDGET),
    "Executor": (IN_USE,),
    "Policy": (IN_USE,),
    "Provider": (IN_USE,),
    "Schedule": (CASCADE,),
    "Goal": (CASCADE,),
    "Todo": (CASCADE,),
    "Project": (IN_USE,),
}


def finalizers(kind: str) -> tuple[str, ...]:
    """Finalizers that an object of the kind is created with."""
    return _BY_KIND.get(kind, ())
