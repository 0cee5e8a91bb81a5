"""Measure the finished models by the tasks of `evaluate.tasks`: text, skills, and the whole assistant.

In: both model folders, held-out documents and conversations, the index, our own evaluation sets (data/seed/evaluation) and yours
(data/evaluation). Out: items.parquet (the score of each item in each metric), figures.json (what people read, with baselines),
composition.json (the training data by source and license), documents.parquet (nats of each held-out document), user_turns.jsonl
(the assistant's replies to the seen half of the typed turns), samples.jsonl, and what `dvc metrics` and `dvc plots` show
(comparison.py). `python -m pipeline.report` renders the report.
Memory: one batch, and the texts of the items. Time: 45 s on two cores for 3 million parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.evaluate.comparison import write_comparison
from pipeline.evaluate.item_scores import describe_figures, list_metrics, make_item_table, summarize_items
from pipeline.evaluate.params import Evaluate
from pipeline.evaluate.task import Context, EvaluationInputs
from pipeline.evaluate.tasks import TASKS
from pipeline.evaluate.trained_on.composition import COMPOSITION, measure_composition
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import write_table

LINES = ("user_turns.jsonl", "samples.jsonl")  # always there: without rows if no chosen task writes them


def run(
    params: Evaluate,
    *,
    base: Path,
    chat: Path,
    shards: Path,
    conversations: Path,
    index: Path,
    embed: Path,
    turns: Path,
    sets: Path,
    feedback: Path | None = None,
    out: Path,
) -> Metrics:
    """Write these files. Raises `UserError` for models that are not ours or do not fit the shards, a val split that is too small to
    measure anything, or a set that can't be read."""
    context = Context(params, EvaluationInputs(base, chat, shards, conversations, index, embed, turns, sets, feedback))
    metrics: Metrics = {
        "n_params": context.tuned.model.config.n_parameters,
        "model_bytes": (chat / "model.safetensors").stat().st_size,
    }
    lines: dict[str, list[Mapping[str, Any]]] = {name: [] for name in LINES}
    figures: list[dict[str, Any]] = []
    items: list[pa.Table] = []
    for task in [task for task in TASKS if task.name in params.tasks]:
        measured = task.measure(context)
        estimates = summarize_items(measured.items)
        metrics |= list_metrics(estimates) | measured.counts
        figures += [{"task": task.name, **each} for each in describe_figures(measured.figures, estimates)]
        items.append(make_item_table(task.name, measured.items))
        for name, rows in measured.lines.items():
            lines.setdefault(name, []).extend(rows)
        for name, table in measured.tables.items():
            write_table(out / name, table)
    write_table(out / "items.parquet", pa.concat_tables(items))
    for name, content in (("figures.json", figures), (COMPOSITION, measure_composition(shards, conversations))):
        (out / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, rows in lines.items():
        write_lines(out / name, rows)
    write_comparison(metrics, {"base": base, "chat": chat}, out)
    return metrics


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON value per line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
