"""Does work go around in circles? Counts over facts that the server sees, and what follows when one is exceeded.

Each ``observe_*`` takes the counts and one fact, and returns the new counts with a finding, or None. The cost of a fact
is bounded: windows are counted by the minute (so that a window of 30 minutes reaches back 30 to 31 of them, on the
strict side), and of things that repeat the latest TALLIES are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.loop import LoopFinding, LoopSignal, Minute, MissionLoop, SessionLoop, Tally
from schemas.mission import Artifact
from schemas.policy import DEFAULT_LOOP_DETECTION, LoopDetection
from schemas.quantities import format_money, format_time, from_micros
from schemas.resource import digest

TALLIES = 64
"""Things that repeat which one session knows; the one unseen for longest makes room."""
PAIRS = 16
"""Pairs that talk on one mission."""
CALLS = 5
"""Repetitions that a finding names."""
MESSAGE_MINUTES = 30
PAIR_MINUTES = 10
SLOPE_MINUTES = 10
SLOPE_HISTORY_MINUTES = 30
"""Spend is judged once there is so much history before the latest SLOPE_MINUTES."""
SLOPE_LEAST_MICROS = 250_000
"""What is spent in SLOPE_MINUTES at least, before its slope counts: 0.25 USD."""
BUILT_IN = "built-in"
SUMMARY = "loop-summary"
"""How the names of loop summaries begin."""
_ERROR = 500
_WHAT = 200

_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<n>"),
    (re.compile(r"\b(0x)?(?=[0-9a-f]*[0-9])[0-9a-f]{7,}\b"), "<n>"),
    (re.compile(r"\d+"), "<n>"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """The limits in force for one agent. ``sources`` names the Policy that sets each, by field of LoopDetection; a
    field that is missing is built in."""

    limits: LoopDetection = DEFAULT_LOOP_DETECTION
    sources: tuple[tuple[str, str], ...] = ()

    def source(self, name: str) -> str:
        """What sets a limit."""
        return next((place for known, place in self.sources if known == name), BUILT_IN)


DEFAULT = LoopLimits()


@dataclass(frozen=True, slots=True)
class CallFact:
    """A tool call that has ended, as reported. Digests are "" where none was given. ``link`` names it for people."""

    tool: str
    ok: bool
    error: str = ""
    args_digest: str = ""
    output_digest: str = ""
    link: str = ""


def error_signature(tool: str, error: str) -> str:
    """What makes two failures the same: the tool, and what it said without numbers, ids and white space."""
    text = error[:_ERROR].lower()
    for pattern, word in _VARIABLE:
        text = pattern.sub(word, text)
    return digest([tool, text.strip()])


def observe_call(
    loop: SessionLoop, fact: CallFact, limits: LoopLimits, now: datetime
) -> tuple[SessionLoop, LoopFinding | None]:
    """A tool call has ended. A failure counts by its signature; a success by tool, arguments and output, where both
    digests are known; one whose output was not seen before is a sign of progress."""
    tool = _short(fact.tool)
    if not fact.ok:
        signal, name, limit = LoopSignal.SAME_ERROR, "same_error_retries", limits.limits.same_error_retries
        signature = error_signature(fact.tool, fact.error)
        what = f"{tool} fails: {_short(fact.error) or 'no error given'}"
    elif fact.args_digest and fact.output_digest:
        signal, name, limit = LoopSignal.SAME_OUTPUT, "same_output_repeats", limits.limits.same_output_repeats
        signature = digest([fact.tool, fact.args_digest, fact.output_digest])
        what = f"{tool} with arguments {fact.args_digest[7:19]} gives {fact.output_digest[7:19]}"
    else:
        return loop, None
    tools, mine = _tally(loop.tools, signal, signature, what, fact.link, now, most=TALLIES)
    loop = loop.model_copy(update={"tools": tools})
    if mine.count == 1 and fact.ok:
        loop = progressed(loop, now)
    if mine.count <= limit:
        return loop, None
    return loop, LoopFinding(
        signal=signal,
        what=mine.what,
        count=mine.count,
        limit=limit,
        found_at=now,
        first_at=mine.first_at,
        calls=mine.calls,
        source=limits.source(name),
    )


def progressed(loop: SessionLoop, now: datetime) -> SessionLoop:
    """Something new was seen: a new output, something handed in, a higher percentage."""
    return loop.model_copy(update={"progress_at": now})


def observe_message(
    loop: MissionLoop, author: str, addressees: Iterable[str], limits: LoopLimits, now: datetime, *, link: str = ""
) -> tuple[MissionLoop, LoopFinding | None]:
    """An agent said something on a mission. Messages to itself are self-triggered wakes."""
    messages = count_minute(loop.messages, now, MESSAGE_MINUTES)
    loop = loop.model_copy(update={"messages": messages})
    total, limit = total_of(messages), limits.limits.messages_per_30_min
    found: LoopFinding | None = None
    if total > limit:
        source = limits.source("messages_per_30_min")
        what = f"{total} messages in {MESSAGE_MINUTES} minutes"
        found = _finding(LoopSignal.MESSAGES, what, total, limit, now, link, source)
    for other in sorted(set(addressees)):
        if other == author:
            loop, woke = observe_self_wake(loop, author, limits, now, link=link)
            found = found or woke
            continue
        loop, paired = _turn(loop, author, other, limits, now, link)
        found = found or paired
    return loop, found


def _turn(
    loop: MissionLoop, author: str, other: str, limits: LoopLimits, now: datetime, link: str
) -> tuple[MissionLoop, LoopFinding | None]:
    """One says something to the other. Only turns count: saying two things in a row is one turn."""
    pair = " and ".join(sorted((author, other)))
    signature = digest(["pair", pair])
    known = next((tally for tally in loop.pairs if tally.signature == signature), None)
    if known is not None and known.calls and known.calls[-1].startswith(f"{author} "):
        return loop, None
    said = f"{author} {link}".strip() if link else f"{author} at {format_time(now)}"
    pairs, mine = _tally(loop.pairs, LoopSignal.PING_PONG, signature, pair, said, now, most=PAIRS)
    minutes = count_minute(mine.minutes, now, PAIR_MINUTES)
    mine = mine.model_copy(update={"minutes": minutes})
    loop = loop.model_copy(update={"pairs": tuple(mine if t.signature == signature else t for t in pairs)})
    # Back and forth is two turns.
    count, limit = total_of(minutes) // 2, limits.limits.ping_pong_per_10_min
    if count <= limit:
        return loop, None
    source = limits.source("ping_pong_per_10_min")
    what = f"{pair} go back and forth {count} times in {PAIR_MINUTES} minutes"
    return loop, _finding(LoopSignal.PING_PONG, what, count, limit, now, "", source, calls=mine.calls)


def observe_self_wake(
    loop: MissionLoop, agent: str, limits: LoopLimits, now: datetime, *, link: str = ""
) -> tuple[MissionLoop, LoopFinding | None]:
    """An agent asked to be woken by itself: a message to itself, a sub-mission for itself."""
    minutes = count_minute(loop.self_wakes, now, MESSAGE_MINUTES)
    loop = loop.model_copy(update={"self_wakes": minutes})
    count, limit = total_of(minutes), limits.limits.self_wakes_per_30_min
    if count <= limit:
        return loop, None
    what = f"{agent} woke itself {count} times in {MESSAGE_MINUTES} minutes"
    source = limits.source("self_wakes_per_30_min")
    return loop, _finding(LoopSignal.SELF_WAKES, what, count, limit, now, link, source)


def observe_review(loop: MissionLoop, cycles: int, limits: LoopLimits, now: datetime, *, run: str) -> MissionLoop:
    """It went to review for the ``cycles``-th time."""
    limit = limits.limits.review_cycles
    if cycles <= limit:
        return loop
    finding = _finding(
        LoopSignal.REVIEW_CYCLES, f"{cycles} times in review", cycles, limit, now, "", limits.source("review_cycles")
    )
    return found(loop, finding.model_copy(update={"run": run}))


def outcome(deliverable: Artifact | None, artifacts: Iterable[Artifact], reason: str, message: str) -> str:
    """Digest of the state that a run leaves: what it handed in, and how it failed."""
    things = sorted({(a.name, a.digest) for a in artifacts})
    return digest(
        [deliverable.digest if deliverable else "", [list(t) for t in things], error_signature(reason, message)]
    )


def observe_run(loop: MissionLoop, state: str, limits: LoopLimits, now: datetime, *, run: str) -> MissionLoop:
    """A run has ended and left ``state`` (see ``outcome``). The first one is what others are compared with."""
    unchanged = loop.unchanged_runs + 1 if loop.outcome == state else 0
    loop = loop.model_copy(update={"outcome": state, "unchanged_runs": unchanged})
    limit = limits.limits.no_progress_runs
    if unchanged <= limit:
        return loop
    what = f"{unchanged} runs in a row left the state unchanged"
    finding = _finding(LoopSignal.NO_PROGRESS, what, unchanged, limit, now, "", limits.source("no_progress_runs"))
    return found(loop, finding.model_copy(update={"run": run}))


def observe_spend(
    loop: SessionLoop, micros: int, limits: LoopLimits, now: datetime
) -> tuple[SessionLoop, LoopFinding | None]:
    """Money was used. Much faster than before, with nothing new since, is a loop."""
    keep = SLOPE_MINUTES + 2 * SLOPE_HISTORY_MINUTES
    spend = count_minute(loop.spend, now, keep, by=micros)
    loop = loop.model_copy(update={"spend": spend})
    this_minute = minute_of(now)
    recent = sum(m.count for m in spend if m.minute > this_minute - SLOPE_MINUTES)
    earlier = [m for m in spend if m.minute <= this_minute - SLOPE_MINUTES]
    if not earlier or recent < SLOPE_LEAST_MICROS:
        return loop, None
    span = this_minute - SLOPE_MINUTES - earlier[0].minute + 1
    if span < SLOPE_HISTORY_MINUTES:
        return loop, None
    before = sum(m.count for m in earlier) * SLOPE_MINUTES // span
    fresh = loop.progress_at is not None and loop.progress_at > now - timedelta(minutes=SLOPE_MINUTES)
    factor = limits.limits.spend_slope_factor
    if fresh or recent <= factor * before:
        return loop, None
    what = (
        f"{format_money(from_micros(recent))} USD in {SLOPE_MINUTES} minutes, before it was "
        f"{format_money(from_micros(before))}, and nothing new came of it"
    )
    times = recent // max(before, 1)
    source = limits.source("spend_slope_factor")
    return loop, _finding(LoopSignal.SPEND_SLOPE, what, min(times, 10**6), factor, now, "", source)


def found(loop: MissionLoop, finding: LoopFinding) -> MissionLoop:
    """With a finding, unless there is one already: the first counts until a person has dealt with it."""
    return loop if loop.finding is not None else loop.model_copy(update={"finding": finding})


def anew(loop: MissionLoop) -> MissionLoop:
    """All counts from zero: a person looked at it. Those of its sessions follow, by the epoch."""
    return MissionLoop(epoch=loop.epoch + 1)


def summary(mission: str, finding: LoopFinding, contained_at: datetime) -> str:
    """The loop summary, Markdown for people: what repeated, when, how often, where to look."""
    lines = [
        f"# {mission} goes around in circles",
        "",
        f"- signal: {finding.signal}",
        f"- what: {' '.join(finding.what.split())}",
        f"- how often: {finding.count}; more than {finding.limit} is a loop ({finding.source or BUILT_IN})",
    ]
    if finding.first_at is not None:
        lines.append(f"- since: {format_time(finding.first_at)}")
    lines += [f"- found: {format_time(finding.found_at)}", f"- contained: {format_time(contained_at)}"]
    if finding.run:
        lines.append(f"- run: {finding.run}")
    if finding.session:
        lines.append(f"- session: {finding.session}")
    if finding.calls:
        lines += ["", "The latest repetitions:", ""]
        lines += [f"{number}. {call}" for number, call in enumerate(finding.calls, 1)]
    return "\n".join(lines) + "\n"


def minute_of(now: datetime) -> int:
    """Minutes since 1970."""
    return int(now.timestamp() // 60)


def count_minute(minutes: tuple[Minute, ...], now: datetime, keep: int, *, by: int = 1) -> tuple[Minute, ...]:
    """Add to the minute it is, and forget those more than ``keep`` minutes old. A clock that was set back counts into
    the latest minute known, so that it cannot empty a window."""
    this = max([minute_of(now), *(m.minute for m in minutes[-1:])])
    kept = [m for m in minutes if m.minute >= this - keep]
    if kept and kept[-1].minute == this:
        kept[-1] = kept[-1].model_copy(update={"count": min(kept[-1].count + by, 2**53)})
    else:
        kept.append(Minute(minute=this, count=by))
    return tuple(kept)


def total_of(minutes: Iterable[Minute]) -> int:
    """What a window holds."""
    return sum(m.count for m in minutes)


def _tally(
    tallies: tuple[Tally, ...], signal: LoopSignal, signature: str, what: str, call: str, now: datetime, *, most: int
) -> tuple[tuple[Tally, ...], Tally]:
    """Count one; the latest stands last."""
    known = next((t for t in tallies if t.signature == signature), None)
    if known is None:
        mine = Tally(signal=signal, signature=signature, what=what, count=1, first_at=now, last_at=now)
    else:
        mine = known.model_copy(update={"count": known.count + 1, "last_at": max(now, known.last_at)})
    if call:
        mine = mine.model_copy(update={"calls": (*mine.calls, call)[-CALLS:]})
    others = tuple(t for t in tallies if t.signature != signature)
    return (*others[-(most - 1) :], mine), mine


def _finding(
    signal: LoopSignal,
    what: str,
    count: int,
    limit: int,
    now: datetime,
    link: str,
    source: str,
    *,
    calls: tuple[str, ...] = (),
) -> LoopFinding:
    links = calls or ((link,) if link else ())
    return LoopFinding(signal=signal, what=what, count=count, limit=limit, found_at=now, calls=links, source=source)


def _short(text: str) -> str:
    flat = " ".join(text[: 2 * _WHAT].split())
    return flat if len(flat) <= _WHAT else flat[: _WHAT - 1] + "…"
