"""Pictures as text: curves in SVG, bars in HTML. No script, no network, the same bytes for the same numbers.

In: numbers and labels (escaped here). Out: markup whose colours are CSS variables of the page, so light and dark are
the page's affair. Every picture says in words what it shows, for those who don't see it. Time: O(points).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 46
MAX_POINTS = 240

Point = tuple[float, float]


class Series(NamedTuple):
    """`style` is a class of the page: raw, smooth, held-out."""

    label: str
    points: Sequence[Point]
    style: str


class BarRow(NamedTuple):
    """`share` fills the bar (0 … 1); `low` and `high` draw its error; `mark` is another value to compare with."""

    label: str
    share: float
    text: str
    note: str = ""
    low: float | None = None
    high: float | None = None
    mark: float | None = None


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, description: str) -> str:
    """Curves over common axes; empty if there are fewer than two points."""
    everything = [point for one in series for point in one.points if all(map(math.isfinite, point))]
    if len({x for x, _ in everything}) < 2:
        return ""
    x_ticks = ticks(min(x for x, _ in everything), max(x for x, _ in everything), 5)
    y_ticks = ticks(*_visible(everything), 5)
    x_range = (min(x_ticks[0], everything[0][0]), max(x for x, _ in everything))
    y_range = (y_ticks[0], y_ticks[-1])
    parts = [_grid(x_ticks, y_ticks, x_range, y_range, x_label, y_label)]
    for one in series:
        path = _path(thinned(one.points), x_range, y_range)
        parts.append(f'<path class="line {escape(one.style)}" d="{path}"><title>{escape(one.label)}</title></path>')
    label = escape(description, quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{escape(description)}</title>{''.join(parts)}</svg>"
    )


def _visible(points: Sequence[Point]) -> tuple[float, float]:
    """The range of y without the first steep fall: what is left of it is cut off at the top."""
    values = sorted(y for _, y in points)
    return values[0], values[min(int(len(values) * 0.985), len(values) - 1)]


def _grid(
    x_ticks: Sequence[float], y_ticks: Sequence[float], x_range: Point, y_range: Point, x_label: str, y_label: str
) -> str:
    parts: list[str] = []
    for value in y_ticks:
        y = _place(value, y_range, HEIGHT - BOTTOM, TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in x_ticks:
        if x_range[0] <= value <= x_range[1]:
            x = _place(value, x_range, LEFT, WIDTH - RIGHT)
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{number(value)}</text>'
            )
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{TOP + 14}" text-anchor="end">{escape(y_label)}</text>')
    return "".join(parts)


def _path(points: Sequence[Point], x_range: Point, y_range: Point) -> str:
    places = [
        f"{_place(x, x_range, LEFT, WIDTH - RIGHT):.1f} {_place(min(y, y_range[1]), y_range, HEIGHT - BOTTOM, TOP):.1f}"
        for x, y in points
        if math.isfinite(x) and math.isfinite(y)
    ]
    return "M" + "L".join(places) if places else ""


def _place(value: float, span: Point, first: float, last: float) -> float:
    return first + (value - span[0]) / ((span[1] - span[0]) or 1.0) * (last - first)


def thinned(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most `limit` points: the means of equal stretches."""
    size = math.ceil(len(points) / limit) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (math.fsum(x for x, _ in group) / len(group), math.fsum(y for _, y in group) / len(group)) for group in groups
    ]


def smoothed(points: Sequence[Point], memory: float = 0.9) -> list[Point]:
    """An exponential mean, corrected for its beginning (Kingma & Ba 2015, section 3)."""
    mean, found = 0.0, list[Point]()
    for n, (x, y) in enumerate(points, 1):
        mean = memory * mean + (1 - memory) * y
        found.append((x, mean / (1 - memory**n)))
    return found


def ticks(low: float, high: float, n: int) -> list[float]:
    """About `n` round numbers from below `low` to above `high`."""
    span = (high - low) or abs(high) or 1.0
    rough = span / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def bars(rows: Sequence[BarRow], *, description: str, style: str = "") -> str:
    """Labelled horizontal bars: an HTML list, so that long labels wrap on a phone."""
    items = "".join(
        f'<li><span class="bar-label">{escape(row.label)}</span><span class="bar-track" aria-hidden="true">{_fill(row)}</span>'
        f'<span class="bar-value">{escape(row.text)}{_note(row.note)}</span></li>'
        for row in rows
    )
    return (
        f'<ul class="bars {escape(style)}" aria-label="{escape(description, quote=True)}">{items}</ul>' if rows else ""
    )


def _fill(row: BarRow) -> str:
    parts = [f'<i class="fill" style="width:{_percent(row.share)}"></i>']
    if row.low is not None and row.high is not None:
        left, right = max(row.low, 0.0), min(row.high, 1.0)
        parts.append(f'<i class="error" style="left:{_percent(left)};width:{_percent(max(right - left, 0.0))}"></i>')
    if row.mark is not None:
        parts.append(f'<i class="mark" style="left:{_percent(row.mark)}"></i>')
    return "".join(parts)


def _note(note: str) -> str:
    return f" <small>{escape(note)}</small>" if note else ""


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def number(value: float) -> str:
    """For people: 58,410 · 1.35 · 2.4 M · 0.0021."""
    size = abs(value)
    if size >= 1e9:
        return f"{value / 1e9:.3g} G"
    if size >= 1e6:
        return f"{value / 1e6:.3g} M"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
