"""What the quality classifier's scores mean: positives, precision and recall by score, from the filter's metrics. Pure."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.report.charts import format_number
from pipeline.report.facts import Facts, format_value


class ScoreBin(NamedTuple):
    """Held-out texts with a quality score from `low` to `high`; precision and recall of keeping everything from `low` on."""

    low: float
    high: float
    n_docs: int
    n_positive: int
    precision: float | None
    recall: float | None

    @property
    def positive_frac(self) -> float | None:
        """The share of positives among its texts."""
        return self.n_positive / self.n_docs if self.n_docs else None


class CalibrationFacts(NamedTuple):
    """What the quality classifier's scores mean, measured on texts that it was not trained on."""

    auc: float
    min_score: float | None
    bins: list[ScoreBin]


CALIBRATION_HEAD = ("Score", "Texts", "Positives", "Precision from here on", "Recall from here on")


def compute_calibration(facts: Facts) -> CalibrationFacts | None:
    """Return the calibration from the filter's metrics, the highest scores first; None without a classifier."""
    metrics = facts.metrics.get("filter", {})
    edges = sorted(
        int(name.removeprefix("quality_bin_").removesuffix("_docs"))
        for name in metrics
        if name.startswith("quality_bin_") and name.endswith("_docs")
    )
    if "quality_auc_frac" not in metrics or not edges:
        return None
    counts = [
        (int(metrics[f"quality_bin_{edge:02d}_docs"]), int(metrics[f"quality_bin_{edge:02d}_positives"]))
        for edge in edges
    ]
    n_positive = sum(positives for _, positives in counts)
    bins: list[ScoreBin] = []
    for index in reversed(range(len(edges))):
        kept, right = (sum(column) for column in zip(*counts[index:], strict=True))
        high = edges[index + 1] / 100 if index + 1 < len(edges) else 1.0
        precision, recall = right / kept if kept else None, right / n_positive if n_positive else None
        bins.append(ScoreBin(edges[index] / 100, high, *counts[index], precision, recall))
    return CalibrationFacts(metrics["quality_auc_frac"], metrics.get("quality_min_score"), bins)


def describe_calibration(calibration: CalibrationFacts) -> str:
    """Describe what the table of the calibration shows."""
    n = sum(row.n_docs for row in calibration.bins)
    text = f"{format_number(n)} texts that the classifier was not trained on. A positive scores above a negative in "
    text += f"{format_value(calibration.auc, is_share=True)} of all pairs (AUC)."
    return (
        text
        if calibration.min_score is None
        else f"{text} Documents with {calibration.min_score:.3g} or more are kept."
    )


def list_calibration_rows(calibration: CalibrationFacts) -> list[list[str]]:
    """Return the cells under `CALIBRATION_HEAD`, one row per bin."""
    return [
        [
            f"{row.low:.1f} to {row.high:.1f}",
            format_number(row.n_docs),
            *(format_value(value, is_share=True) for value in (row.positive_frac, row.precision, row.recall)),
        ]
        for row in calibration.bins
    ]
