"""What work may cost: the limits it falls under, read in the transaction that starts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from controllers.reconcilers import counting, extensions
from decisions import meters
from decisions.meters import Breach, Meter, Reading, Work
from schemas.agent import AgentSpec, AgentStatus
from schemas.amounts import Amounts
from schemas.base import Key
from schemas.budget import BudgetSpec, OnBreach
from schemas.executor import ExecutorSpec, OutputFormat
from schemas.mission import Limits, MissionSpec, Spend
from schemas.parsed import parsed
from schemas.quantities import from_micros
from schemas.resource import Resource
from schemas.tenant import TenantSpec
from store.contract import Snapshot, Transaction

_FREE = (OutputFormat.TEXT, OutputFormat.REMIT)
"""Programs of these formats cost money only where their agent names a model."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a run of some work would reserve, where it counts, and what stands in its way, if anything does.
    ``warnings`` are limits that people are only told of. ``note`` goes with the reservation."""

    want: Amounts
    accounts: tuple[str, ...]
    breach: Breach | None
    warnings: tuple[Breach, ...]
    note: dict[str, Any] = field(default_factory=dict)


def quote(tx: Transaction, mission: Resource, agent: Resource, executor: Resource) -> Quote:
    """What the next run of ``mission`` by ``agent`` would come to, as things stand in this transaction."""
    status = parsed(AgentStatus, agent.status)
    pinned = tx.spec_at(agent.uid, status.effective_generation or agent.generation)
    spec = parsed(AgentSpec, pinned.spec if pinned is not None else agent.spec)
    program = serving(tx, executor)
    work = work_of(tx, mission, agent, spec, program)
    budgets = budgets_of(tx, mission.namespace)
    want = meters.worst_case(work, budgets, program.timeout)
    found = limits(tx, work, budgets)
    breaches = [b for m in found if (b := meters.room(m, reading(tx, m.account), want)) is not None]
    hard = [b for b in breaches if b.meter.on_breach is not OnBreach.WARN]
    alone = meters.refused_run(work, budgets, tx.now)
    return Quote(
        want,
        tuple(dict.fromkeys([*standing_accounts(mission, agent, f"{tx.now:%Y-%m-%d}"), *(m.account for m in found)])),
        alone or _hardest(hard),
        tuple(b for b in breaches if b.meter.on_breach is OnBreach.WARN),
        {"for": counting.about(work)},
    )


def serving(tx: Snapshot, executor: Resource) -> ExecutorSpec:
    """The generation of an executor that runs are started with: after a change that failed, the last good one."""
    version = tx.spec_at(executor.uid, int(executor.status.get("servingGeneration") or executor.generation))
    return parsed(ExecutorSpec, version.spec if version is not None else executor.spec)


def fullest(tx: Transaction, agent: Resource) -> tuple[float, Meter | None]:
    """The limit of an agent that is used up most, by share; of those that count whatever the mission."""
    spec = parsed(AgentSpec, agent.spec)
    work = Work(
        tenant=agent.namespace,
        project=None,
        agent=agent.key,
        agent_uid=agent.uid,
        agent_labels=agent.labels,
        level=spec.autonomy_level,
        priced=True,
        mission=agent.key,
        mission_uid="",
        mission_labels={},
        mission_type="",
        limits=Limits(),
        built_in=built_in(tx, agent.namespace),
    )
    budgets = [(key, b) for key, b in budgets_of(tx, agent.namespace) if b.scope.mission_selector is None]
    found = [m for m in limits(tx, work, budgets) if not m.account.startswith("mission/")]
    shares = ((meters.share(meter, reading(tx, meter.account)), meter) for meter in found)
    return max(shares, key=lambda pair: pair[0], default=(0.0, None))


def limits(tx: Transaction, work: Work, budgets: Iterable[tuple[Key, BudgetSpec]]) -> list[Meter]:
    """Every limit over an account that the work falls under. What was spent in its window before a Budget was declared
    or changed is counted in first, in this transaction."""
    specs = dict(budgets)
    found = meters.meters(work, specs.items(), tx.now)
    count_in_all(tx, found, specs)
    return found


def count_in_all(tx: Transaction, found: Iterable[Meter], specs: Mapping[Key, BudgetSpec]) -> None:
    """Bring the accounts of these limits to what was spent before their Budgets were declared or changed."""
    for meter in found:
        declared = None if meter.budget is None else tx.get(meter.budget)
        if declared is not None:
            counting.count_in(tx, declared, specs[declared.key], meter.account, meter.span)
            extensions.end_due(tx, declared.namespace, meter.account)


def reading(tx: Snapshot, account: str) -> Reading:
    """What an account holds."""
    balance = tx.balance(account)
    return Reading(balance.spent, balance.reserved, balance.granted)


def budgets_of(tx: Snapshot, namespace: str) -> list[tuple[Key, BudgetSpec]]:
    """The Budgets of a namespace, by name. One that is being deleted counts until it is gone."""
    return [(b.key, parsed(BudgetSpec, b.spec)) for b in tx.objects("Budget", namespace=namespace)]


def standing_accounts(mission: Resource, agent: Resource, day: str) -> tuple[str, ...]:
    """Accounts that are kept whatever is declared: the mission, its project and goal, its agent in all and today, its
    tenant today (UTC)."""
    belongs = [
        in_all(Key(kind, ref.get("namespace") or mission.namespace, ref["name"]))
        for kind, name in (("Project", "projectRef"), ("Goal", "goalRef"))
        if (ref := mission.spec.get(name))
    ]
    return (
        *belongs,
        f"mission/{mission.uid}/total",
        f"agent/{agent.uid}/total",
        f"agent/{agent.uid}/day/{day}",
        f"tenant/{mission.namespace}/day/{day}",
    )


def in_all(owner: Key) -> str:
    """Account of everything that the missions of a Project or Goal ever used."""
    return f"{owner.kind.lower()}/{owner.namespace}/{owner.name}/total"


def spent(tx: Snapshot, account: str) -> Spend:
    """What the ledger says was spent; nothing priced yet is None, not zero."""
    used = tx.balance(account).spent
    if used.usd_micros == 0 and used.tokens == 0:
        return Spend()
    return Spend(usd=from_micros(used.usd_micros), input_tokens=used.tokens, source="Reported")


def built_in(tx: Snapshot, namespace: str) -> bool:
    """Whether the built-in limits hold in a namespace; a tenant may refuse what no Budget covers instead."""
    tenant = tx.get(Key("Tenant", "", namespace))
    return True if tenant is None else parsed(TenantSpec, tenant.spec).defaults.built_in_budgets


def work_of(tx: Snapshot, mission: Resource, agent: Resource, spec: AgentSpec, program: ExecutorSpec) -> Work:
    """What is done, and for whom it counts, as the limits see it."""
    declared = parsed(MissionSpec, mission.spec)
    command = program.command or (program.pull.command if program.pull is not None else None)
    free = command is not None and command.output_format in _FREE
    project = declared.project_ref
    return Work(
        tenant=mission.namespace,
        project=None if project is None else project.key("Project", mission.namespace),
        agent=agent.key,
        agent_uid=agent.uid,
        agent_labels=agent.labels,
        level=spec.autonomy_level,
        priced=bool(spec.model) or not free,
        mission=mission.key,
        mission_uid=mission.uid,
        mission_labels=mission.labels,
        mission_type=str(declared.type),
        limits=declared.budget,
        built_in=built_in(tx, mission.namespace),
    )


def _hardest(breaches: Iterable[Breach]) -> Breach | None:
    """The limit that keeps the work waiting longest: one without an end, else the one that ends last."""
    listed = list(breaches)
    endless = [b for b in listed if b.meter.span.end is None]
    if endless or not listed:
        return endless[0] if endless else None
    return max(listed, key=lambda b: (b.meter.span.end or b.meter.span.start, b.meter.account))


def as_limit(want: Amounts) -> timedelta:
    """How long a run may take by what was reserved for it."""
    return timedelta(milliseconds=want.wall_ms)
