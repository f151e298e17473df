"""Budget: what may be spent, by whom, in which window, and what happens at the limit."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.agent import AutonomyLevel
from schemas.base import Bool, LabelSelector, Model, Number, ObjectRef, StatusModel, exactly_one_field
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission import Limits, MissionType
from schemas.quantities import Duration, Money, Time
from schemas.time_zone import TimeZone

DEFAULT_AGENT_DAY_USD = MappingProxyType(
    {AutonomyLevel.INTERN: Decimal(2), AutonomyLevel.SPECIALIST: Decimal(5), AutonomyLevel.LEAD: Decimal(12)}
)
"""Built-in limit of an agent and day (UTC), where no Budget covers it (requirement C4)."""
DEFAULT_RUN_USD = MappingProxyType(
    {
        AutonomyLevel.INTERN: Decimal("0.25"),
        AutonomyLevel.SPECIALIST: Decimal("0.75"),
        AutonomyLevel.LEAD: Decimal("1.5"),
    }
)
"""Built-in limit of a run, by the level of its agent."""
DEFAULT_MISSION_USD = MappingProxyType(
    {
        "Content": Decimal(6),
        "SeoResearch": Decimal(4),
        "CustomerResearch": Decimal(5),
        "Social": Decimal(2),
        "EmailMarketing": Decimal(4),
        "Engineering": Decimal(8),
        "Docs": Decimal(3),
        "Ops": Decimal(3),
    }
)
"""Built-in limit of a mission, by its type."""
DEFAULT_OTHER_MISSION_USD = Decimal(2)
"""Built-in limit of a mission of any other type: the lowest of those above."""


class Window(StrEnum):
    """Over which time it counts."""

    RUN = "Run"  # each run for itself
    DAY = "Day"  # from midnight to midnight in timeZone
    MONTH = "Month"  # from the first to the last day of the month in timeZone
    TOTAL = "Total"  # from the beginning


class Counting(StrEnum):
    """Whose spending is added up where a selector or type picks several."""

    EACH = "Each"  # each agent or mission has the limits for itself
    TOGETHER = "Together"  # they share them


class OnBreach(StrEnum):
    """What happens at the limit. The action that would cross it is refused in any case but Warn."""

    WARN = "Warn"  # people are told, work goes on
    THROTTLE = "Throttle"  # nothing new starts until the window is over
    PAUSE_AGENT = "PauseAgent"  # the agent starts nothing until a person or the next window frees it
    BLOCK_MISSION = "BlockMission"  # the mission goes to Blocked
    REQUIRE_APPROVAL = "RequireApproval"  # a person is asked for more: an amount with an end


class BudgetScope(Model):
    """Whose spending counts; exactly one of these."""

    model_config = exactly_one_field()

    tenant: Bool | None = Field(None, description="true: everything in this namespace.")
    project_ref: ObjectRef | None = Field(None, description="Everything done for a project.")
    agent_ref: ObjectRef | None = Field(None, description="One agent.")
    agent_selector: LabelSelector | None = Field(None, description="Agents with these labels; empty for all.")
    mission_selector: LabelSelector | None = Field(None, description="Missions with these labels; empty for all.")
    mission_type: MissionType | None = Field(None, description="Missions of a type.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [field for field in type(self).model_fields if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(
                "name exactly one of tenant, projectRef, agentRef, agentSelector, missionSelector, missionType"
            )
        if self.tenant is False:
            raise ValueError("tenant is true or left out")
        return self


class BudgetSpec(Model):
    """What may be spent. A limit of 0 allows nothing; nothing is ever unlimited."""

    description: str | None = Field(None, max_length=10_000, description="What it is for.")
    scope: BudgetScope = Field(description="Whose spending counts.")
    window: Window = Field(Window.DAY, description="Run, Day, Month or Total.")
    time_zone: TimeZone = Field("UTC", description="Where days and months begin, such as Europe/Berlin.")
    counting: Counting = Field(
        Counting.EACH, description="Each, or Together, where scope picks several agents or missions."
    )
    limits: Limits = Field(description="The limits; at least one.")
    warn_at: Number = Field(0.8, gt=0, le=1, description="Share of a limit at which people are told.")
    also_warn_at: tuple[Annotated[Number, Field(gt=0, le=1)], ...] = Field(
        (), max_length=10, description="Further shares at which people are told."
    )
    on_breach: OnBreach = Field(
        OnBreach.BLOCK_MISSION, description="Warn, Throttle, PauseAgent, BlockMission or RequireApproval."
    )

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.limits.model_dump(exclude_none=True):
            raise ValueError("limits names none of usd, tokens, toolCalls, wallTime: the budget would limit nothing")
        return self


class BudgetReason(StrEnum):
    """Reasons of a Budget's conditions."""

    RECONCILED = "Reconciled"  # it is in force
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    WITHIN_LIMITS = "WithinLimits"  # below warnAt
    WARNING = "Warning"  # above warnAt
    EXCEEDED = "Exceeded"  # a limit is reached; onBreach applies
    EXTENDED = "Extended"  # a person granted more
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # scope names a project or agent that does not exist
    IN_USE = "InUse"  # deletion waits: a Tenant refers to it
    WIDENING_PENDING = "WideningPending"  # its deletion or loosening waits for `remit confirm`; it stays in force
    DELETING = "Deleting"  # deletionTimestamp is set


class Amounts(StatusModel):
    """Money and effort. With counting Each: of whoever used most."""

    usd: Money | None = Field(None, description="USD.")
    tokens: int | None = Field(None, description="Tokens.")
    tool_calls: int | None = Field(None, description="Tool calls.")
    wall_time: Duration | None = Field(None, description="Time of runs.")


class BudgetStatus(StatusModel):
    """How much is left of the current window."""

    conditions: Conditions = Field((), description="Ready, WithinBudget.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    window_start: Time | None = Field(None, description="Beginning of the current window.")
    window_end: Time | None = Field(None, description="Its end.")
    spent: Amounts = Field(default_factory=Amounts, description="Used.")
    reserved: Amounts = Field(default_factory=Amounts, description="Set aside for what is under way.")
    granted: Amounts = Field(default_factory=Amounts, description="Added by people on top of the limits.")
    remaining: Amounts = Field(default_factory=Amounts, description="Left.")
    burn_per_hour: Money | None = Field(None, description="USD spent in an hour, on average since the window began.")
    forecast_breach_time: Time | None = Field(None, description="When a limit is reached at this pace.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Budget",
    plural="budgets",
    short_names=("bud",),
    object_class=ObjectClass.INTENT,
    spec=BudgetSpec,
    status=BudgetStatus,
    reasons=BudgetReason,
    description="What may be spent.",
    guardrail=True,
    condition_types=("Ready", "WithinBudget"),
    columns=(
        Column("WINDOW", "spec.window"),
        Column("LIMIT", "spec.limits.usd", "money"),
        Column("SPENT", "status.spent.usd", "money"),
        Column("REMAINING", "status.remaining.usd", "money"),
        Column("WITHIN", "status.conditions[WithinBudget].status"),
        Column("ON BREACH", "spec.onBreach"),
        Column("RESERVED", "status.reserved.usd", "money", wide=True),
        Column("BURN/H", "status.burnPerHour", "money", wide=True),
        Column("FORECAST", "status.forecastBreachTime", "date", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
