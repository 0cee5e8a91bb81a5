"""The parts of the page's views for educators and operators: tiles, charts, tables, and cells that open or change something.

A view is made here, on the server, as plain JSON, and the page only draws it:

    {"about", "choices": [[text, query, is_chosen]], "tiles": [[name, value]], "charts": [...], "sections": [{title, names, rows}]}

A cell is a text, a number, nothing, a time, a button that opens a detail, a button that posts, or a part of a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Cell = str | int | float | None | Mapping[str, Any]
MAX_CELL_CHARS = 500


def show_text(text: str) -> str:
    """Return a text as a cell has it: one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CELL_CHARS else line[: MAX_CELL_CHARS - 1] + "…"


def show_time(time: datetime) -> Cell:
    """Return a time, which the page writes in the reader's zone."""
    return {"time": time.isoformat()}


def show_button(text: str, url: str) -> Cell:
    """Return a button that opens what a URL returns: {title, text} (Markdown) or {title, rows: [[head, line, small]]}."""
    return {"text": text, "open": url}


def show_change(text: str, url: str, body: Mapping[str, Any]) -> Cell:
    """Return a button that posts a body, after which the view is read again."""
    return {"text": text, "post": url, "body": dict(body)}


def show_part(n: int, of: int, text: str) -> Cell:
    """Return a bar: n of a whole."""
    return {"n": n, "of": max(of, n, 1), "text": text}


def show_seconds(seconds: float | None) -> str:
    """Return a duration in words."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def show_frac(part: int, whole: int) -> str:
    """Return a share in percent, with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def make_section(title: str, names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> dict[str, Any]:
    """Return a table with its title."""
    return {"title": title, "names": list(names), "rows": [list(row) for row in rows]}


def make_chart(label: str, start: datetime, series: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return a chart. `series`: values by kind: bar, bar bad, line, line two. `label` says in words what it shows."""
    top = max((value for values in series.values() for value in values), default=0.0)
    drawn = [{"kind": kind, "values": [round(value, 4) for value in values]} for kind, values in series.items()]
    return {"label": label, "series": drawn, "top": top or 1.0, "from": start.isoformat()}
