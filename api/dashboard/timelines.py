"""Lanes of bars over time, drawn as SVG on the server. Long idle gaps are folded and say so; what is too much to tell
apart is drawn as one bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

from api.dashboard.marks import Tone
from api.dashboard.text import line, span

FOLD_S = 600.0
"""Idle gaps longer than this are folded."""
MOST = 400
"""Bars that are drawn one by one."""
_LEFT = 130
WIDE = 960
NARROW = 680
"""Widths of drawings: over the whole page, and beside the Act panel."""
_LANE = 24
_TOP = 26
_FOLDED = 34
"""Width of a folded gap."""
_LEAST = 4
_CHAR = 6.2


@dataclass(frozen=True, slots=True)
class Bar:
    """From ``begin`` to ``end``. ``open`` ones are still going on; ``waiting`` ones are dashed."""

    begin: datetime
    end: datetime
    text: str
    tone: Tone
    open: bool = False
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the axis: seconds ``a`` to ``b`` after the start, drawn from ``x`` on, ``width`` wide."""

    a: float
    b: float
    x: float
    width: float
    folded: bool


class Axis:
    """Where a moment is drawn."""

    def __init__(self, spans: Sequence[tuple[float, float]], *, fold: bool, width: int) -> None:
        self.width = width
        busy = _merged(spans)
        end = max((b for _, b in busy), default=1.0)
        parts: list[tuple[float, float, bool]] = []
        at = 0.0
        for a, b in busy:
            if a > at:
                parts.append((at, a, fold and a - at > FOLD_S))
            parts.append((a, max(b, a), False))
            at = max(at, b)
        parts = _joined(parts) or [(0.0, end, False)]
        folded = sum(1 for _, _, f in parts if f)
        shown = sum(b - a for a, b, f in parts if not f) or 1.0
        room = width - _LEFT - 10 - folded * _FOLDED
        self.parts: list[Stretch] = []
        x = float(_LEFT)
        for a, b, is_folded in parts:
            part = float(_FOLDED) if is_folded else (b - a) / shown * room
            self.parts.append(Stretch(a, b, x, part, is_folded))
            x += part

    def x(self, second: float) -> float:
        """Of a moment, in units of the drawing."""
        for part in self.parts:
            if second <= part.b:
                share = (second - part.a) / (part.b - part.a) if part.b > part.a else 0.0
                return part.x + max(0.0, share) * part.width
        last = self.parts[-1]
        return last.x + last.width


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for a, b in sorted(spans):
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], b))
        else:
            found.append((a, b))
    return found


def _joined(parts: list[tuple[float, float, bool]]) -> list[tuple[float, float, bool]]:
    """Neighbours that are not folded become one stretch."""
    found: list[tuple[float, float, bool]] = []
    for a, b, folded in parts:
        if found and not folded and not found[-1][2]:
            found[-1] = (found[-1][0], b, False)
        else:
            found.append((a, b, folded))
    return found


def draw(lanes: Sequence[tuple[str, Sequence[Bar]]], *, fold: bool, label: str, width: int = WIDE) -> Markup:
    """The drawing; empty when there is nothing to draw. Every text in it is escaped."""
    lanes = [(name, bars) for name, bars in lanes if bars]
    if not lanes:
        return Markup("")
    start = min(b.begin for _, bars in lanes for b in bars)
    seconds = [
        (name, [((b.begin - start).total_seconds(), (b.end - start).total_seconds(), b) for b in bars])
        for name, bars in lanes
    ]
    waits = [(a, e) for _, bars in seconds for a, e, b in bars if b.waiting]
    spans = [(a, a if b.waiting else max(a, e)) for _, bars in seconds for a, e, b in bars]
    spans += [(e, e) for _, e in waits]
    axis = Axis(spans, fold=fold, width=width)
    height = _TOP + _LANE * len(lanes) + 8
    out = [
        f'<svg class="timeline" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    out += _grid(axis, height)
    for index, (name, bars) in enumerate(seconds):
        y = _TOP + index * _LANE
        out.append(f'<text class="lane" x="4" y="{y + 15}">{escape(line(name, 20))}</text>')
        out += [_bar(axis, a, e, b, y) for a, e, b in _thinned(bars)]
    return Markup("".join([*out, "</svg>"]))  # noqa: S704 - every part is a number or escaped above


def _thinned(bars: Sequence[tuple[float, float, Bar]]) -> list[tuple[float, float, Bar]]:
    """At most MOST bars: neighbours are drawn as one that says how many it stands for."""
    if len(bars) <= MOST:
        return list(bars)
    step = -(-len(bars) // MOST)
    ordered = sorted(bars, key=lambda item: item[0])
    found = []
    for i in range(0, len(ordered), step):
        group = ordered[i : i + step]
        first = group[0][2]
        tone = next((b.tone for _, _, b in group if b.tone in (Tone.BAD, Tone.STOP, Tone.WARN)), first.tone)
        joined = Bar(first.begin, group[-1][2].end, f"{len(group)} in one", tone)
        found.append((group[0][0], max(e for _, e, _ in group), joined))
    return found


def _grid(axis: Axis, height: int) -> list[str]:
    out = []
    last = -100.0
    for part in axis.parts:
        if part.folded:
            out.append(f'<rect class="fold" x="{part.x:.1f}" y="{_TOP - 4}" width="{part.width:.1f}" '
                       f'height="{height - _TOP}"/>')  # fmt: skip
            out.append(f'<text class="tick" x="{part.x + part.width / 2:.1f}" y="10" text-anchor="middle">'
                       f"{escape(span(part.b - part.a))} folded</text>")  # fmt: skip
            last = part.x + part.width
            continue
        for second in _ticks(part.a, part.b, part.width):
            x = axis.x(second)
            if x - last < 44 or x > axis.width - 40:
                continue
            last = x
            out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{height - 4}"/>')
            out.append(f'<text class="tick" x="{x:.1f}" y="{_TOP - 8}">{escape(span(second))}</text>')
    return out


def _ticks(a: float, b: float, width: float) -> list[float]:
    room = max(1, int(width // 90))
    step = next((s for s in (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 86_400) if (b - a) / s <= room), 0)
    step = step or max(86_400, int((b - a) / room))
    first = -(-a // step) * step
    ticks = [first + i * step for i in range(room + 1) if first + i * step <= b]
    return ticks if ticks else [a]


def _bar(axis: Axis, a: float, e: float, bar: Bar, y: int) -> str:
    x = axis.x(a)
    width = max(float(_LEAST), axis.x(e) - x)
    classes = f"bar {bar.tone.value}" + (" waiting" if bar.waiting else "") + (" open" if bar.open else "")
    took = span(e - a)
    title = f"<title>{escape(line(bar.text, 120))}, {escape(took)}{' so far' if bar.open else ''}</title>"
    fits = int((width - 8) / _CHAR)
    text = ""
    if fits >= 3:
        short = line(bar.text, max(3, fits))
        text = f'<text class="on" x="{x + 5:.1f}" y="{y + 14}">{escape(short)}</text>'
    body = f'<rect class="{classes}" x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="17" rx="3"/>{text}'
    return f"<g>{title}{body}</g>"


def days(lanes: Sequence[tuple[str, Sequence[Bar]]], now: datetime, *, days: int, label: str) -> Markup:
    """Moments on a straight axis of ``days`` back and ahead, one lane each; now is a line."""
    height = _TOP + _LANE * len(lanes) + 8
    room = WIDE - _LEFT - 10
    day = room / (2 * days)

    def x(at: datetime) -> float:
        return _LEFT + min(room, max(0.0, ((at - now).total_seconds() / 86_400 + days) * day))

    out = [
        f'<svg class="timeline" viewBox="0 0 {WIDE} {height}" width="{WIDE}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    for offset in range(-days, days + 1):
        at = _LEFT + (offset + days) * day
        kind = "now" if offset == 0 else "grid"
        text = "now" if offset == 0 else f"{offset:+d}d"
        out.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 4}" y2="{height - 4}"/>')
        anchor = "end" if offset == days else "middle"
        out.append(f'<text class="tick" x="{at:.1f}" y="{_TOP - 10}" text-anchor="{anchor}">{text}</text>')
    for index, (name, bars) in enumerate(lanes):
        y = _TOP + index * _LANE
        out.append(f'<text class="lane" x="4" y="{y + 15}">{escape(line(name, 20))}</text>')
        for bar in list(bars)[-MOST:]:
            classes = f"bar {bar.tone.value}" + (" waiting" if bar.waiting else "")
            out.append(f'<g><title>{escape(bar.text)}</title><rect class="{classes}" x="{x(bar.begin) - 3:.1f}" '
                       f'y="{y + 3}" width="6" height="15" rx="2"/></g>')  # fmt: skip
    return Markup("".join([*out, "</svg>"]))  # noqa: S704 - every part is a number or escaped above
