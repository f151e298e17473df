"""Benches of the live stream: what an event costs that reaches a client, how late it is, what a client takes that
waits, and what one costs that never reads. Against sse-starlette on the same server, where there is a floor."""

from __future__ import annotations

import functools
import json
import statistics
import tempfile
from dataclasses import dataclass

from api.stream.events import PATH
from tests.bench.measure import Measured, percentile, sized
from tests.bench.programs import asked, line, program, say
from tests.bench.stream_server import OTHERS

RATE = 100
_WITHIN_S = 120.0
_AHEAD = 1_000
"""Events that fill what is kept for a client that does not read, before the time is taken."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One run. ``cpu_us`` is the server's processor time for each event that reached a client; ``late_ms`` when some of
    them came; ``client_kib`` what the server took for each client before the first event."""

    cpu_us: float
    late_ms: list[float]
    client_kib: float
    share: float
    cpu_s: float


def cpu_200(scale: float) -> Measured:
    """200 clients."""
    return _cpu(scale, 200)


def cpu_1000(scale: float) -> Measured:
    """1,000 clients."""
    return _cpu(scale, 1_000)


def _cpu(scale: float, clients: int) -> Measured:
    count, events, rounds = _sizes(scale, clients)
    pairs = [(_shown("ours", count, events, n), _shown("floor", count, events, n)) for n in range(rounds)]
    a, b = (statistics.median(pair[side].cpu_us for pair in pairs) for side in (0, 1))
    share = min(floor.share for _, floor in pairs)
    return Measured(
        a / b, f"{a:,.3g} us", f"{b:,.3g} us", f"{count:,} clients, {RATE} events/s; floor gave {share:.0%}"
    )


def _sizes(scale: float, clients: int) -> tuple[int, int, int]:
    """Clients, events, rounds."""
    return sized(clients, scale), sized(500, scale, OTHERS), 1 if scale < 0.5 else 3


def late_200(scale: float) -> Measured:
    """p99 in milliseconds, 200 clients."""
    return _late(scale, 200)


def late_1000(scale: float) -> Measured:
    """p99 in milliseconds, 1,000 clients."""
    return _late(scale, 1_000)


def _late(scale: float, clients: int) -> Measured:
    count, events, rounds = _sizes(scale, clients)
    late = [moment for n in range(rounds) for moment in _shown("ours", count, events, n).late_ms]
    return Measured(percentile(late, 0.99), f"p50 {statistics.median(late):.3g} ms", "absolute, in ms",
                    f"{count:,} clients, {RATE} events/s, none lost, none leaked")  # fmt: skip


def memory(scale: float) -> Measured:
    """KiB of memory a client."""
    count, events, rounds = _sizes(scale, 1_000)
    kib = statistics.median(_shown("ours", count, events, n).client_kib for n in range(rounds))
    return Measured(max(kib, 0.01), f"{kib * count / 1024:,.3g} MiB in all", "absolute, in KiB", f"{count:,} clients")


def stuck(scale: float) -> Measured:
    """Processor time with as many clients that never read, against none of them."""
    count, events, rounds = _sizes(scale, 200)
    ahead = sized(_AHEAD, scale)
    # In full size by turns; in a tiny one what was run already will do.
    pairs = [
        (show("ours", count, events, stuck=count, ahead=ahead),
         _shown("ours", count, events, n if rounds == 1 else n + rounds))
        for n in range(rounds)
    ]  # fmt: skip
    a, b = (statistics.median(pair[side].cpu_s for pair in pairs) for side in (0, 1))
    return Measured(a / b, f"{a:.3g} s", f"{b:.3g} s", f"{count:,} that read, and {count:,} that do not")


@functools.cache
def _shown(side: str, clients: int, events: int, turn: int) -> Shown:
    """One run, of which several benches show something."""
    return show(side, clients, events)


def show(side: str, clients: int, events: int, *, stuck: int = 0, ahead: int = 0) -> Shown:
    """Let so many clients see so many events. A tenth of them wants another namespace. Raises AssertionError when one
    of ours is not given exactly its events. ``ahead`` are published before, to ``stuck`` clients only."""
    other = clients // 10 if side == "ours" else 0
    plan = {
        "all": clients - other, "other": other, "stuck": stuck, "events": events, "ahead": bool(ahead),
        "others": events // OTHERS,
        "within_s": _WITHIN_S if side == "ours" else events / RATE + 1.0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, program("stream_server", side, folder) as server:
        port = line(server)["port"]
        idle = asked(server, "figures")
        with program("stream_load") as load:
            say(load, json.dumps({**plan, "port": port, "path": PATH}))
            line(load)
            if ahead:
                asked(server, f"go {ahead} {RATE * 10}")
                say(load, "now")
                line(load)
            before = asked(server, "figures")
            asked(server, f"go {events} {RATE}")
            found = line(load)
            after = asked(server, "figures")
            say(load, "end")
    expected = plan["events"] * plan["all"] + plan["others"] * plan["other"]  # type: ignore[operator]
    if side == "ours":
        assert found["exact"], f"of {expected} events {found['delivered']} arrived"
        assert found["leaked"] == 0, "events of another namespace arrived"
    cpu_s = after["cpu"] - before["cpu"]
    return Shown(
        cpu_s / max(1, found["delivered"]) * 1e6,
        [moment * 1000 for moment in found["late"]],
        (before["memory"] - idle["memory"]) / (clients + stuck),
        found["delivered"] / expected,
        cpu_s,
    )
