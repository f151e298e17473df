"""How tightly an agent is held, by what its latest runs showed. Pure.

Nothing that an agent or a spec says of itself counts: a level is earned by calls that came through a place, and lost by
one that went around it. What a level proves, and what not, is said in docs/explanation/enforcement.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.agent import Enforcement, RunEvidence

KEPT = 10
"""So many of the latest runs that used tools are looked at."""
EXPIRES = timedelta(days=30)
"""What is older proves nothing any more."""
_ORDER = (Enforcement.OBSERVED, Enforcement.ADVISED, Enforcement.GATED, Enforcement.CONTAINED)
_CONTAINERS = ("docker", "podman")
_OPENERS = ("--privileged", "--cap-add", "--device", "--pid=host", "--ipc=host", "--userns=host", "--uts=host")
_OPENING_VALUES = ("unconfined", "label=disable", "label:disable", "no-new-privileges=false")


@dataclass(frozen=True, slots=True)
class Judged:
    """The level, what it rests on, and when that begins to fade (None: it cannot)."""

    level: Enforcement
    message: str
    until: datetime | None = None


def remembered(old: Sequence[RunEvidence], new: RunEvidence) -> tuple[RunEvidence, ...]:
    """The evidence of an agent with that of one more run, newest first. The same run again changes nothing."""
    return (new, *(e for e in old if e.run != new.run))[:KEPT]


def judge(evidence: Iterable[RunEvidence], executor: str, now: datetime) -> Judged:
    """The level by the weakest of the runs that count: started by ``executor`` (namespace/name@generation) as it is
    now, and not older than EXPIRES."""
    found = list(evidence)
    counted = [e for e in found if e.executor == executor and now - e.at < EXPIRES][:KEPT]
    if not counted:
        why = (
            "no run has used a tool yet" if not found else "no run of late has used a tool under its executor as it is"
        )
        return Judged(Enforcement.OBSERVED, why)
    until = min(e.at for e in counted) + EXPIRES
    weakest = min(counted, key=lambda e: _ORDER.index(level_of(e)))
    level = level_of(weakest)
    return Judged(level, _message(level, weakest, counted), until)


def level_of(evidence: RunEvidence) -> Enforcement:
    """What one run shows."""
    if not evidence.passages:
        return Enforcement.OBSERVED
    if evidence.unasked or not all(passage.placed for passage in evidence.passages):
        return Enforcement.ADVISED
    return Enforcement.CONTAINED if evidence.sandbox else Enforcement.GATED


def _message(level: Enforcement, weakest: RunEvidence, counted: Sequence[RunEvidence]) -> str:
    channels = ", ".join(sorted({str(p.channel) for e in counted for p in e.passages}))
    if level is Enforcement.OBSERVED:
        return f"run {weakest.run} reported {weakest.unasked} calls and put none before the gate"
    if level is Enforcement.ADVISED and weakest.unasked:
        return f"run {weakest.run} reported {weakest.unasked} calls that it had not put before the gate ({channels})"
    if level is Enforcement.ADVISED:
        own = ", ".join(str(p.channel) for p in weakest.passages if not p.placed)
        return f"run {weakest.run} asked through {own}, which the engine did not put there"
    runs = f"the last {len(counted)} runs that used tools" if len(counted) > 1 else "the last run that used tools"
    inside = f", inside {weakest.sandbox}" if level is Enforcement.CONTAINED else ""
    return f"{runs} asked through {channels}, put there by the engine{inside}"


def sandbox_of(argv: Sequence[str]) -> str:
    """The sandbox that a program is started in, as far as its arguments show; "" for none, or one with a hole that
    they name: all of the machine's files to write, its processes, its devices, or the socket of its containers."""
    program = argv[0].rpartition("/")[2] if argv else ""
    if program == "bwrap":
        return "" if _binds_root(argv) else program
    if program in _CONTAINERS and "run" in argv[1:3]:
        return "" if _opened(argv[1:]) else program
    return ""


def _binds_root(argv: Sequence[str]) -> bool:
    binds = ("--bind", "--dev-bind", "--bind-try", "--dev-bind-try")
    return any(word in binds and "/" in (argv[i + 1 : i + 3]) for i, word in enumerate(argv))


def _opened(words: Sequence[str]) -> bool:
    for i, word in enumerate(words):
        name, _, value = word.partition("=")
        value = value or (words[i + 1] if i + 1 < len(words) else "")
        if name in _OPENERS or f"{name}={value}" in _OPENERS:
            return True
        if name == "--security-opt" and any(v in value for v in _OPENING_VALUES):
            return True
        if name in ("-v", "--volume", "--mount") and _whole_machine(value):
            return True
    return False


def _whole_machine(volume: str) -> bool:
    fields = dict(part.partition("=")[::2] for part in volume.split(","))
    source = fields.get("source") or fields.get("src") or volume.split(":")[0]
    return source.rstrip("/") == "" or source.endswith(".sock")
