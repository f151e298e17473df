"""Which limits a run falls under, and whether there is room for it.

A meter is one limit over one ledger account: what is spent and reserved there, plus what the run may use at worst, may
not exceed the limit and what people granted on top. Where no Budget speaks of an agent's day or a mission's whole life,
the built-in limits do, so that nothing is ever unlimited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from decisions.windows import Span, span
from schemas.agent import AutonomyLevel
from schemas.amounts import NOTHING, Amounts
from schemas.base import Key
from schemas.budget import (
    DEFAULT_AGENT_DAY_USD,
    DEFAULT_MISSION_USD,
    DEFAULT_OTHER_MISSION_USD,
    DEFAULT_RUN_USD,
    BudgetSpec,
    Counting,
    OnBreach,
    Window,
)
from schemas.mission import Limits
from schemas.quantities import format_duration, format_money, from_micros, to_micros

BUILT_IN = "built-in"
OWN_LIMIT = "spec.budget"
"""Origin of a limit that a mission declares for itself."""


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit; None where that dimension is not limited. Units of ``Amounts``."""

    usd_micros: int | None = None
    tokens: int | None = None
    tool_calls: int | None = None
    wall_ms: int | None = None

    @classmethod
    def of(cls, limits: Limits) -> Cap:
        """The same limits, in the ledger's units."""
        return cls(
            usd_micros=None if limits.usd is None else to_micros(limits.usd),
            tokens=limits.tokens,
            tool_calls=limits.tool_calls,
            wall_ms=None if limits.wall_time is None else limits.wall_time // timedelta(milliseconds=1),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """What is about to run, and for whom it counts. ``priced`` is whether it uses a model: a program without one costs
    no money that could be counted."""

    tenant: str
    project: Key | None
    agent: Key
    agent_uid: str
    agent_labels: Mapping[str, str]
    level: AutonomyLevel
    priced: bool
    mission: Key
    mission_uid: str
    mission_labels: Mapping[str, str]
    mission_type: str
    limits: Limits
    built_in: bool = True


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit that counts now. ``origin`` is the Budget, or what else set it; ``budget`` its key, where it is one."""

    account: str
    cap: Cap
    origin: str
    on_breach: OnBreach
    span: Span
    warn_at: float = 1.0
    budget: Key | None = None
    also_warn_at: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter's account holds."""

    spent: Amounts
    reserved: Amounts
    granted: Amounts


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that leaves no room. ``short`` is how much more it would take. ``firm`` is whether there would be none
    either if all that is reserved came back; ``granted`` is what people have added by now."""

    meter: Meter
    message: str
    short: Amounts
    firm: bool = True
    granted: Amounts = NOTHING


def covers(key: Key, spec: BudgetSpec, work: Work) -> bool:
    """Whether a Budget counts this work. A Budget speaks for its own namespace."""
    scope = spec.scope
    if key.namespace != work.tenant:
        return False
    if scope.tenant is not None:
        return True
    if scope.project_ref is not None:
        return scope.project_ref.key("Project", key.namespace) == work.project
    if scope.agent_ref is not None:
        return scope.agent_ref.key("Agent", key.namespace) == work.agent
    if scope.agent_selector is not None:
        return _matches(scope.agent_selector.match_labels, work.agent_labels)
    if scope.mission_selector is not None:
        return _matches(scope.mission_selector.match_labels, work.mission_labels)
    return scope.mission_type is not None and str(scope.mission_type) == work.mission_type


def account_of(key: Key, spec: BudgetSpec, work: Work, window: Span) -> str:
    """The ledger account in which a Budget adds this work up."""
    scope = spec.scope
    if scope.tenant is not None:
        return f"tenant/{key.namespace}/{window.name}"
    if scope.project_ref is not None:
        project = scope.project_ref.key("Project", key.namespace)
        return f"project/{project.namespace}/{project.name}/{window.name}"
    picks_several = scope.agent_selector or scope.mission_selector or scope.mission_type
    if picks_several and spec.counting is Counting.TOGETHER:
        return f"budget/{key.namespace}/{key.name}/{window.name}"
    if scope.agent_ref is not None or scope.agent_selector is not None:
        return f"agent/{work.agent_uid}/{window.name}"
    return f"mission/{work.mission_uid}/{window.name}"


def meters(work: Work, budgets: Iterable[tuple[Key, BudgetSpec]], now: datetime) -> list[Meter]:
    """Every limit over an account that a run of this work falls under, those of single runs left out."""
    found: list[Meter] = []
    agent_day = mission_total = False
    for key, spec in budgets:
        if not covers(key, spec, work) or spec.window is Window.RUN:
            continue
        window = span(spec.window, spec.time_zone, now)
        account = account_of(key, spec, work, window)
        found.append(
            Meter(account, Cap.of(spec.limits), key.short, spec.on_breach, window, spec.warn_at, key, spec.also_warn_at)
        )
        money = spec.limits.usd is not None
        agent_day |= money and spec.window is Window.DAY and account.startswith("agent/")
        mission_total |= money and spec.window is Window.TOTAL and account.startswith("mission/")
    day, total = span(Window.DAY, "UTC", now), span(Window.TOTAL, "UTC", now)
    if work.limits.model_dump(exclude_none=True):
        cap = Cap.of(work.limits)
        found.append(Meter(f"mission/{work.mission_uid}/total", cap, OWN_LIMIT, OnBreach.BLOCK_MISSION, total))
        mission_total |= work.limits.usd is not None
    if not agent_day:
        cap = Cap(usd_micros=to_micros(DEFAULT_AGENT_DAY_USD[work.level] if work.built_in else Decimal(0)))
        found.append(Meter(f"agent/{work.agent_uid}/{day.name}", cap, BUILT_IN, OnBreach.THROTTLE, day, 0.8))
    if not mission_total:
        usd = DEFAULT_MISSION_USD.get(work.mission_type, DEFAULT_OTHER_MISSION_USD) if work.built_in else Decimal(0)
        cap = Cap(usd_micros=to_micros(usd))
        found.append(Meter(f"mission/{work.mission_uid}/total", cap, BUILT_IN, OnBreach.BLOCK_MISSION, total, 0.8))
    return found


def worst_case(work: Work, budgets: Iterable[tuple[Key, BudgetSpec]], timeout: timedelta) -> Amounts:
    """The most that one run may use, which is what is reserved for it: the tightest of the Budgets of single runs, of
    the mission's own limits and of the built-in one."""
    caps = [Cap.of(spec.limits) for key, spec in budgets if spec.window is Window.RUN and covers(key, spec, work)]
    usd = [cap.usd_micros for cap in caps if cap.usd_micros is not None]
    if not usd:
        usd = [to_micros(DEFAULT_RUN_USD[work.level] if work.built_in else Decimal(0))]
    own = Cap.of(work.limits)
    usd += [own.usd_micros] if own.usd_micros is not None else []
    return Amounts(
        usd_micros=min(usd) if work.priced else 0,
        tokens=_tightest([c.tokens for c in caps], 0) if work.priced else 0,
        tool_calls=_tightest([c.tool_calls for c in caps], 0),
        wall_ms=_tightest([c.wall_ms for c in [*caps, own]], timeout // timedelta(milliseconds=1), ceiling=True),
    )


def refused_run(work: Work, budgets: Iterable[tuple[Key, BudgetSpec]], now: datetime) -> Breach | None:
    """A Budget of single runs that allows none: a limit of 0 allows nothing."""
    for key, spec in budgets:
        if spec.window is not Window.RUN or not covers(key, spec, work):
            continue
        cap = Cap.of(spec.limits)
        for name in _DIMENSIONS:
            if getattr(cap, name) == 0 and (work.priced or name in ("tool_calls", "wall_ms")):
                meter = Meter("", cap, key.short, spec.on_breach, span(Window.RUN, "UTC", now), spec.warn_at, key)
                return Breach(meter, f"{key.short} allows a run no {_WORDS[name]}", Amounts())
    return None


def room(meter: Meter, reading: Reading, want: Amounts) -> Breach | None:
    """None when the run fits; else how it does not. What is used up entirely has room for nothing, also for work that
    costs nothing we could count."""
    used = reading.spent + reading.reserved
    short: dict[str, int] = {}
    words, firm = "", False
    for name in _DIMENSIONS:
        cap = getattr(meter.cap, name)
        if cap is None:
            continue
        limit = cap + getattr(reading.granted, name)
        over = getattr(used, name) + getattr(want, name) - limit
        if over > 0 or getattr(used, name) >= limit:
            short[name] = max(over, 1)
            spent = getattr(reading.spent, name)
            firm |= spent >= limit or spent + getattr(want, name) > limit
            if not words:
                words = _said(name, meter, reading, want, limit)
    return Breach(meter, words, Amounts(**short), firm, reading.granted) if short else None


class Holding(Protocol):
    """What an account holds: a Reading, or a balance of the store."""

    @property
    def spent(self) -> Amounts:
        """What was used."""

    @property
    def reserved(self) -> Amounts:
        """What is put aside."""

    @property
    def granted(self) -> Amounts:
        """What people added."""


def fits(cap: Cap, reading: Holding, want: Amounts) -> bool:
    """Whether there is room for what is wanted, and nothing is overdrawn: what ``room``, asked only for what is wanted,
    and ``overdrawn`` say, without the words."""
    spent, reserved, granted = reading.spent, reading.reserved, reading.granted
    for name in _DIMENSIONS:
        limit = getattr(cap, name)
        if limit is None:
            continue
        left = limit + getattr(granted, name) - getattr(spent, name) - getattr(reserved, name)
        more = getattr(want, name)
        if left < more or (more and left <= 0):
            return False
    return True


def overdrawn(meter: Meter, reading: Reading) -> bool:
    """Whether more is spent and reserved than the limit and what was granted allow."""
    used, cap = reading.spent + reading.reserved, meter.cap
    return any(
        getattr(cap, name) is not None and getattr(used, name) > getattr(cap, name) + getattr(reading.granted, name)
        for name in _DIMENSIONS
    )


def share(meter: Meter, reading: Reading) -> float:
    """The largest share of a limit that is spent or reserved; above 1 when more is."""
    used = reading.spent + reading.reserved
    shares = [0.0]
    for name in _DIMENSIONS:
        cap = getattr(meter.cap, name)
        if cap is not None:
            limit = cap + getattr(reading.granted, name)
            shares.append(getattr(used, name) / limit if limit else 1.0)
    return max(shares)


_DIMENSIONS = ("usd_micros", "tokens", "tool_calls", "wall_ms")
_WORDS = {"usd_micros": "USD", "tokens": "tokens", "tool_calls": "tool calls", "wall_ms": "time"}


def _said(name: str, meter: Meter, reading: Reading, want: Amounts, limit: int) -> str:
    spent, reserved, more = (getattr(a, name) for a in (reading.spent, reading.reserved, want))
    figures = [f"{shown(name, spent)} spent", f"{shown(name, reserved)} reserved"]
    if more:
        figures.append(f"up to {shown(name, more)} for this run")
    whose = "the built-in limit" if meter.origin == BUILT_IN else meter.origin
    return f"{whose} of {shown(name, limit)}{_per(meter.span)}: {', '.join(figures)}"


def shown(name: str, amount: int) -> str:
    """An amount with its unit."""
    if name == "usd_micros":
        return f"{format_money(from_micros(amount))} USD"
    if name == "wall_ms":
        return format_duration(timedelta(milliseconds=amount))
    return f"{amount} {_WORDS[name]}"


def _per(window: Span) -> str:
    return {"day": " a day", "month": " a month"}.get(window.name.partition("/")[0], "")


def _matches(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())


def _tightest(values: Iterable[int | None], otherwise: int, *, ceiling: bool = False) -> int:
    given = [v for v in values if v is not None]
    if ceiling:
        given.append(otherwise)
    return min(given) if given else otherwise
