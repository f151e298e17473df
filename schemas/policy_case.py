"""Cases of Policies: calls with the ruling that a person expects. Files beside the specs; never part of a fleet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.agent import AutonomyLevel
from schemas.base import JsonObject, Labels, Line, Model, Name, Namespace
from schemas.mission import MissionType
from schemas.policy import Risk, Verdict
from schemas.quantities import Money, Time

SUFFIX = ".policytest"
"""How the names of files with cases end. They hold YAML, and are no manifests."""

ToolName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class CaseAgent(Model):
    """An agent that is made up for the case."""

    autonomy_level: AutonomyLevel = Field(AutonomyLevel.INTERN, description="Intern, Specialist or Lead.")
    tools: tuple[ToolName, ...] = Field(("*",), description="Names and globs of spec.tools; every tool by default.")
    labels: Labels = Field(default_factory=dict, description="Labels that selectors look at.")


class CaseCall(Model):
    """What the agent wants to do."""

    tool: ToolName = Field(description="Tool, as the agent names it.")
    args: JsonObject = Field(default_factory=dict, description="Its arguments.")
    target: str = Field("", description="What the agent says it acts on.")


class CaseMission(Model):
    """What it works on."""

    name: Name = Field("case", description="Name of the mission.")
    type: MissionType | None = Field(None, description="Its type.")
    project: str = Field("", description="Its project.")
    priority: int = Field(50, ge=0, le=100, description="Its priority.")
    labels: Labels = Field(default_factory=dict, description="Its labels.")


class CaseSpend(Model):
    """Money that expressions look at, in USD."""

    estimate: Money | None = Field(None, description="What the call is thought to cost.")
    run: Money | None = Field(None, description="What the run used so far.")
    mission: Money | None = Field(None, description="What the mission used so far.")
    today: Money | None = Field(None, description="What the agent used today.")
    remaining: Money | None = Field(None, description="What is left of the tightest budget.")


class Case(Model):
    """One call and what is expected of it."""

    name: Line = Field(description="What the case shows, in words.")
    agent: Name | None = Field(None, description="A declared Agent; or say what it is like under agentLike.")
    agent_like: CaseAgent | None = Field(None, description="An agent that is made up for the case.")
    namespace: Namespace = Field("default", description="Namespace of the agent.")
    call: CaseCall = Field(description="What it wants to do.")
    mission: CaseMission | None = Field(None, description="What it works on.")
    spend: CaseSpend = Field(default_factory=CaseSpend, description="Money that expressions look at.")
    at: Time | None = Field(None, description="The moment of the call; when the cases are run by default.")
    expect: Verdict = Field(description="Allow, RequireApproval or Deny.")
    risk: Risk | None = Field(None, description="The risk it is weighed at; not looked at by default.")
    rule: str | None = Field(
        None, min_length=1, max_length=500, description="Words that what decides has to contain; any by default."
    )


class CaseFile(Model):
    """A file with cases."""

    cases: tuple[Case, ...] = Field(min_length=1, max_length=10_000, description="The cases.")
