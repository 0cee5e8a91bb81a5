"""The model card (Mitchell et al. 2019): intended use, limits, training data, time and energy, lineage, how to reproduce it. Pure.

In: facts and provenance. Out: sentences and rows of tables without markup. What can be measured is taken from the metrics; a fact
that was not measured is left out. Energy is an estimate: seconds of the stages times the cores of the machine at `WATTS_PER_CORE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.charts import format_number
from pipeline.report.facts import Facts, Provenance, format_value
from pipeline.report.typed_turns import list_user_rows

# A server CPU of 64 cores draws some 360 W under load, memory, fans and power supply a third of that: 7.5 W per core; a laptop's
# core draws about as much. Graphics cards are not counted.
WATTS_PER_CORE = 7.5
MAX_SOURCES = 12  # in the table by source; the others are one row
WEAK_SHARE = 0.8  # of acceptable answers: kinds of turns below it are named as limits
NOT_MADE_FOR = (
    "Not made for: facts that are in no document of its index, advice on health, law or money, decisions without a person, other "
    "languages than its documents' own."
)
DATA_HEAD = ("", "Documents", "Tokens", "Share")


def list_uses(facts: Facts) -> list[str]:
    """Return what the model is for, and what it is not for."""
    if "quote_exact_frac" not in facts.metrics.get("evaluate", {}):
        return ["Made for: text like that it was trained on, and for learning how a model is made.", NOT_MADE_FOR]
    return [
        "Made for: questions about the documents that it searches. It quotes them with their source, says when they have no "
        "answer, and leaves calculations, units and dates to tools.",
        NOT_MADE_FOR,
    ]


def list_limits(facts: Facts) -> list[str]:
    """Return what the model does badly, as far as it was measured."""
    ours = facts.metrics.get("evaluate", {})
    limits: list[str] = []
    if "n_params" in ours:
        limits.append(f"It has {format_number(ours['n_params'])} parameters: it finds and quotes, it does not reason.")
    weak = [row for row in list_user_rows(facts, None)[1:] if row.value < WEAK_SHARE]
    if weak:
        kinds = ", ".join(f"{row.name.lower()} ({format_value(row.value, is_share=True)})" for row in weak)
        limits.append(
            f"Fewer than {format_value(WEAK_SHARE, is_share=True)} of these turns are answered acceptably: {kinds}."
        )
    if "clean_ngram_bpb" in ours:
        limits.append(_compare_with_ngram(ours))
    if "chat_bpb" in ours:
        change = format_value(ours["chat_bpb"] - ours["bpb"], is_share=False, is_signed=True)
        limits.append(f"Fine-tuning changed how well it continues plain text by {change} bits per byte.")
    if ours.get("harmless_refused_frac"):
        share = format_value(ours["harmless_refused_frac"], is_share=True)
        limits.append(f"It refuses {share} of harmless requests from outside its documents.")
    if "seq_len" in facts.shape:
        limits.append(f"It reads at most {format_number(facts.shape['seq_len'])} tokens at a time, passages included.")
    return limits


def _compare_with_ngram(ours: Mapping[str, float]) -> str:
    ngram, model = ours["clean_ngram_bpb"], ours["clean_bpb"]
    word = "better" if model < ngram else "worse"
    return (
        f"As a model of text it is {word} than a 5-gram of the same tokens: {model:.3f} against {ngram:.3f} bits per byte of "
        "held-out lines that training has not."
    )


def list_licenses(facts: Facts) -> list[tuple[str, ...]]:
    """Return the training text by license under `DATA_HEAD`, the largest first."""
    return _list_data(facts, "license", len(facts.composition.get("documents", ())))


def list_data_sources(facts: Facts) -> list[tuple[str, ...]]:
    """Return the training text by source under `DATA_HEAD`, the largest first; small ones in one row."""
    return _list_data(facts, "source", MAX_SOURCES)


def _list_data(facts: Facts, key: str, limit: int) -> list[tuple[str, ...]]:
    documents: Sequence[Mapping[str, Any]] = facts.composition.get("documents", ())
    sums: dict[str, tuple[int, int]] = {}
    for row in documents:
        docs, tokens = sums.get(row[key], (0, 0))
        sums[row[key]] = docs + row["docs"], tokens + row["tokens"]
    ranked = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    shown, rest = ranked[:limit], ranked[limit:]
    if rest:
        docs, tokens = (sum(counts[index] for _, counts in rest) for index in (0, 1))
        shown.append((f"{len(rest)} others", (docs, tokens)))
    total = max(sum(tokens for _, (_, tokens) in ranked), 1)
    return [
        (name or "unknown", format_number(docs), format_number(tokens), format_value(tokens / total, is_share=True))
        for name, (docs, tokens) in shown
    ]


def list_chat_sources(facts: Facts) -> list[tuple[str, ...]]:
    """Return (source, licenses, number) of the training conversations by source, the largest first.

    A conversation that quotes several documents has all of their licenses, joined by AND.
    """
    numbers: dict[str, int] = {}
    licenses: dict[str, set[str]] = {}
    for row in facts.composition.get("conversations", ()):
        source = row["source"]
        numbers[source] = numbers.get(source, 0) + row["conversations"]
        licenses.setdefault(source, set()).update(filter(None, row["license"].split(" AND ")))
    return [
        (
            source or "made by this pipeline",
            ", ".join(sorted(licenses[source])) or "as the documents quoted",
            format_number(n),
        )
        for source, n in sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    ]


def list_time(facts: Facts, provenance: Provenance) -> list[tuple[str, str]]:
    """Return the seconds of each stage that ran here, their sum, and an estimate of the energy; none if nothing ran here."""
    seconds = {stage: timing["seconds"] for stage, timing in facts.timings.items() if "seconds" in timing}
    if not seconds:
        return []
    total = sum(seconds.values())
    rows = [(stage, f"{value:,.0f} s") for stage, value in seconds.items()]
    watts = WATTS_PER_CORE * provenance.n_cores
    energy = f"about {watts * total / 3600:,.0f} Wh: {provenance.n_cores} cores at {WATTS_PER_CORE:g} W, estimated, not metered"
    return [*rows, ("all stages", f"{total / 60:,.1f} min"), ("energy", energy)]


def list_commands(provenance: Provenance) -> list[tuple[str, str]]:
    """Return (command, what for) that make this model again, and that get it from the registry."""
    commit = provenance.commit[:12] or "COMMIT"
    commands = [(f"git checkout {commit} && make run", "the same inputs and settings give the same bytes")]
    if provenance.version:
        pull = f"python -m pipeline.registry pull --version {provenance.version} --to FOLDER"
        commands.append((pull, "this version as it was published, its files checked"))
    return commands
