"""Who asks, and for what: everything about a call that does not depend on what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controllers.gate.shown import STANDARD
from controllers.runs.run_record import RunRecord
from decisions.policy import facts
from schemas.agent import AgentSpec
from schemas.errors import Refused
from schemas.mission import MissionSpec, Spend
from schemas.parsed import parsed
from schemas.passage import Passage
from schemas.policy import Risk
from schemas.redaction import Redactor
from schemas.resource import Resource, digest
from schemas.tool_call import ToolCallSpec
from store.contract import Transaction

OWN_PROGRAM = Passage()


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, as its agent asks for it. ``args`` are as they were sent; ``key`` names the call; ``passage`` is where
    it came through."""

    tool: str
    args: dict[str, Any]
    key: str
    target: str = ""
    estimate: Spend | None = None
    hinted_risk: Risk | None = None
    passage: Passage = OWN_PROGRAM
    args_digest: str = ""
    """``sha256:<hex>`` of the canonical arguments; always that, whatever is given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "args_digest", digest(self.args))

    def is_call_of(self, spec: ToolCallSpec) -> bool:
        """Whether a recorded call is this one: a key names one call only."""
        mine = (self.tool, self.args_digest, self.target, self.estimate)
        return mine == (spec.tool, spec.args_digest, spec.target, spec.estimate)


@dataclass(frozen=True, slots=True)
class Asker:
    """The run that asks, with its mission and agent as they are now."""

    record: RunRecord
    mission: Resource
    agent: Resource
    agent_spec: AgentSpec
    redactor: Redactor = STANDARD
    """Takes credentials out of what is kept of a call, as the Policies in force for the agent say."""

    @property
    def run(self) -> Resource:
        """The run."""
        return self.record.run

    @classmethod
    def load(cls, tx: Transaction, record: RunRecord) -> Asker:
        """Raises Refused (NobodyAsks) when mission or agent are gone: nothing says what they may do."""
        mission = tx.get_by_uid(record.spec.mission_uid)
        agent = tx.get_by_uid(record.spec.agent_uid)
        if mission is None or agent is None:
            gone = "mission" if mission is None else "agent"
            raise Refused(f"the {gone} of run {record.run.name} is gone; nothing is allowed", reason="NobodyAsks")
        return cls(record, mission, agent, parsed(AgentSpec, agent.spec))

    def agent_facts(self) -> facts.AgentFacts:
        """The agent as policies see it. Level and tools take effect at once, also on a run that works already."""
        place = self.agent.provenance.place if self.agent.provenance is not None else ""
        spec = self.agent_spec
        return facts.AgentFacts(
            self.agent.key, spec.autonomy_level, facts.tool_patterns(spec.tools), self.agent.labels, place
        )

    def mission_facts(self) -> facts.MissionFacts:
        """The mission as policies see it."""
        spec = parsed(MissionSpec, self.mission.spec)
        project = spec.project_ref.name if spec.project_ref is not None else ""
        return facts.MissionFacts(self.mission.key, str(spec.type), project, spec.priority, self.mission.labels)
