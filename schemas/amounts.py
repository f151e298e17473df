"""What is counted against a limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amounts:
    """What is counted against a limit. Whole numbers: millionths of a USD, tokens, calls, milliseconds."""

    usd_micros: int = 0
    tokens: int = 0
    tool_calls: int = 0
    wall_ms: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.usd_micros + other.usd_micros,
            self.tokens + other.tokens,
            self.tool_calls + other.tool_calls,
            self.wall_ms + other.wall_ms,
        )

    def __neg__(self) -> Amounts:
        return Amounts(-self.usd_micros, -self.tokens, -self.tool_calls, -self.wall_ms)


NOTHING = Amounts()
