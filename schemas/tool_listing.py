"""How a proxy learns of a ToolServer, and tells what that offers: messages of the agent port."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import JsonObject, Model
from schemas.policy import Risk
from schemas.protocol import Message
from schemas.tool_server import MAX_TOOLS

RESOURCE, PROMPT = "@resource", "@prompt"
"""What the resources and prompts of a server are called at the gate: no tool can have such a name."""


class ServerView(Model):
    """A ToolServer as the proxy of a run sees it. Secrets stand in it by reference only."""

    name: str = Field(description="Its name.")
    namespace: str = Field(description="Its namespace.")
    uid: str = Field(description="Its uid.")
    generation: int = Field(description="Generation of the spec.")
    spec: JsonObject = Field(description="What is declared, with every default.")
    run: str = Field(description="Name of the run that asks.")
    reach: tuple[str, ...] = Field((), description="Which of @resource and @prompt the agent may ever be allowed.")
    agent: str = Field(description="The agent that asks, as namespace/name.")


class ToolsMessage(Message):
    """What a tool server offers now: the definition of each of its tools."""

    definitions: tuple[JsonObject, ...] = Field(max_length=MAX_TOOLS, description="As tools/list of the server gave.")


class Listing(StrEnum):
    """Whether the agent is shown a tool."""

    LISTED = "Listed"  # accepted, and its policy may allow it
    QUARANTINED = "Quarantined"  # new or changed: nobody has accepted this definition
    NOT_ALLOWED = "NotAllowed"  # no call of it could ever be allowed to this agent


class JudgedTool(Model):
    """One tool, and whether the agent is shown it."""

    name: str = Field(description="Name at its server.")
    digest: str = Field(description="sha256:<hex> of its definition.")
    listing: Listing = Field(description="Listed, Quarantined or NotAllowed.")
    hinted_risk: Risk | None = Field(None, description="Risk that the server itself names.")


class JudgedTools(Model):
    """The answer: one entry for each definition that can be read, in their order."""

    items: tuple[JudgedTool, ...] = Field(description="The tools.")
