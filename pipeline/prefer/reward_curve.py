"""Write the curves of a run: curve.csv for `dvc plots`, and curve.svg, a picture that a browser or a README shows.

In: the history of the training loop. Out: one row per step with the loss, what the objective has measured, and the held-out score
where it was measured; a picture of the score that the method raises and of what it costs. The same numbers give the same bytes; the
colors fit a light and a dark page.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 260, 48, 150, 24, 36
COLORS = ("#2f7ed8", "#c0603a", "#3a9a5b")
WINDOW = 0.9  # of a running mean: single rounds are noisy
N_TICKS = 4

Point = tuple[float, float]


class Curve(NamedTuple):
    """One curve of a panel."""

    label: str
    points: Sequence[Point]
    is_smoothed: bool = True


def flatten_record(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a step, those of the objective beside the others."""
    values = {**record, **record.get("objective", {})}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def write_curves(folder: Path, history: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]]) -> None:
    """Write both files. `panels` has the names of the curves by the title of their panel."""
    rows = [flatten_record(record) for record in history]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "curve.svg").write_text(draw_panels(rows, panels), encoding="utf-8")


def draw_panels(rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> str:
    """Return one SVG with the panels below each other; a panel without two points of any curve is left out."""
    drawn: dict[str, str] = {}
    for title, names in panels.items():
        curves = [Curve(name, [(row["step"], row[name]) for row in rows if name in row]) for name in names]
        curves = [curve._replace(is_smoothed=len(curve.points) > 20) for curve in curves if len(curve.points) > 1]
        if curves:
            drawn[title] = _draw_panel(title, curves, HEIGHT * len(drawn))
    height = HEIGHT * max(len(drawn), 1)
    font = 'role="img" font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>'
    return f"{head}<title>{'; '.join(drawn)}</title>{''.join(drawn.values())}</svg>\n"


def _draw_panel(title: str, curves: Sequence[Curve], top: int) -> str:
    points = [point for curve in curves for point in curve.points]
    last, low, high = max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points)
    high = high if high > low else low + 1

    def place(point: Point) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * point[0] / last
        y = top + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (point[1] - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [f'<text x="{LEFT}" y="{top + 14}" font-weight="bold" fill="#808080">{title}</text>']
    for number in range(N_TICKS + 1):
        value, step = low + (high - low) * number / N_TICKS, last * number / N_TICKS
        x, y = place((step, value)).split(",")
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#808080" stroke-opacity="0.25"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end" fill="#808080">{value:.3g}</text>')
        parts.append(f'<text x="{x}" y="{top + HEIGHT - 18}" text-anchor="middle" fill="#808080">{step:.0f}</text>')
    for number, curve in enumerate(curves):
        color, smooth = COLORS[number % len(COLORS)], smooth_curve(curve.points) if curve.is_smoothed else curve.points
        if curve.is_smoothed:
            raw = " ".join(map(place, curve.points))
            parts.append(f'<polyline points="{raw}" fill="none" stroke="{color}" stroke-opacity="0.25"/>')
        parts.append(
            f'<polyline points="{" ".join(map(place, smooth))}" fill="none" stroke="{color}" stroke-width="2"/>'
        )
        y = top + TOP + 16 * number
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y}" fill="{color}">{curve.label}</text>')
    return "".join(parts)


def smooth_curve(points: Sequence[Point]) -> list[Point]:
    """Return the running mean of a curve, corrected for its beginning."""
    smooth: list[Point] = []
    total = weight = 0.0
    for x, y in points:
        total, weight = WINDOW * total + (1 - WINDOW) * y, WINDOW * weight + 1 - WINDOW
        smooth.append((x, total / weight))
    return smooth
