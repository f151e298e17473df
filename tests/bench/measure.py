"""How a ratio is measured: ours and the floor by turns in one run, so that what disturbs one disturbs the other."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """What one bench found. ``ratio`` is ours to the floor, in the sense that the bench's target has; ``ours`` and
    ``floor`` are the figures behind it, with their unit. They are there to judge the ratio by, not to be quoted."""

    ratio: float
    ours: str
    floor: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """One line of the table. ``limit`` bounds the ratio: from above, or from below where ``at_least``. ``run(scale)``
    does the work; 1.0 is the size that the table shows, a small fraction the size that tests run."""

    name: str
    what: str
    against: str
    limit: float
    run: Callable[[float], Measured]
    at_least: bool = False

    @property
    def target(self) -> str:
        """The bound as a person reads it."""
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def met(self, measured: Measured) -> bool:
        """Whether the target is reached."""
        return measured.ratio >= self.limit if self.at_least else measured.ratio <= self.limit


def sized(full: int, scale: float, least: int = 3) -> int:
    """A count at a scale."""
    return max(least, round(full * scale))


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, with the garbage of what came before collected."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time that one call takes, in this process and in those that it starts and waits for. What
    waits for the disk, or for a processor that others use, counts nothing."""
    gc.collect()
    began = _spent()
    work()
    return _spent() - began


def _spent() -> float:
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def by_turns(
    ours: Callable[[], object], floor: Callable[[], object], rounds: int,
    clock: Callable[[Callable[[], object]], float] = seconds,
) -> tuple[float, float]:  # fmt: skip
    """Median of both, called alternately, by ``clock``."""
    pairs = [(clock(ours), clock(floor)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def ms(value: float) -> str:
    """Seconds as milliseconds."""
    return f"{value * 1000:,.3g} ms" if value < 1 else f"{value * 1000:,.0f} ms"


def per_second(count: int, spent: float) -> str:
    """A rate."""
    return f"{count / spent:,.0f}/s"
