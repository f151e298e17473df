"""What surrounds the calls of a run: its mission and agent, the Policies, limits and Holds that speak of them. Worked
out once, and again when any of it is another one; what limits hold is read with each call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controllers.gate import falls_under, rules
from controllers.gate.asking import Asker
from controllers.gate.falls_under import FallsUnder
from controllers.gate.shown import REDACTORS
from controllers.holds import effective
from controllers.runs.run_record import RunRecord, agent_actor
from decisions.holds import HoldFacts
from decisions.policy.compiled import PolicySet
from decisions.policy.facts import AgentFacts, MissionFacts
from schemas.agent import AgentSpec
from schemas.redaction import Redactor
from schemas.resource import Actor, Resource
from schemas.run import RunSpec
from store.contract import Transaction

_RESTS_ON = ("Budget", "Executor", "Hold", "Policy", "Tenant", "Waiver")
_MOST = 2_000
_QUARTER = timedelta(minutes=15)
"""Midnight, wherever it is, falls on a quarter of an hour."""
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Around:
    """What stands for every call of a run. ``falls`` None: its executor is gone."""

    mission: Resource
    agent: Resource
    agent_spec: AgentSpec
    redactor: Redactor
    policies: PolicySet
    agent_facts: AgentFacts
    mission_facts: MissionFacts
    holds: tuple[HoldFacts, ...]
    falls: FallsUnder | None
    actor: Actor

    def asker(self, record: RunRecord) -> Asker:
        """Who asks, with the record of the run as it is now."""
        return Asker(record, self.mission, self.agent, self.agent_spec, self.redactor)


@dataclass(frozen=True, slots=True)
class _Known:
    run_spec: RunSpec
    mark: object
    quarter: int
    around: Around


class Surroundings:
    """Of every run that asks. Shared by threads; holds nothing that the store does not."""

    def __init__(self, rulebook: rules.Rulebook) -> None:
        self._rulebook = rulebook
        self._known: dict[str, _Known] = {}

    def of(self, tx: Transaction, record: RunRecord) -> Around:
        """As things stand in this transaction. What was worked out before still stands while the store hands out the
        very same mission and agent and nothing else that it rests on was written. Raises Refused (NobodyAsks)."""
        known = self._known.get(record.run.uid)
        quarter = (tx.now - _ZERO) // _QUARTER
        if (
            known is not None
            and known.run_spec is record.spec
            and known.quarter == quarter
            and known.mark is tx.mark(_RESTS_ON)
            and known.around.mission is tx.get_by_uid(record.spec.mission_uid)
            and known.around.agent is tx.get_by_uid(record.spec.agent_uid)
        ):
            return known.around
        around = self._look(tx, record)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[record.run.uid] = _Known(record.spec, tx.mark(_RESTS_ON), quarter, around)
        return around

    def _look(self, tx: Transaction, record: RunRecord) -> Around:
        asker = Asker.load(tx, record)
        policies = self._rulebook.of(tx, asker.agent)
        return Around(
            asker.mission,
            asker.agent,
            asker.agent_spec,
            REDACTORS[policies.redaction],
            policies,
            asker.agent_facts(),
            asker.mission_facts(),
            tuple(effective.holds(tx)),
            falls_under.look(tx, asker),
            agent_actor(record.run),
        )
