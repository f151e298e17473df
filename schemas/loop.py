"""Loop detection: what is counted of work that may go around in circles, and what was found.

Everything here is bounded, and kept in the status of the Mission or the Session that it speaks of: taking in one fact
costs the same however long the work has lasted.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import StatusModel
from schemas.quantities import Time


class LoopSignal(StrEnum):
    """What goes around."""

    MESSAGES = "Messages"  # too many messages on a mission in 30 minutes
    PING_PONG = "PingPong"  # the same pair goes back and forth
    REVIEW_CYCLES = "ReviewCycles"  # it went to review too often
    SAME_ERROR = "SameError"  # a tool keeps failing with the same signature
    SAME_OUTPUT = "SameOutput"  # a tool, the same arguments, the same output
    SAME_CALL = "SameCall"  # leave for the same call is asked for again and again
    NO_PROGRESS = "NoProgress"  # run after run leaves the state unchanged
    SPEND_SLOPE = "SpendSlope"  # money goes much faster than before, and nothing comes of it
    SELF_WAKES = "SelfWakes"  # an agent keeps waking itself


class Minute(StatusModel):
    """What was counted in one minute."""

    minute: int = Field(description="Minutes since 1970 in UTC.")
    count: int = Field(description="How much: a number of things, or millionths of a USD.")


class Tally(StatusModel):
    """One thing that repeats."""

    signal: LoopSignal = Field(description="SameError, SameOutput or PingPong.")
    signature: str = Field(description="What makes two of them the same.")
    what: str = Field(description="It, for people.")
    count: int = Field(description="How often.")
    first_at: Time = Field(description="The first time.")
    last_at: Time = Field(description="The last time.")
    calls: tuple[str, ...] = Field((), description="The latest ones, oldest first: run and number, or record.")
    minutes: tuple[Minute, ...] = Field((), description="How often in each minute, where only a time counts.")


class LoopFinding(StatusModel):
    """Work that goes around in circles."""

    signal: LoopSignal = Field(description="What was found.")
    what: str = Field(description="What repeats, for people.")
    count: int = Field(description="How often.")
    limit: int = Field(description="More than this is a loop.")
    found_at: Time = Field(description="When.")
    first_at: Time | None = Field(None, description="When it began.")
    calls: tuple[str, ...] = Field((), description="The latest repetitions, oldest first.")
    run: str = Field("", description="The run in which it was found.")
    session: str = Field("", description="The session in which it was found.")
    source: str = Field("", description="What sets the limit: a Policy, or built-in.")


class Asked(StatusModel):
    """Calls that an agent asked leave for. Written with each of them, hence small."""

    run: str = Field("", description="The run that asked last.")
    calls: int = Field(0, description="Calls of that run.")
    minute: int = Field(0, description="The minute of the latest call, in minutes since 1970 in UTC.")
    in_minute: int = Field(0, description="Calls in that minute.")
    same: dict[str, tuple[int, int]] = Field(
        default_factory=dict, description="By tool and arguments: minute of the first call in its window, and how many."
    )


class SessionLoop(StatusModel):
    """What is counted of a session."""

    epoch: int = Field(0, description="Epoch of the mission's counts that these belong to.")
    tools: tuple[Tally, ...] = Field((), description="Failures and outputs of tools, the latest last.")
    asked: Asked | None = Field(None, description="Calls that leave was asked for.")
    spend: tuple[Minute, ...] = Field((), description="What was used, in millionths of a USD, by the minute.")
    progress_at: Time | None = Field(None, description="When something new was last seen.")


class MissionLoop(StatusModel):
    """What is counted of a mission, and what was found."""

    epoch: int = Field(0, description="How often the counts were begun anew; those of its sessions follow.")
    messages: tuple[Minute, ...] = Field((), description="Messages of the last 30 minutes.")
    self_wakes: tuple[Minute, ...] = Field((), description="Times its agent woke itself in the last 30 minutes.")
    pairs: tuple[Tally, ...] = Field((), description="Who talks with whom.")
    outcome: str = Field("", description="Digest of the state that the last run left.")
    unchanged_runs: int = Field(0, description="Runs in a row that left the state unchanged.")
    finding: LoopFinding | None = Field(None, description="What was found; it is contained from then on.")
    contained_at: Time | None = Field(None, description="Since when it is contained.")
    alert: str = Field("", description="Name of the Alert that was raised.")
