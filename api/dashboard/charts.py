"""Figures drawn as SVG on the server: columns, and sparks small enough for a cell."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from api.dashboard.text import line

_WIDTH = 720
_HEIGHT = 180
_LEFT = 56
_FOOT = 22
_TOP = 10


def spark(values: Sequence[float]) -> Markup:
    """A row of thin columns; the table beside it has the figures, so that it is hidden from readers of screens."""
    most = max(values, default=0.0)
    parts = []
    for i, value in enumerate(values):
        height = 0.0 if most <= 0 else max(1.0, value / most * 16) if value > 0 else 0.0
        if height:
            parts.append(f'<rect x="{i * 4}" y="{17 - height:.1f}" width="3" height="{height:.1f}"/>')
    width = max(4, len(values) * 4)
    body = f'<path d="M0 17.5H{width}"/>' + "".join(parts)
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="spark" viewBox="0 0 {width} 18" width="{width}" height="18" aria-hidden="true">{body}</svg>'
    )


def meter(share: float, label: str, *, warn: bool) -> Markup:
    """A bar of a share. The words beside it say the same."""
    width = max(0.0, min(1.0, share)) * 100
    kind = "over" if share >= 1 else "warn" if warn else "ok"
    return Markup(  # noqa: S704 - numbers, a word of ours, and an escaped label
        f'<svg class="meter {kind}" viewBox="0 0 100 8" width="100" height="8" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(line(label, 80))}"><rect class="rail" width="100" height="8" rx="2"/>'
        f'<rect class="fill" width="{width:.1f}" height="8" rx="2"/></svg>'
    )


def columns(
    values: Sequence[tuple[str, float, str]], *, label: str, cap: float | None = None, cap_text: str = ""
) -> Markup:
    """Columns over time: (name, value, value in words). With ``cap`` a line where the limit is."""
    if not values:
        return Markup("")
    most = max([v for _, v, _ in values] + ([cap] if cap else []) + [0.0]) or 1.0
    room, high = _WIDTH - _LEFT - 8, _HEIGHT - _FOOT - _TOP
    step = room / len(values)
    out = [
        f'<svg class="columns" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    for part in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - part)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(most * part)}</text>')
    skip = max(1, -(-len(values) // 12))
    for i, (name, value, said) in enumerate(values):
        x, height = _LEFT + i * step, value / most * high
        title = f"<title>{escape(line(name, 60))}: {escape(line(said, 60))}</title>"
        if height > 0:
            out.append(f'<g>{title}<rect class="bar busy" x="{x + 1:.1f}" y="{_TOP + high - height:.1f}" '
                       f'width="{max(1.0, step - 3):.1f}" height="{max(1.0, height):.1f}" rx="2"/></g>')  # fmt: skip
        if i % skip == 0:
            out.append(f'<text class="tick" x="{x + 1:.1f}" y="{_HEIGHT - 6}">{escape(line(name, 12))}</text>')
    if cap:
        y = _TOP + high * (1 - cap / most)
        out.append(f'<line class="cap" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="tick" x="{_WIDTH - 10}" y="{y - 4:.1f}" text-anchor="end">{escape(cap_text)}</text>')
    return Markup("".join([*out, "</svg>"]))  # noqa: S704 - every part is a number or escaped above


def _short(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:.2f}" if value >= 0.01 or value == 0 else f"${value:.4f}"
