"""The gate's decision table for readers: one row per metric, with difference, interval, rule and verdict. Pure.

In: rows that the registry fills. Out: cells for a page, Markdown or a description. A row's difference is candidate − champion in
the metric's own unit; `verdict` says which direction is good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.report.charts import format_number

DECISION_HEAD = ("Metric", "Champion", "Candidate", "Difference", "95 % interval", "Verdict", "Rule")


class DecisionRow(NamedTuple):
    """One metric of two versions; None where there is nothing to show. `verdict`: better, equal, worse, not compared or not
    judged."""

    metric: str
    title: str
    champion: float | None
    candidate: float | None
    change: float | None
    low: float | None
    high: float | None
    verdict: str
    rule: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row under `DECISION_HEAD`, as text."""
        return (self.title, *self.numbers, self.verdict, self.rule)

    @property
    def numbers(self) -> tuple[str, str, str, str]:
        """Champion, candidate, difference and interval, as text; empty where there is none."""
        interval = "" if self.low is None else f"{self._sign(self.low)} … {self._sign(self.high)}"
        return self._format(self.champion), self._format(self.candidate), self._sign(self.change), interval

    def _format(self, value: float | None) -> str:
        return "" if value is None else format_metric(self.metric, value)

    def _sign(self, value: float | None) -> str:
        return "" if value is None else format_metric(self.metric, value, is_signed=True)


def format_metric(metric: str, value: float, *, is_signed: bool = False) -> str:
    """Format a value by the unit in its metric's name: a share as a percentage, bits per byte with four decimals."""
    sign = "+" if is_signed else ""
    if metric.endswith("_frac"):
        return f"{100 * value:{sign}.1f} %".replace("-", "−")
    if metric.endswith("bpb"):
        return f"{value:{sign}.4f}".replace("-", "−")
    return (sign if value > 0 else "−" if value < 0 else "") + format_number(abs(value))


def summarize_decision(rows: Sequence[DecisionRow], reason: str) -> str:
    """Return the decision as one sentence: what is worse and what is better, or the gate's reason where nothing is either."""
    parts = [(name, [row.title for row in rows if row.verdict == name]) for name in ("worse", "better")]
    told = [f"{name}: {', '.join(titles)}" for name, titles in parts if titles]
    text = "; ".join(told) or reason
    return f"{text[:1].upper()}{text[1:]}."


def count_verdicts(rows: Sequence[DecisionRow]) -> str:
    """Return how many metrics are better, equal and worse, as one line."""
    names = [row.verdict for row in rows]
    return ", ".join(
        f"{names.count(name)} {name}"
        for name in ("better", "equal", "worse", "not compared", "not judged")
        if name in names
    )


def get_verdicts(rows: Sequence[DecisionRow]) -> Mapping[str, str]:
    """Return the verdict by metric."""
    return {row.metric: row.verdict for row in rows}
