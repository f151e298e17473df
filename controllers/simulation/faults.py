"""What goes wrong in a simulation: workers die, providers refuse, clocks jump, the engine is killed. All of it follows
from the seed.

What befalls a run is drawn from the seed and the run's name, as its time and cost are; when storms, jumps and kills
come is drawn from the seed alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from schemas.base import Key
from schemas.quantities import parse_duration

Act = Callable[[], None]
At = Callable[[datetime, Act], None]
NONE, USUAL = "none", "usual"
REFUSAL = 429
LONGEST_BACK = timedelta(minutes=2)
"""A clock is set back by so much at most; forward by ``Faults.jump``."""
LONGEST_DOWN = timedelta(minutes=5)
"""How long an engine that was killed may be away."""
_MOST_STEPS = 60
_FIRST_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Faults:
    """``deaths`` is the share of runs whose worker dies. ``storms``, ``jumps`` and ``kills`` are mean times between
    two, None for never. A storm makes one Provider refuse everything with 429 for about ``storm``."""

    deaths: float = 0.0
    storms: timedelta | None = None
    storm: timedelta = timedelta(minutes=20)
    jumps: timedelta | None = None
    jump: timedelta = timedelta(minutes=15)
    kills: timedelta | None = None


MANY = Faults(0.02, timedelta(hours=12), timedelta(minutes=20), timedelta(hours=24), timedelta(minutes=15),
              timedelta(hours=3))  # fmt: skip
"""What ``usual`` stands for."""


def parse(text: str) -> Faults:
    """``none``, ``usual``, or a list such as ``deaths=0.02,storms=12h,storm=20m,jumps=24h,jump=15m,kills=3h``; what it
    leaves out does not happen, or is as usual for ``storm`` and ``jump``. Raises ValueError."""
    if text == NONE:
        return Faults()
    if text == USUAL:
        return MANY
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in ("deaths", "storms", "storm", "jumps", "jump", "kills"):
            raise ValueError(
                f"{part[:50]!r} is none of deaths=SHARE, storms=TIME, storm=TIME, jumps=TIME, jump=TIME, kills=TIME"
            )
        given[name] = _share(value) if name == "deaths" else _time(name, value)
    return Faults(**given)


def _time(name: str, text: str) -> timedelta:
    value: timedelta = parse_duration(text)
    if value <= timedelta():
        raise ValueError(f"{name}={text[:50]} is no time to pass")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"deaths={text[:50]} is no share between 0 and 1")
    return value


@dataclass(frozen=True, slots=True)
class Mishap:
    """What befalls one run: whether its worker dies, at which part of its time, and how long its Provider asks to be
    left alone when it refuses (None: it does not say), after so many seconds."""

    dies: bool
    part: float
    retry_after_s: int | None
    refused_after_s: float


def mishap(seed: int, run: str, faults: Faults) -> Mishap:
    """The run's share of bad luck; the same for the same seed and name."""
    random = Random(f"{seed}/{run}/mishap")  # noqa: S311  a forecast, no secret
    dies, part = random.random() < faults.deaths, random.random()
    return Mishap(dies, part, random.choice((None, 5, 30, 60, 120)), random.uniform(1.0, _FIRST_ANSWER_S))


@dataclass
class Weather:
    """When storms, jumps and kills come in one simulation, and how many came. ``storms`` are the Providers that refuse,
    with the end of it."""

    faults: Faults
    random: Random
    storms: dict[Key, datetime] = field(default_factory=dict)
    came: Counter[str] = field(default_factory=Counter)
    set_back: bool = False
    _planned: bool = False

    def refuses(self, provider: Key | None, now: datetime) -> bool:
        """Whether the Provider refuses everything at this moment."""
        return provider is not None and now < self.storms.get(provider, now)

    def wait(self, mean: timedelta) -> timedelta:
        """Until the next of what comes so often."""
        return mean * self.random.uniform(0.2, 1.8)

    def break_out(self, providers: Iterable[Key], now: datetime) -> None:
        """A storm at one of these."""
        known = sorted(providers)
        if known:
            self.storms[self.random.choice(known)] = now + self.wait(self.faults.storm)
            self.came["storms"] += 1

    def jump(self) -> timedelta:
        """How far the clock is set, forward or back."""
        self.came["jumps"] += 1
        if self.random.random() < 0.25:
            self.set_back = True
            return -LONGEST_BACK * self.random.random()
        return self.faults.jump * self.random.random()

    def steps(self) -> int:
        """After how many more steps of the engine it is killed."""
        self.came["kills"] += 1
        return self.random.randrange(_MOST_STEPS)

    def down(self) -> timedelta:
        """How long it is away after that; often not at all."""
        return LONGEST_DOWN * self.random.random() if self.random.random() < 0.5 else timedelta()

    def plan(self, at: At, now: Callable[[], datetime], acts: Mapping[str, Act]) -> None:
        """Have ``storms``, ``jumps`` and ``kills`` come by and by, each followed by the next. Once is enough."""
        if self._planned:
            return
        self._planned = True
        for name in ("storms", "jumps", "kills"):
            mean = getattr(self.faults, name)
            if mean is not None:
                self._again(at, now, mean, acts[name])

    def _again(self, at: At, now: Callable[[], datetime], mean: timedelta, act: Act) -> None:
        def come() -> None:
            act()
            at(now() + self.wait(mean), come)

        at(now() + self.wait(mean), come)
