"""One Run record inside one transaction: read once, changed in memory, written with its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from controllers.runs import pricing
from controllers.runs.redaction_level import redactor_of
from controllers.runs.text import WORD, line
from controllers.runs.verdict import Share
from decisions.mission_run_end import add_spend
from decisions.prices import Tokens
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.errors import NotFound
from schemas.event import EventType
from schemas.mission import Artifact, Spend
from schemas.parsed import parsed
from schemas.passage import Passage
from schemas.quantities import format_money, from_micros, to_micros
from schemas.redaction import Redactor
from schemas.resource import Actor, ActorKind, Resource
from schemas.run import ENDED, ModelUsage, RunReason, RunSpec, RunState, RunStatus
from schemas.usage_record import UsageSource
from store.contract import Snapshot, Transaction

MOST_USD = Decimal(10) ** 6
MOST_TOKENS = 10**12
"""What a run is booked with at most (tokens: of each kind). An agent may report any nonsense, and whatever adds up its
runs has limits of its own."""
MOST_MODELS = 50
UNPRICED = "Unpriced"
"""Reason of a usage event whose tokens have no price."""


def find_run(snapshot: Snapshot, run_uid: str) -> Resource:
    """The Run. Raises NotFound."""
    found = snapshot.get_by_uid(run_uid)
    if found is None or found.kind != "Run":
        raise NotFound(f"there is no Run with uid {run_uid}; it may have been removed with its mission")
    return found


def agent_of(run: Resource) -> Key:
    """The agent that works on it."""
    return parsed(RunSpec, run.spec).agent_ref.key("Agent", run.namespace)


def agent_actor(run: Resource) -> Actor:
    """Who writes when the agent of this run does: its identity was proven by the run's token."""
    agent = agent_of(run)
    return Actor(ActorKind.AGENT, f"agent:{agent.namespace}/{agent.name}", "Token")


class RunRecord:
    """A Run that is being changed. ``save`` writes status and events; without it nothing happened."""

    def __init__(self, tx: Transaction, run: Resource) -> None:
        self.tx = tx
        self.run = run
        self.spec = parsed(RunSpec, run.spec)
        self.status = self._read = parsed(RunStatus, run.status)
        self._events: list[Callable[[Resource], object]] = []

    @classmethod
    def load(cls, tx: Transaction, run_uid: str) -> RunRecord:
        """Raises NotFound."""
        return cls(tx, find_run(tx, run_uid))

    @cached_property
    def redactor(self) -> Redactor:
        """What takes credentials out of what its agent writes."""
        return redactor_of(self.tx, self.run)

    @property
    def ended(self) -> bool:
        """Whether it is immutable."""
        return self.status.state in ENDED

    @property
    def changed(self) -> bool:
        """Whether there is something to save."""
        return bool(self._events) or (self.status is not self._read and self.status.to_wire() != self.run.status)

    def put(self, **fields: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.altered(**fields)

    def came_through(self, passage: Passage) -> None:
        """Remember a place at which a call of the run was put before the gate."""
        if passage not in self.status.passages:
            self.put(passages=(*self.status.passages, passage))

    def note(self, type_: EventType, reason: str, message: str, **data: Any) -> None:
        """Append this event with ``save``. It also shows in the history of the mission and the agent."""
        related = [self.spec.mission_uid, self.spec.agent_uid]

        def append(run: Resource) -> None:
            self.tx.event(type_, run, reason=reason, message=message, data={**data, "related": related})

        self._events.append(append)

    def judge(self, verdict: bool | None, reason: RunReason, message: str) -> None:
        """Set the Succeeded condition; None is Unknown."""
        conditions = set_condition(
            self.status.conditions,
            "Succeeded",
            verdict,
            reason,
            message,
            now=self.tx.now,
            generation=self.run.generation,
        )
        self.put(conditions=conditions, reason=reason.value, message=message)

    def start(self, at: datetime) -> None:
        """Pending becomes Running. No effect on a run that started already."""
        if self.status.state is not RunState.PENDING:
            return
        self.put(state=RunState.RUNNING, started_at=at, last_heartbeat_time=at)
        self.judge(None, RunReason.STARTED, "its program runs")
        self.note(EventType.RUN_STARTED, RunReason.STARTED, f"attempt {self.spec.attempt}", attempt=self.spec.attempt)

    def take(self, share: Share) -> int:
        """Add what an agent or its program said it used. Returns what ``spend`` does."""
        name = line(share.model, 2 * WORD)
        return self.spend(share.spend, name, cache_read=share.cache_read, cache_write=share.cache_write)

    def spend(self, part: Spend, model: str = "", *, cache_read: int = 0, cache_write: int = 0) -> int:
        """Add what was used. Tokens without money are priced; where there is no price their source is Unknown, and the
        run counts as its worst case. ``cache_read`` and ``cache_write`` are parts of the input tokens. A part without
        figures says nothing, unless it says that they are unknown. Returns the millionths of a USD that are known."""
        if part.usd is None and not part.input_tokens and not part.output_tokens and part.source != "Unknown":
            return 0
        total = self.status.spend
        part = part.model_copy(
            update={
                "usd": None if part.usd is None else min(part.usd, MOST_USD - (total.usd or 0)),
                "input_tokens": min(part.input_tokens, MOST_TOKENS - total.input_tokens),
                "output_tokens": min(part.output_tokens, MOST_TOKENS - total.output_tokens),
            }
        )
        used = ModelUsage(
            model=model,
            source=part.source,
            usd=part.usd,
            input_tokens=part.input_tokens,
            output_tokens=part.output_tokens,
            cache_read_tokens=min(cache_read, part.input_tokens),
            cache_write_tokens=min(cache_write, part.input_tokens),
        )
        if part.usd is None and (part.input_tokens or part.output_tokens):
            used = self._priced(used, MOST_USD - (total.usd or Decimal(0)))
            part = part.model_copy(update={"usd": used.usd, "source": used.source})
        self.put(spend=add_spend(total, part, first=total == Spend()), usage=_added(self.status.usage, used))
        data: dict[str, Any] = part.to_wire()
        data |= {name: value for name, value in (("model", model), ("price", used.price)) if value}
        reason = UNPRICED if unpriced(used) else part.source
        self.note(EventType.USAGE_RECORDED, reason, _spoken(part, model), **data)
        return 0 if part.usd is None else to_micros(part.usd)

    def _priced(self, used: ModelUsage, most: Decimal) -> ModelUsage:
        tokens = Tokens(used.input_tokens, used.output_tokens, used.cache_read_tokens, used.cache_write_tokens)
        found = pricing.price(self.tx, self.run, self.spec, used.model, tokens)
        if found is None:
            return used.model_copy(update={"source": UsageSource.UNKNOWN.value})
        cost, guessed = found
        guessed |= used.source == UsageSource.ESTIMATED
        provider = cost.listed.provider
        return used.model_copy(
            update={
                "usd": min(from_micros(cost.micros), most),
                "source": (UsageSource.ESTIMATED if guessed else UsageSource.PRICED).value,
                "price": cost.listed.version,
                "provider": f"{provider.namespace}/{provider.name}",
            }
        )

    def attach(self, artifact: Artifact, *, reason: str = "HandedIn") -> None:
        """List an artifact, unless one of that name is there."""
        if any(other.name == artifact.name for other in self.status.artifacts):
            return
        self.put(artifacts=(*self.status.artifacts, artifact))
        self.note(
            EventType.ARTIFACT_ADDED,
            reason,
            f"{artifact.name}, {artifact.size:,} bytes",
            name=artifact.name,
            mediaType=artifact.media_type,
            size=artifact.size,
            digest=artifact.digest,
        )

    def hand_in(self, deliverable: Artifact) -> None:
        """Set the deliverable. It is listed among the artifacts too, there without its text: one copy is enough."""
        listed = deliverable.model_copy(update={"text": None})
        others = tuple(a for a in self.status.artifacts if a.name != deliverable.name)
        if len(others) < len(self.status.artifacts):
            self.put(artifacts=(*others, listed))
        else:
            self.attach(listed, reason="Deliverable")
        self.put(deliverable=deliverable)

    def save(self) -> Resource:
        """Write it."""
        self.run = self.tx.put_status(self.run, self.status.to_wire())
        events, self._events = self._events, []
        for append in events:
            append(self.run)
        return self.run


def unpriced(used: ModelUsage) -> bool:
    """Whether its tokens are known, but nothing says what they cost."""
    return used.usd is None and bool(used.input_tokens or used.output_tokens)


def _added(usage: tuple[ModelUsage, ...], used: ModelUsage) -> tuple[ModelUsage, ...]:
    """``usage`` with one more part. Parts of the same model, source and price are one; beyond MOST_MODELS, models are
    not told apart any more."""
    if len(usage) >= MOST_MODELS and not any(_same(known, used) for known in usage):
        used = used.model_copy(update={"model": "", "price": "", "provider": ""})
    joined = []
    for known in usage:
        if not _same(known, used):
            joined.append(known)
            continue
        used = used.model_copy(
            update={
                "usd": None if used.usd is None or known.usd is None else used.usd + known.usd,
                "input_tokens": used.input_tokens + known.input_tokens,
                "output_tokens": used.output_tokens + known.output_tokens,
                "cache_read_tokens": used.cache_read_tokens + known.cache_read_tokens,
                "cache_write_tokens": used.cache_write_tokens + known.cache_write_tokens,
            }
        )
    return (*joined, used)


def _same(one: ModelUsage, other: ModelUsage) -> bool:
    return (one.model, one.source, one.price, one.usd is None) == (
        other.model, other.source, other.price, other.usd is None
    )  # fmt: skip


def _spoken(part: Spend, model: str) -> str:
    words = [] if part.usd is None else [f"{format_money(part.usd)} USD"]
    if part.input_tokens or part.output_tokens:
        words.append(f"{part.input_tokens:,} + {part.output_tokens:,} tokens")
        if part.usd is None:
            of = f"of {model}" if model else "of a model that was not named"
            return f"{', '.join(words)} {of}, for which no Provider has a price: the worst case counts"
    return f"{', '.join(words) or 'an amount that nobody knows'} ({part.source.lower()})"
