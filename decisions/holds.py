"""Which Hold stops an object: the strictest of all that match and are in force."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.base import Key
from schemas.hold import STRICTNESS, HoldMode, HoldScope, HoldSpec

Objects = Iterable[tuple[Key, Mapping[str, str]]]
"""What is looked at together, with labels: a mission, its agent, executor, project and goal."""


@dataclass(frozen=True, slots=True)
class HoldFacts:
    """One Hold as declared or placed. ``placed_by`` is who is responsible for it; ``place`` is file:line where a source
    declares it, ``file`` the ESTOP file that it stands for, as host:path. ``tenant`` is the Tenant whose lifecycle it
    carries out."""

    key: Key
    spec: HoldSpec
    placed_by: str
    since: datetime
    deleting: bool = False
    place: str = ""
    file: str = ""
    tenant: str = ""

    def in_force(self, now: datetime) -> bool:
        """Whether it stops anything at ``now``."""
        return not self.deleting and (self.spec.until is None or now < self.spec.until)

    @property
    def remedy(self) -> str:
        """How it is ended, in a few words."""
        if self.tenant:
            return f"set spec.lifecycle of tenant/{self.tenant} to Active"
        if self.place:
            return f"take it out of {self.place}"
        if self.spec.is_estop:
            tenant = f" --tenant {self.key.namespace}" if self.spec.scope is HoldScope.TENANT else ""
            return f"remit estop release{tenant} --reason WHY"
        return f"remit release {self.key.short}"


@dataclass(frozen=True, slots=True)
class Held:
    """An object is held. ``until`` is when this Hold ends by itself, if it does; ``remedy`` is how a person ends it.
    ``estop`` says that everything, or the tenant, is stopped; ``quarantine`` that the agent is out of bounds."""

    hold: Key
    mode: HoldMode
    reason: str
    placed_by: str
    since: datetime
    until: datetime | None
    remedy: str = ""
    estop: bool = False
    quarantine: bool = False
    tenant: str = ""

    @property
    def hint(self) -> str:
        """What a person can do, in one line. Names no time: it stands in condition messages."""
        if self.tenant:
            return f"{self.reason}; to go on: {self.remedy}"
        word = "e-stop" if self.estop else "quarantine" if self.quarantine else str(self.mode)
        remedy = self.remedy or f"remit release {self.hold.short}"
        return f"{word} by {self.placed_by}: {self.reason}; release: {remedy}"


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


def bites(hold: HoldFacts, objects: Objects) -> bool:
    """Whether the Hold stops the work that these objects stand for: it matches one of them, and none of them was
    released from it already."""
    objects = tuple(objects)
    if not any(matches(hold, key, labels) for key, labels in objects):
        return False
    return not any(_released(hold, key) for key, _ in objects)


def _released(hold: HoldFacts, key: Key) -> bool:
    part = hold.spec.released
    if part is None:
        return False
    if key.namespace in part.tenants and key.kind in ("Mission", "Agent"):
        return True
    if key.kind != "Agent":
        return False
    if any(ref.key("Agent", hold.key.namespace) == key for ref in part.agents):
        return True
    return _rank(hold, key) < part.percent


def _rank(hold: HoldFacts, agent: Key) -> int:
    """0..99: the agents below a percentage are released with it, so that a larger one adds to a smaller one. Differs
    from Hold to Hold, that not always the same agents go first; but not among e-stops, of which several may stand for
    one stop and are released together: whom one lets go, no other may keep."""
    salt = "estop" if hold.spec.is_estop else str(hold.key)
    return int(hashlib.sha256(f"{salt}\0{agent}".encode()).hexdigest()[:8], 16) % 100


def strictest(holds: Iterable[HoldFacts], objects: Objects, now: datetime) -> Held | None:
    """The strictest Hold in force on any of ``objects`` (a mission is held with its agent, project or goal); among
    equals a quarantine, then the one that lasts longest, then by name."""
    objects = tuple(objects)
    found = [hold for hold in holds if hold.in_force(now) and bites(hold, objects)]
    if not found:
        return None
    return held_by(min(found, key=_order))


def held_by(hold: HoldFacts) -> Held:
    """What a Hold says to what it holds."""
    return Held(
        hold.key,
        hold.spec.mode,
        hold.spec.reason,
        hold.placed_by,
        hold.since,
        hold.spec.until,
        hold.remedy,
        hold.spec.is_estop,
        hold.spec.quarantine,
        hold.tenant,
    )


def _order(hold: HoldFacts) -> tuple[int, bool, float, Key]:
    until = hold.spec.until
    return (
        -STRICTNESS[hold.spec.mode],
        not hold.spec.quarantine,
        float("-inf") if until is None else -until.timestamp(),
        hold.key,
    )
