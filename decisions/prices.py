"""What tokens cost: the price that is in force for a model, and what it comes to. Whole numbers, rounded up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from schemas.base import Key
from schemas.provider import Price
from schemas.quantities import format_time, to_micros

_MILLION = 10**6
MOST_MICROS = 2**53
"""No single amount is larger in the ledger."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts. ``input`` includes what was read from a cache or written to one."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A declared price and where it stands: its Provider, and the generation of that."""

    provider: Key
    generation: int
    price: Price

    @property
    def version(self) -> str:
        """What names this price for ever: a later edit of the Provider has another generation."""
        since = "" if self.price.effective_from is None else f" since {format_time(self.price.effective_from)}"
        return f"{self.provider.namespace}/{self.provider.name}@{self.generation} {self.price.model}{since}"


@dataclass(frozen=True, slots=True)
class Priced:
    """What tokens come to (millionths of a USD), and at which price."""

    micros: int
    listed: Listed


def price_of(prices: Iterable[Listed], model: str, at: datetime) -> Listed | None:
    """The price of ``model`` at a time: the longest name that fits, of those the one in force last. A name that fits
    only before its ``effectiveFrom`` does not hide a shorter one. Between providers that list the same name the dearer
    counts. None when no price fits."""
    fitting = [p for p in prices if _fits(p.price.model, model) and _in_force(p.price, at)]
    if not fitting:
        return None
    longest = max(_rank(p.price.model) for p in fitting)
    newest: dict[Key, Listed] = {}
    for listed in (p for p in fitting if _rank(p.price.model) == longest):
        known = newest.get(listed.provider)
        if known is None or _since(listed) > _since(known):
            newest[listed.provider] = listed
    return max(newest.values(), key=lambda p: (p.price.input_per_million + p.price.output_per_million, p.provider))


def cost(price: Price, tokens: Tokens) -> int:
    """Millionths of a USD, rounded up to a whole one. What a cache took part in counts at its own price, as far as one
    is declared; more cached tokens than input are counted as they are: never too little."""
    each_in = to_micros(price.input_per_million)
    each_read = each_in if price.cache_read_per_million is None else to_micros(price.cache_read_per_million)
    each_write = each_in if price.cache_write_per_million is None else to_micros(price.cache_write_per_million)
    fresh = max(0, tokens.input - tokens.cache_read - tokens.cache_write)
    total = fresh * each_in + tokens.cache_read * each_read + tokens.cache_write * each_write
    total += tokens.output * to_micros(price.output_per_million)
    return min(MOST_MICROS, -(-total // _MILLION))


def priced(prices: Iterable[Listed], models: Iterable[str], tokens: Tokens, at: datetime) -> Priced | None:
    """What the tokens cost at most, where one of ``models`` was used; None unless each of them has a price."""
    listed = list(prices)
    found = [price_of(listed, model, at) for model in models]
    known = [p for p in found if p is not None]
    if not known or len(known) < len(found):
        return None
    return max((Priced(cost(p.price, tokens), p) for p in known), key=lambda p: p.micros)


def _fits(pattern: str, model: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


def _rank(pattern: str) -> tuple[int, bool]:
    """A whole name counts before one with an ending left open."""
    return len(pattern.removesuffix("*")), not pattern.endswith("*")


def _in_force(price: Price, at: datetime) -> bool:
    return price.effective_from is None or price.effective_from <= at


def _since(listed: Listed) -> float:
    start = listed.price.effective_from
    return float("-inf") if start is None else start.timestamp()
