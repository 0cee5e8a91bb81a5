"""What a report shows, worked out of what the stages measured: rows of tables, lengths of bars, a sentence.

In: `Facts`, perhaps the champion's figures. Out: small named rows, without mark-up. Pure; O(figures).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.params import STAGES
from pipeline.report.charts import number

Figures = Mapping[str, float]


class Facts(NamedTuple):
    """`metrics` and `timings` by stage, `curves`: rows of history.jsonl by phase, `shape`: the model's config."""

    metrics: Mapping[str, Figures]
    timings: Mapping[str, Figures]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    samples: Sequence[Mapping[str, Any]]
    shape: Mapping[str, Any]


class Skill(NamedTuple):
    metric: str
    name: str
    meaning: str


SKILLS = (
    Skill("tool_chosen_frac", "Right tool chosen", "search, calculator or none, as the question needs"),
    Skill("search_exact_frac", "Search for a name", "the argument exact to the character"),
    Skill("search_words_exact_frac", "Search in words", "“how do I …” → the words that matter"),
    Skill("quote_exact_frac", "Quote and source", "the sentence word for word, and where it stands"),
    Skill("abstention_right_frac", "Says when it can't say", "none of the passages found answers"),
    Skill("calculator_exact_frac", "Calculation handed over", "the expression exact to the character"),
    Skill("calculator_answer_exact_frac", "Result reported", "every digit"),
    Skill("refusal_right_frac", "Unsafe requests refused", "plain requests, worded anew"),
    Skill("refusal_not_overdone_frac", "Harmless ones not refused", "“how do I kill a process”"),
    Skill("identity_right_frac", "Knows who it is", "or who the system prompt says it is"),
)


class HeadlineRow(NamedTuple):
    """One line of the headline table; `change` is against the champion, `is_better` None where it is within the error."""

    name: str
    meaning: str
    value: float
    se: float
    n: int
    champion: float | None
    is_share: bool

    @property
    def change(self) -> float | None:
        return None if self.champion is None else self.value - self.champion

    @property
    def is_better(self) -> bool | None:
        if self.change is None or abs(self.change) <= 2 * self.se:
            return None
        return (self.change > 0) == self.is_share


def headline(facts: Facts, champion: Figures | None) -> list[HeadlineRow]:
    """Bits per byte, then each skill that was measured."""
    ours, theirs = facts.metrics.get("evaluate", {}), champion or {}
    rows = [
        HeadlineRow(
            "Bits per byte",
            "held-out text; less is better",
            ours["bpb"],
            ours["bpb_se"],
            int(ours["n_heldout_docs"]),
            theirs.get("bpb"),
            False,
        )
    ]
    for skill in SKILLS:
        if skill.metric in ours:
            n = int(ours[f"n_heldout_{skill.metric.removesuffix('_frac')}"])
            se = ours[f"{skill.metric}_se"]
            rows.append(
                HeadlineRow(skill.name, skill.meaning, ours[skill.metric], se, n, theirs.get(skill.metric), True)
            )
    return rows


def shown(value: float, *, is_share: bool, is_signed: bool = False) -> str:
    """97.5 % or 1.352."""
    sign = "+" if is_signed else ""
    text = f"{100 * value:{sign}.1f} %" if is_share else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def sentence(facts: Facts) -> str:
    """What was made, in one sentence, as far as the metrics tell."""
    figures = {stage: facts.metrics.get(stage, {}) for stage in STAGES}
    parts = [f"A language model of {number(figures['evaluate'].get('n_params', 0))} parameters, trained from scratch"]
    if "docs_out" in figures["filter"]:
        parts.append(f"on {number(figures['filter']['docs_out'])} documents")
    if "tokens" in figures["pretrain"]:
        parts.append(f"({number(figures['pretrain']['tokens'])} tokens)")
    if "n_train" in figures["conversations"]:
        parts.append(f"and tuned on {number(figures['conversations']['n_train'])} conversations")
    return " ".join(parts) + "."


class Loss(NamedTuple):
    """What a text stage dropped, by reason."""

    stage: str
    docs_in: int
    docs_out: int
    reasons: list[tuple[str, int]]


def funnel(facts: Facts) -> list[Loss]:
    """The stages that count documents, in order; reasons from the commonest down, those that dropped nothing left out."""
    found: list[Loss] = []
    for stage in STAGES:
        figures = facts.metrics.get(stage, {})
        if {"docs_in", "docs_out"} <= figures.keys():
            reasons = [
                (name.removeprefix("dropped_"), int(n))
                for name, n in figures.items()
                if name.startswith("dropped_") and n
            ]
            reasons.sort(key=lambda reason: (-reason[1], reason[0]))
            found.append(Loss(stage, int(figures["docs_in"]), int(figures["docs_out"]), reasons))
    return found


class ScoreBin(NamedTuple):
    """Held-out texts with a quality score from `low` to `high`; precision and recall if everything from `low` on were kept."""

    low: float
    high: float
    n_docs: int
    n_positive: int
    precision: float | None
    recall: float | None

    @property
    def positive_frac(self) -> float | None:
        return self.n_positive / self.n_docs if self.n_docs else None


class CalibrationFacts(NamedTuple):
    """What the quality classifier's scores mean, measured on texts that it never saw."""

    auc: float
    min_score: float | None
    bins: list[ScoreBin]


def calibration(facts: Facts) -> CalibrationFacts | None:
    """From the filter's metrics, the highest scores first; None without a classifier."""
    figures = facts.metrics.get("filter", {})
    marks = sorted(
        int(name.removeprefix("quality_bin_").removesuffix("_docs"))
        for name in figures
        if name.startswith("quality_bin_") and name.endswith("_docs")
    )
    if "quality_auc_frac" not in figures or not marks:
        return None
    counts = [
        (int(figures[f"quality_bin_{mark:02d}_docs"]), int(figures[f"quality_bin_{mark:02d}_positives"]))
        for mark in marks
    ]
    n_positive = sum(positives for _, positives in counts)
    bins: list[ScoreBin] = []
    for place in reversed(range(len(marks))):
        kept, right = (sum(column) for column in zip(*counts[place:], strict=True))
        high = marks[place + 1] / 100 if place + 1 < len(marks) else 1.0
        precision, recall = right / kept if kept else None, right / n_positive if n_positive else None
        bins.append(ScoreBin(marks[place] / 100, high, *counts[place], precision, recall))
    return CalibrationFacts(figures["quality_auc_frac"], figures.get("quality_min_score"), bins)


def calibration_sentence(found: CalibrationFacts) -> str:
    """What the table under it shows."""
    n = sum(row.n_docs for row in found.bins)
    text = f"{number(n)} texts that the classifier never saw. A positive scores above a negative in "
    text += f"{shown(found.auc, is_share=True)} of all pairs (AUC)."
    return text if found.min_score is None else f"{text} Documents with {found.min_score:.3g} or more are kept."


def calibration_rows(found: CalibrationFacts) -> list[list[str]]:
    """Score, texts, share of positives, precision and recall if everything from this score on is kept."""

    def percent(value: float | None) -> str:
        return "–" if value is None else shown(value, is_share=True)

    return [
        [
            f"{row.low:.1f} to {row.high:.1f}",
            number(row.n_docs),
            percent(row.positive_frac),
            percent(row.precision),
            percent(row.recall),
        ]
        for row in found.bins
    ]


CALIBRATION_HEAD = ("Score", "Texts", "Positives", "Precision from here on", "Recall from here on")


class SourceFacts(NamedTuple):
    name: str
    bpb: float
    se: float
    champion: float | None


def sources(facts: Facts, champion: Figures | None) -> list[SourceFacts]:
    """Bits per byte by source, the hardest first."""
    ours = facts.metrics.get("evaluate", {})
    names = [
        name.removeprefix("bpb_")
        for name in ours
        if name.startswith("bpb_") and not name.endswith("_se") and name != "bpb_se"
    ]
    rows = [
        SourceFacts(name, ours[f"bpb_{name}"], ours.get(f"bpb_{name}_se", 0.0), (champion or {}).get(f"bpb_{name}"))
        for name in names
    ]
    return sorted(rows, key=lambda row: (-row.bpb, row.name))


def measured(facts: Facts) -> list[tuple[str, str]]:
    """Speed, sizes and settings, as far as they are known."""
    ours, shape = facts.metrics.get("evaluate", {}), facts.shape
    rows = [
        ("Parameters", number(ours.get("n_params", 0))),
        ("Weights on disk", f"{ours.get('model_bytes', 0) / 1e6:.1f} MB"),
        ("Bits per byte after tuning", shown(ours.get("chat_bpb", 0), is_share=False)),
        *timed(facts),
    ]
    words = facts.metrics.get("train_tokenizer", {})
    if "heldout_bytes_per_token" in words:
        rows += [
            ("Bytes a token, in documents the tokenizer has not seen", f"{words['heldout_bytes_per_token']:.3f}"),
            ("Learned tokens that its own sample never needs", number(words["unused_tokens"])),
        ]
    names = ("n_layer", "d_model", "n_head", "n_kv_head", "d_head", "d_ff", "seq_len", "vocab_size")
    return rows + [(name, number(shape[name])) for name in names if name in shape]


def timed(facts: Facts) -> list[tuple[str, str]]:
    """Return the clock readings of the runs that made the model; none for a stage that ran elsewhere."""
    rows: list[tuple[str, str]] = []
    if speed := facts.timings.get("evaluate"):
        rows += [
            ("Generation, one answer at a time", f"{speed['tokens_per_second']:,.0f} tokens/s"),
            ("Time to first token", f"{1000 * speed['first_token_seconds']:.0f} ms"),
        ]
    for phase in ("pretrain", "sft"):
        if speed := facts.timings.get(phase):
            rate = f"{speed['tokens_per_second']:,.0f} tokens/s, MFU {shown(speed['mfu'], is_share=True)}"
            rows.append((f"Training time of {phase}", f"{speed['train_seconds']:,.0f} s ({rate})"))
    return rows


def mark(sample: Mapping[str, Any]) -> str:
    return "" if "is_right" not in sample else " (right)" if sample["is_right"] else " (wrong)"


def transcript(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who said what before the answer; of a continuation, the text it goes on with."""
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
