"""What the report shows: read from the JSON files of the stages, and turned into rows of tables and lengths of bars.

In: data/metrics, var/timings, the training histories, samples, replies to typed turns, the model's config; optionally the
champion's metrics. Out: `Facts` and `Provenance`, and small named rows without markup. Everything but `read_facts` and
`read_provenance` is pure; O(metrics).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.frame.provenance import read_flat_params, read_git_state
from pipeline.frame.settings import read_yaml
from pipeline.frame.timings import TIMINGS, read_timings
from pipeline.params import STAGES
from pipeline.report.charts import format_number
from pipeline.report.decision import DecisionRow, get_verdicts
from pipeline.report.labels import SIZES

Metrics = Mapping[str, float]
TECHNICAL_COUNTS = ("tokens", "joined", "named_heldout", "too_long")  # `n_train_…` that are no kinds of conversations
PHASES = {"pretrain": "pretraining", "sft": "fine-tuning"}


class Facts(NamedTuple):
    """`metrics` and `timings` by stage; `curves`: rows of history.jsonl by phase; `shape`: the model's config; `user_turns`:
    replies to turns typed by hand; `figures`: what the tasks of evaluate measured, with baselines; `composition`: the training
    data by source and license; `lineage`: each stage's command and the md5 of what it made."""

    metrics: Mapping[str, Metrics]
    timings: Mapping[str, Metrics]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    samples: Sequence[Mapping[str, Any]]
    shape: Mapping[str, Any]
    user_turns: Sequence[Mapping[str, Any]] = ()
    figures: Sequence[Mapping[str, Any]] = ()
    composition: Mapping[str, Sequence[Mapping[str, Any]]] = {}
    lineage: Sequence[tuple[str, str, str]] = ()


class Provenance(NamedTuple):
    """Which model this is: version and fingerprint are empty if it is not registered; `params` by dotted name; `n_cores` of the
    machine that writes the report, which is the one that made the model if there are timings."""

    version: str
    fingerprint: str
    commit: str
    is_dirty: bool
    written_at: str
    params: Mapping[str, str]
    n_cores: int = 0


class Champion(NamedTuple):
    """The version to compare with, its metrics of `evaluate`, and the gate's decision on the candidate."""

    version: str
    metrics: Metrics
    decision: Sequence[DecisionRow] = ()
    reason: str = ""


def read_facts(root: Path) -> Facts:
    """Read the facts of the finished pipeline below `root`. A missing file leaves a gap in the report, except the config."""
    data = root / "data"
    paths = {stage: data / "metrics" / f"{stage}.json" for stage in STAGES}
    metrics = {stage: _read_json(path) for stage, path in paths.items() if path.exists()}
    timings = {stage: read_timings(root / TIMINGS / f"{stage}.json", path) for stage, path in paths.items()}
    curves = {phase: _read_lines(data / phase / "history.jsonl") for phase in PHASES}
    samples = _read_lines(data / "evaluate" / "samples.jsonl")
    user_turns = _read_lines(data / "evaluate" / "user_turns.jsonl")
    figures, composition = (data / "evaluate" / name for name in ("figures.json", "composition.json"))
    return Facts(
        metrics,
        timings,
        curves,
        samples,
        _read_json(data / "sft" / "config.json"),
        user_turns,
        _read_json(figures) if figures.exists() else [],
        _read_json(composition) if composition.exists() else {},
        read_lineage(root / "dvc.lock"),
    )


def read_lineage(path: Path) -> list[tuple[str, str, str]]:
    """Return (stage, command, md5 of its first output) of each stage in dvc.lock; empty if there is none."""
    stages: Mapping[str, Any] = read_yaml(path)["stages"] if path.exists() else {}
    order = {stage: index for index, stage in enumerate(STAGES)}
    rows = [
        (name, str(stage["cmd"]), str(next((out.get("md5", "") for out in stage.get("outs", [])), "")))
        for name, stage in stages.items()
    ]
    return sorted(rows, key=lambda row: order.get(row[0], len(order)))


def read_provenance(root: Path, *, version: str = "", fingerprint: str = "") -> Provenance:
    """Read Git's commit, the clock and params.yaml; the caller knows version and fingerprint if the model is registered."""
    state, now, path = read_git_state(root), datetime.now().astimezone(), root / "params.yaml"
    params = read_flat_params(path) if path.exists() else {}
    commit = "" if state["git_commit"] == "unknown" else state["git_commit"]
    written_at = f"{now.day} {now:%B %Y, %H:%M %Z}"
    is_dirty = state["git_is_dirty"] == "true"
    return Provenance(version, fingerprint, commit, is_dirty, written_at, params, os.cpu_count() or 1)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []  # splitlines also cuts at U+2028
    return [json.loads(line) for line in lines if line.strip()]


class HeadlineRow(NamedTuple):
    """One metric with its standard error; `champion` is the champion's value, `baselines` what simple methods reach."""

    name: str
    meaning: str
    value: float
    se: float
    n: int
    champion: float | None
    is_share: bool
    metric: str = ""
    task: str = ""
    verdict: str = ""
    baselines: Sequence[tuple[str, float]] = ()

    @property
    def change(self) -> float | None:
        """The difference from the champion."""
        return None if self.champion is None else self.value - self.champion


def list_headline(facts: Facts, champion: Champion | None) -> list[HeadlineRow]:
    """Return what the tasks of evaluate measured, with the gate's verdict; figures of a task are together."""
    theirs, verdicts = (champion.metrics, get_verdicts(champion.decision)) if champion else ({}, {})
    return [
        HeadlineRow(
            str(figure["title"]),
            str(figure["meaning"]),
            float(figure["value"]),
            float(figure["se"]),
            int(figure["n"]),
            theirs.get(figure["metric"]),
            str(figure["metric"]).endswith("_frac"),
            str(figure["metric"]),
            str(figure["task"]),
            verdicts.get(figure["metric"], ""),
            [(str(each["title"]), float(each["value"])) for each in figure["baselines"]],
        )
        for figure in facts.figures
    ]


def group_headline(rows: Sequence[HeadlineRow]) -> dict[str, list[HeadlineRow]]:
    """Return the rows by task, in the order of the tasks."""
    groups: dict[str, list[HeadlineRow]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    return groups


def format_value(value: float | None, *, is_share: bool, is_signed: bool = False) -> str:
    """Format a share as 97.5 %, another number as 1.352, and None as a dash."""
    if value is None:
        return "–"
    sign = "+" if is_signed else ""
    text = f"{100 * value:{sign}.1f} %" if is_share else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def summarize(facts: Facts) -> str:
    """Describe in one sentence what was made, as far as the metrics tell."""
    metrics = {stage: facts.metrics.get(stage, {}) for stage in STAGES}
    n_params = format_number(metrics["evaluate"].get("n_params", 0))
    parts = [f"A language model with {n_params} parameters, trained from scratch"]
    if "docs_out" in metrics["filter"]:
        parts.append(f"on {format_number(metrics['filter']['docs_out'])} documents")
    if "tokens" in metrics["pretrain"]:
        parts.append(f"({format_number(metrics['pretrain']['tokens'])} tokens)")
    if "n_train" in metrics["conversations"]:
        parts.append(f"and fine-tuned on {format_number(metrics['conversations']['n_train'])} conversations")
    return " ".join(parts) + "."


class Loss(NamedTuple):
    """What a text stage dropped, by reason."""

    stage: str
    docs_in: int
    docs_out: int
    reasons: list[tuple[str, int]]


def list_losses(facts: Facts) -> list[Loss]:
    """Return the stages that count documents, in order; reasons by descending count, without those that dropped nothing."""
    losses: list[Loss] = []
    for stage in STAGES:
        metrics = facts.metrics.get(stage, {})
        if {"docs_in", "docs_out"} <= metrics.keys():
            reasons = [
                (name.removeprefix("dropped_"), int(n))
                for name, n in metrics.items()
                if name.startswith("dropped_") and n
            ]
            reasons.sort(key=lambda reason: (-reason[1], reason[0]))
            losses.append(Loss(stage, int(metrics["docs_in"]), int(metrics["docs_out"]), reasons))
    return losses


class SourceFacts(NamedTuple):
    """Bits per byte on the held-out documents of one source."""

    name: str
    bpb: float
    se: float
    champion: float | None


def list_sources(facts: Facts, champion: Champion | None) -> list[SourceFacts]:
    """Return bits per byte by source, the highest first."""
    ours, theirs = facts.metrics.get("evaluate", {}), champion.metrics if champion else {}
    names = [
        name.removeprefix("bpb_")
        for name in ours
        if name.startswith("bpb_") and not name.endswith("_se") and name != "bpb_se"
    ]
    rows = [
        SourceFacts(name, ours[f"bpb_{name}"], ours.get(f"bpb_{name}_se", 0.0), theirs.get(f"bpb_{name}"))
        for name in names
    ]
    return sorted(rows, key=lambda row: (-row.bpb, row.name))


def list_kinds(facts: Facts) -> list[tuple[str, int]]:
    """Return the kinds of training conversations and their counts, the most frequent first."""
    metrics = facts.metrics.get("conversations", {})
    kinds = {name.removeprefix("n_train_"): int(n) for name, n in metrics.items() if name.startswith("n_train_")}
    return sorted(((name, n) for name, n in kinds.items() if name not in TECHNICAL_COUNTS), key=lambda kind: -kind[1])


def list_sizes(facts: Facts) -> list[tuple[str, str]]:
    """Return speed and sizes, as far as they are known."""
    ours, tokenizer = facts.metrics.get("evaluate", {}), facts.metrics.get("train_tokenizer", {})
    rows = [
        ("Parameters", format_number(ours.get("n_params", 0))),
        *((label, format_number(facts.shape[name])) for name, label in SIZES.items() if name in facts.shape),
        ("Weights on disk", f"{ours.get('model_bytes', 0) / 1e6:.1f} MB"),
        ("Bits per byte after fine-tuning", format_value(ours.get("chat_bpb", 0), is_share=False)),
    ]
    if "heldout_bytes_per_token" in tokenizer:
        rows += [
            ("Bytes per token on held-out documents", f"{tokenizer['heldout_bytes_per_token']:.3f}"),
            ("Vocabulary entries unused on the tokenizer's own sample", format_number(tokenizer["unused_tokens"])),
        ]
    return rows + list_timings(facts)


def list_timings(facts: Facts) -> list[tuple[str, str]]:
    """Return the clock readings of the runs that made the model; none for a stage that ran elsewhere."""
    rows: list[tuple[str, str]] = []
    for phase, name in PHASES.items():
        if speed := facts.timings.get(phase):
            rate = f"{speed['tokens_per_second']:,.0f} tokens/s, MFU {format_value(speed['mfu'], is_share=True)}"
            rows.append((f"Time for {name}", f"{speed['train_seconds']:,.0f} s ({rate})"))
    if speed := facts.timings.get("evaluate"):
        rows += [
            ("Generation speed, one answer at a time", f"{speed['tokens_per_second']:,.0f} tokens/s"),
            ("Time to first token", f"{1000 * speed['first_token_seconds']:.0f} ms"),
        ]
    return rows


def read_transcript(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (speaker, text) of every turn before the answer; for a continuation, the text that it continues."""
    if sample["skill"] == "continuation":
        return [("text", sample["prompt"])]
    turns: list[tuple[str, str]] = []
    for message in json.loads(sample["prompt"]):
        call = message.get("call")
        turns.append(
            ("call", f"{call['name']}({json.dumps(call['argument'], ensure_ascii=False)})")
            if call
            else (message["role"], message["content"])
        )
    return turns
