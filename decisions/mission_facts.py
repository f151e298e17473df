"""What a decision about a mission rests on, and what it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from decisions.holds import Held
from decisions.loops import DEFAULT, LoopLimits
from decisions.meters import Breach
from schemas.amounts import NOTHING, Amounts
from schemas.approval_request import OnTimeout, RequestState, RequestType
from schemas.base import Key
from schemas.event import EventType
from schemas.loop import LoopFinding
from schemas.mission import Artifact, MissionSpec, MissionState, MissionStatus, Spend
from schemas.resource import Actor, ActorKind
from schemas.run import RunState

DECLARED = Actor(ActorKind.HUMAN, "declared", "Source")
"""Stands for the person whose declaration (spec, hold, policy) makes a move."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The mission's open run, or its last one, as recorded."""

    name: str
    uid: str
    state: RunState
    reason: str
    message: str
    attempt: int
    mission_generation: int
    agent: Key
    retryable: bool
    exit_code: int | None
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str
    work_plan: str | None
    self_review: str | None
    deliverable: Artifact | None
    artifacts: tuple[Artifact, ...]
    spend: Spend
    active: bool
    waits_for: str = ""
    """What keeps an ordered run from starting, as kind/namespace/name."""
    waits_until: datetime | None = None
    asked: bool = False
    """Whether it put a question to people: looked at where it ended because it could only wait."""


@dataclass(frozen=True, slots=True)
class DependencyFacts:
    """A mission named in dependsOn. ``state`` is None when there is none of that name."""

    key: Key
    state: MissionState | None


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """The agent it is assigned to."""

    key: Key
    ready: bool
    not_ready_reason: str
    draining: bool
    deleting: bool


@dataclass(frozen=True, slots=True)
class ReviewFacts:
    """The ApprovalRequest that is open for it, or was answered."""

    name: str
    uid: str
    type: RequestType
    state: RequestState
    decided_by: str
    transport: str
    decision: str
    reason: str
    decided_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ActionFacts:
    """An ApprovalRequest about an action of its run: one that is open, or one that the mission waits for."""

    name: str
    uid: str
    title: str
    state: RequestState
    on_timeout: OnTimeout
    expires_at: datetime
    decided_by: str = ""
    transport: str = ""
    reason: str = ""
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TalkFacts:
    """Its session with its agent: when the next follow-up is due that the agent is to be told of, and when the latest
    message came that the agent has not seen."""

    due_at: datetime | None = None
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The Provider that its agent uses, as it stands: ``free`` slots, and where there are none why and until when."""

    provider: Key
    slots: int
    free: int
    message: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MissionFacts:
    """Everything that a decision about a mission may rest on.

    ``agent`` is None when none is named or it does not exist; ``agent_key`` says which one is meant. ``input_error``
    is what the agent's inputSchema says of ``spec.input`` ("" when it fits). ``cycle`` is the way around a dependency
    cycle, if there is one. ``place`` is where the spec stands (path:line), for records. ``declared`` says whether a
    source declares the mission (then its ttl does not remove it). ``breach`` is the limit that leaves no room for its
    next run, which would reserve ``want``. ``loop_limits`` are those of its agent. ``actions`` are its questions about
    actions, oldest first. ``pool`` is None where its agent uses no Provider. ``ceiling`` is set when so many missions
    of its tenant wait that no more are taken in. ``talk`` is looked at where its agent waits for a follow-up.
    """

    key: Key
    uid: str
    generation: int
    spec: MissionSpec
    status: MissionStatus
    annotations: Mapping[str, str]
    created_at: datetime
    deleting_since: datetime | None
    agent_key: Key | None
    agent: AgentFacts | None
    input_error: str
    cycle: tuple[Key, ...]
    dependencies: tuple[DependencyFacts, ...]
    held: Held | None
    run: RunFacts | None
    review: ReviewFacts | None
    place: str = ""
    declared: bool = False
    breach: Breach | None = None
    want: Amounts = NOTHING
    loop_limits: LoopLimits = DEFAULT
    actions: tuple[ActionFacts, ...] = ()
    pool: PoolFacts | None = None
    ceiling: int | None = None
    talk: TalkFacts | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """An event to append."""

    type: EventType
    reason: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)
    actor: Actor | None = None


@dataclass(frozen=True, slots=True)
class AskPerson:
    """An ApprovalRequest to create. ``name`` is deterministic: asking again is the same question."""

    name: str
    type: RequestType
    title: str
    action: dict[str, Any]


@dataclass(slots=True)
class Decision:
    """What follows. ``status`` is complete; the other fields are acts, None or empty when there is nothing to do."""

    status: MissionStatus
    notes: list[Note] = field(default_factory=list)
    cancel_run: str | None = None  # reason
    give_up_run: str | None = None  # message: the run ends as one that may still be running
    ask: AskPerson | None = None
    withdraw: str | None = None  # name of an open request that no longer stands
    grant: str | None = None  # name of the approved request whose amounts are added to its budget
    contained: LoopFinding | None = None  # raise an alert, and keep a summary of what went around
    settled_alert: str = ""  # name of the alert that is over
    consume: str | None = None  # name of the approved request whose leave is used by what is decided here
    close_actions: bool = False  # questions about actions no longer stand, and leaves that were not used end
    remove: bool = False
    wake_at: datetime | None = None
