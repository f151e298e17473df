"""When the daily summary is made: one time of the day, on the clock of a place."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Model
from schemas.channel import ClockTime
from schemas.time_zone import TimeZone


class Standup(Model):
    """When people are told what happened since yesterday."""

    at: ClockTime = Field("09:00", description="Time of the day.")
    time_zone: TimeZone = Field("UTC", description="Whose clock, such as Europe/Berlin.")
