"""Which Hold stops an object: the strictest of all that match and are in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.base import Key
from schemas.hold import STRICTNESS, HoldMode, HoldScope, HoldSpec


@dataclass(frozen=True, slots=True)
class HoldFacts:
    """One Hold as declared or placed. ``placed_by`` is who is responsible for it."""

    key: Key
    spec: HoldSpec
    placed_by: str
    since: datetime
    deleting: bool = False

    def in_force(self, now: datetime) -> bool:
        """Whether it stops anything at ``now``."""
        return not self.deleting and (self.spec.until is None or now < self.spec.until)


@dataclass(frozen=True, slots=True)
class Held:
    """An object is held. ``until`` is when this Hold ends by itself, if it does."""

    hold: Key
    mode: HoldMode
    reason: str
    placed_by: str
    since: datetime
    until: datetime | None

    @property
    def hint(self) -> str:
        """What a person can do, in one line. Names no time: it stands in condition messages."""
        return f"{self.mode} by {self.placed_by}: {self.reason}; release: remit release {self.hold.short}"


def matches(hold: HoldFacts, key: Key, labels: Mapping[str, str]) -> bool:
    """Whether the Hold speaks of this object (in force or not)."""
    spec = hold.spec
    if spec.scope is HoldScope.GLOBAL:
        return True
    same_namespace = hold.key.namespace == key.namespace
    if spec.scope is HoldScope.TENANT:
        return same_namespace
    selector = spec.selector
    if selector is None or not same_namespace or key.kind not in selector.kinds:
        return False
    if selector.names and key.name not in selector.names:
        return False
    return all(labels.get(k) == v for k, v in selector.match_labels.items())


def strictest(
    holds: Iterable[HoldFacts], objects: Iterable[tuple[Key, Mapping[str, str]]], now: datetime
) -> Held | None:
    """The strictest Hold in force on any of ``objects`` (a mission is held with its agent, project or goal); among
    equals the one that lasts longest, then by name."""
    found: list[HoldFacts] = []
    objects = tuple(objects)
    for hold in holds:
        if hold.in_force(now) and any(matches(hold, key, labels) for key, labels in objects):
            found.append(hold)
    if not found:
        return None
    latest = datetime.max.replace(tzinfo=now.tzinfo)
    best = min(
        found,
        key=lambda h: (
            -STRICTNESS[h.spec.mode],
            -(h.spec.until or latest).timestamp() if h.spec.until else float("-inf"),
            h.key,
        ),
    )
    return Held(best.key, best.spec.mode, best.spec.reason, best.placed_by, best.since, best.spec.until)
