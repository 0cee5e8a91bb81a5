"""Charts as markup: line charts in SVG, and the geometry of horizontal bars. No script, no network.

In: numbers and labels (escaped here). Out: markup whose colors are CSS variables of the page, so that page.css decides on light and
dark; the same numbers give the same bytes. Every chart has a description in words. Time: O(points).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 58, 12, 40
MAX_POINTS = 240
MAX_DOTS = 12  # a series with so few points shows each of them

Point = tuple[float, float]


class Series(NamedTuple):
    """A curve; `style` is a class of page.css: raw, smooth or held-out."""

    label: str
    points: Sequence[Point]
    style: str


class BarRow(NamedTuple):
    """A horizontal bar of length `share` (0 to 1); `low` and `high` draw its error bar, `mark` another value for comparison."""

    label: str
    share: float
    text: str
    note: str = ""
    low: float | None = None
    high: float | None = None
    mark: float | None = None

    @property
    def fill(self) -> str:
        """The length of the bar, as a CSS percentage."""
        return format_percentage(self.share)

    @property
    def error(self) -> tuple[str, str] | None:
        """Start and length of the error bar, as CSS percentages, cut to the track."""
        if self.low is None or self.high is None:
            return None
        left, right = min(max(self.low, 0.0), 1.0), min(max(self.high, 0.0), 1.0)
        return format_percentage(left), format_percentage(max(right - left, 0.0))

    @property
    def mark_left(self) -> str | None:
        """The position of the mark, as a CSS percentage."""
        return None if self.mark is None else format_percentage(self.mark)


def draw_line_chart(series: Sequence[Series], *, x_label: str, y_label: str, description: str) -> str:
    """Return an SVG of curves of one unit over common axes, x from zero; empty for fewer than two different x."""
    series = [one._replace(points=[point for point in one.points if all(map(math.isfinite, point))]) for one in series]
    points = [point for one in series for point in one.points]
    if len({x for x, _ in points}) < 2:
        return ""
    x_range = (min(0.0, *(x for x, _ in points)), max(x for x, _ in points))
    x_ticks = list_ticks(*x_range, 4)
    smooth = [point for one in series if one.style != "raw" for point in one.points] or points
    y_ticks = list_ticks(min(y for _, y in smooth), max(y for _, y in smooth), 4)  # spikes of raw curves are cut off
    y_range = (y_ticks[0], y_ticks[-1])
    parts = [_draw_axes(x_ticks, y_ticks, x_range, y_range, x_label, y_label)]
    parts += [_draw_series(one, x_range, y_range) for one in series]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description, quote=True)}">'
        f"<title>{escape(description)}</title>{''.join(parts)}</svg>"
    )


def _draw_axes(
    x_ticks: Sequence[float], y_ticks: Sequence[float], x_range: Point, y_range: Point, x_label: str, y_label: str
) -> str:
    parts: list[str] = []
    for value in y_ticks:
        y = _scale(value, y_range, HEIGHT - BOTTOM, TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = format_number(value)
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for value in x_ticks:
        if x_range[0] <= value <= x_range[1]:
            x, y = _scale(value, x_range, LEFT, WIDTH - RIGHT), HEIGHT - BOTTOM + 18
            label = format_number(value)
            parts.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{label}</text>')
    x, y = WIDTH - RIGHT, HEIGHT - 4
    parts.append(f'<text class="axis" x="{x}" y="{y}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text class="axis" x="{x}" y="{TOP + 14}" text-anchor="end">{escape(y_label)}</text>')
    return "".join(parts)


def _draw_series(series: Series, x_range: Point, y_range: Point) -> str:
    places = [
        (
            _scale(x, x_range, LEFT, WIDTH - RIGHT),
            _scale(min(max(y, y_range[0]), y_range[1]), y_range, HEIGHT - BOTTOM, TOP),
        )
        for x, y in average_points(series.points)
    ]
    if not places:
        return ""
    style, path = escape(series.style, quote=True), "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path class="line {style}" d="{path}"><title>{escape(series.label)}</title></path>']
    if series.style != "raw":
        dots = places if len(places) <= MAX_DOTS else places[-1:]
        parts += [f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots]
        (x, y), last = places[-1], format_number(series.points[-1][1])
        parts.append(f'<text class="last" x="{x + 7:.1f}" y="{y + 4:.1f}">{last}</text>')
    return "".join(parts)


def _scale(value: float, span: Point, first: float, last: float) -> float:
    return first + (value - span[0]) / ((span[1] - span[0]) or 1.0) * (last - first)


def average_points(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Return at most `limit` points: the means of consecutive groups of equal size."""
    size = math.ceil(len(points) / limit) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (math.fsum(x for x, _ in group) / len(group), math.fsum(y for _, y in group) / len(group)) for group in groups
    ]


def smooth_points(points: Sequence[Point], decay: float = 0.9) -> list[Point]:
    """Return an exponential moving average with bias correction (Kingma & Ba 2015, section 3)."""
    mean, averages = 0.0, list[Point]()
    for n, (x, y) in enumerate(points, 1):
        mean = decay * mean + (1 - decay) * y
        averages.append((x, mean / (1 - decay**n)))
    return averages


def list_ticks(low: float, high: float, n: int) -> list[float]:
    """Return about `n` round numbers, from below `low` to above `high`."""
    span = (high - low) or abs(high) or 1.0
    rough = span / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def format_percentage(share: float) -> str:
    """Format a share as a CSS percentage from 0 to 100."""
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def format_number(value: float) -> str:
    """Format a number for a reader: 58,410 · 1.35 · 2.4 M · 0.0021."""
    size = abs(value)
    if size >= 1e9:
        return f"{value / 1e9:.3g} G"
    if size >= 1e6:
        return f"{value / 1e6:.3g} M"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
