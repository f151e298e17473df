"""Holds in force on a piece of work, read inside the transaction that is about to let it happen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from controllers.holds import lineage
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from decisions.holds import Held, HoldFacts, strictest
from schemas.base import Key
from schemas.event import EventType
from schemas.hold import HoldSpec, HoldStatus
from schemas.parsed import parsed
from schemas.resource import Declared, Resource
from store.contract import Snapshot, Transaction

FILE_MANAGER = "controller/estop-file"
TRANSPORT = "File"
TENANT_MANAGER = "controller/tenants"
"""Manager of the Holds that carry out the lifecycle of a Tenant."""


def facts_of(hold: Resource) -> HoldFacts:
    """A Hold of the store."""
    status = parsed(HoldStatus, hold.status)
    return HoldFacts(
        key=hold.key,
        spec=parsed(HoldSpec, hold.spec),
        placed_by=status.placed_by or hold.manager,
        since=hold.created_at,
        deleting=hold.deletion_at is not None,
        place=hold.provenance.place if hold.unit and hold.provenance else "",
        file=status.file,
        tenant=hold.namespace if hold.manager == TENANT_MANAGER else "",
    )


def holds(snapshot: Snapshot, stops: Stops = other.NONE) -> list[HoldFacts]:
    """Every Hold there is, and what else stops work."""
    return [*(facts_of(resource) for resource in snapshot.objects("Hold")), *stops.everywhere()]


def taken_in(tx: Transaction, stops: Stops) -> list[HoldFacts]:
    """The same, inside the transaction that is about to let something happen: files are looked for now, and become
    Holds (see ``adopt``)."""
    beside = stops.everywhere()
    if beside:
        adopt(tx, beside)
    return [*(facts_of(resource) for resource in tx.objects("Hold")), *beside]


def held(
    snapshot: Snapshot, stops: Stops, agent: Resource | None, mission: Resource | None, now: datetime
) -> Held | None:
    """The strictest Hold on what ``agent`` does for ``mission``: on either, the executor, the project, the goal,
    the tenant, or everything; None when it may go on."""
    found = holds(snapshot, stops)
    return strictest(found, objects(snapshot, agent, mission), now) if found else None


def objects(
    snapshot: Snapshot, agent: Resource | None, mission: Resource | None
) -> list[tuple[Key, Mapping[str, str]]]:
    """What a Hold on the work of an agent may name, with labels."""
    found: list[tuple[Key, Mapping[str, str]]] = []
    keys: list[Key] = []
    if mission is not None:
        found.append((mission.key, mission.labels))
        for kind, field in (("Project", "projectRef"), ("Goal", "goalRef")):
            ref = mission.spec.get(field)
            if ref:
                keys.append(Key(kind, ref.get("namespace") or mission.namespace, ref["name"]))
    if agent is not None:
        found.append((agent.key, agent.labels))
        ref = agent.spec["executorRef"]
        keys.append(Key("Executor", ref.get("namespace") or agent.namespace, ref["name"]))
        found += lineage.ancestors(snapshot, agent)
    there = snapshot.get_many(keys) if keys else {}
    return found + [(key, there[key].labels if key in there else {}) for key in keys]


def adopt(tx: Transaction, found: Iterable[HoldFacts]) -> list[Resource]:
    """Make a Hold of every ESTOP file among ``found`` that has none yet; returns those that were made. The Hold is what
    stops what runs, and what stays when the file goes away; whoever sees a file first makes it, in its own
    transaction."""
    made = []
    for facts in found:
        if not facts.file or tx.get(facts.key) is not None:
            continue
        status = HoldStatus(placed_by=facts.placed_by, transport=TRANSPORT, file=facts.file)
        declared = Declared("Hold", facts.key.namespace, facts.key.name, facts.spec.to_wire())
        hold = tx.create(declared, manager=FILE_MANAGER, status=status.to_wire())
        tx.event(EventType.CREATED, hold, reason="EstopFile", message=f"{facts.file}: {facts.spec.reason}"[:500])
        made.append(hold)
    return made
