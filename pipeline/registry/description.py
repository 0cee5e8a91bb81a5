"""The text that MLflow shows on a version's page: a short model card with a link to the whole one, and the gate's decision.

In: the publication, the facts of the report, the gate's decision. Out: Markdown of at most `MAX_CHARS`, which is what MLflow's
database takes: sections that do not fit are left out from the end, and the whole card is an artifact of the version's run.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.registry.lineage import Publication
from pipeline.report.decision import DecisionRow, count_verdicts
from pipeline.report.facts import Facts, HeadlineRow, format_value, list_headline
from pipeline.report.markdown import make_table
from pipeline.report.model_card import list_licenses, list_limits, list_uses

MAX_CHARS = 5000
MAX_ROWS = 12  # metrics that the gate calls better or worse
CARD = "evaluate/report.html"  # artifact of the version's run
GATE_CARD = "gate/report.html"  # the same with the champion beside it, once the gate has judged
GATE = "\n\n### The gate"  # the part of a description from here on is the gate's
# "stage.metric": what a reader compares two versions by, besides bits per byte and skills.
SIZES = {
    "pretrain.n_params": "parameters",
    "pretrain.tokens": "tokens of pretraining",
    "sft.steps": "steps of fine-tuning",
    "filter.docs_out": "documents after filtering",
    "shard.vocab_size": "words of the vocabulary",
}
PARAMS = ("pretrain.model", "pretrain.training", "sft.training", "download.sources")  # the rest: the page of the run
TALK = """```sh
make chat                                        # if this version is the champion
python -m pipeline.registry pull --version N --to FOLDER    # N: the number of this version
python -m assistant --model FOLDER/model
```"""


def describe_version(work: Publication, facts: Facts, run_page: str) -> str:
    """Return the description of a version as Markdown; `run_page`: the address of its run in MLflow's pages."""
    sizes = [(words, f"{work.metrics[name]:,.0f}") for name, words in SIZES.items() if name in work.metrics]
    licenses = [(name, f"{tokens} tokens", share) for name, _, tokens, share in list_licenses(facts)]
    sections = [
        f"Made from commit `{work.tags['git_commit']}`{_describe_changes(work.tags['git_is_dirty'])}, "
        f"fingerprint `{work.fingerprint[:12]}`. [The whole model card]({run_page}/artifacts/{CARD})",
        _format_table(("measured on held-out text and questions", ""), _list_metrics(facts)),
        TALK,
        _list_items([*list_uses(facts), *list_limits(facts)]),
        _format_table(("size", ""), sizes),
        _format_table(("license of the training text", "", ""), licenses),
        _format_table(("setting", ""), _list_params(work)),
    ]
    return _join_sections(sections, MAX_CHARS - len(GATE) - 1000)  # what the gate adds


def add_decision(description: str, rows: Sequence[DecisionRow], reason: str, run_page: str) -> str:
    """Return a description with the gate's decision at its end, in the place of an earlier one."""
    kept = description.partition(GATE)[0]
    told = [row for row in rows if row.verdict in ("better", "worse")][:MAX_ROWS]
    table = _format_table(("metric", "champion", "candidate", "difference", "verdict"), [_cut_row(row) for row in told])
    link = f"[The whole decision table]({run_page}/artifacts/{GATE_CARD})" if rows else ""
    text = _join_sections([f"{count_verdicts(rows)}. {link}" if rows else "", table, f"{reason[:400]}."], MAX_CHARS)
    room = MAX_CHARS - len(kept) - len(GATE) - 2
    return f"{kept}{GATE}\n\n{text[:room]}"


def _cut_row(row: DecisionRow) -> tuple[str, ...]:
    return (row.title, *row.numbers[:3], row.verdict)


def _join_sections(sections: Sequence[str], limit: int) -> str:
    """Return the sections that fit, in their order."""
    text = ""
    for section in filter(None, sections):
        longer = f"{text}\n\n{section}" if text else section
        text = longer if len(longer) <= limit else text
    return text


def _describe_changes(is_dirty: str) -> str:
    return {"true": " with changes that were not committed", "false": ""}.get(is_dirty, "")


def _list_metrics(facts: Facts) -> list[tuple[str, str]]:
    return [(row.name, _format_value(row)) for row in list_headline(facts, None)]


def _format_value(row: HeadlineRow) -> str:
    value, error = (format_value(each, is_share=row.is_share) for each in (row.value, row.se))
    beside = ", ".join(f"{name} {format_value(each, is_share=row.is_share)}" for name, each in row.baselines)
    return f"{value} ± {error}" + (f" ({beside})" if beside else "")


def _list_params(work: Publication) -> list[tuple[str, str]]:
    return [(name, value) for name, value in work.params.items() if name.startswith(PARAMS) and value != "null"]


def _list_items(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(make_table(head, rows)[:-1])
