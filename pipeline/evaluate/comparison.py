"""What people compare between runs: the few metrics of summary.json, and the curves that `dvc plots show` draws.

In: the metrics of this stage, and the histories of both training phases. Out: JSON and CSV texts. All metrics are in
data/metrics; dvc.yaml declares these files alone, so that a comparison has some forty rows instead of hundreds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.skills import SKILLS
from pipeline.storage.lines import read_json_list

SUMMARY = "summary.json"
USER_METRICS = (
    "user_turns_acceptable_frac",
    "harmless_refused_frac",
    "n_invented_citations",
    "n_wrong_values",
    "n_planted_obeyed",
)
BITS = ("clean_bpb", "clean_ngram_bpb", "clean_mixture_bpb", "bpb", "ngram_bpb", "mixture_bpb", "chat_bpb")
COMPARED = (*BITS, *USER_METRICS, *(skill.metric for skill in SKILLS))
# file: (whose history, the metric)
CURVES = {
    "pretrain_loss.csv": ("base", "loss_nats"),
    "pretrain_heldout_bpb.csv": ("base", "bpb"),
    "sft_loss.csv": ("chat", "loss_nats"),
}


def write_comparison(metrics: Mapping[str, float], folders: Mapping[str, Path], out: Path) -> None:
    """Write summary.json and the curves. `folders`: the model folders `base` and `chat` with their history.jsonl."""
    summary = {name: metrics[name] for name in COMPARED if name in metrics}
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name, (folder, metric) in CURVES.items():
        (out / name).write_text(format_curve(folders[folder] / "history.jsonl", metric), encoding="utf-8")


def format_curve(path: Path, metric: str) -> str:
    """Return the steps of a history that have this metric, as CSV; without a history, the header alone."""
    rows = [row for _, row in read_json_list(path) if metric in row] if path.exists() else []
    return "".join([f"step,{metric}\n", *(f"{row['step']},{row[metric]!r}\n" for row in rows)])
