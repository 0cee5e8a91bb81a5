"""Render the report: templates/page.html with page.css as one self-contained HTML file, and the same facts as Markdown.

In: `Facts` and `Provenance`, optionally the champion. Out: report.html and report.md. The same facts give the same bytes. Jinja2
escapes every value in the page; charts.py escapes the labels of its SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.report.calibration import (
    CALIBRATION_HEAD,
    CalibrationFacts,
    compute_calibration,
    describe_calibration,
    list_calibration_rows,
)
from pipeline.report.charts import BarRow, Series, draw_line_chart, format_number, smooth_points
from pipeline.report.decision import count_verdicts, summarize_decision
from pipeline.report.facts import (
    Champion,
    Facts,
    HeadlineRow,
    Loss,
    Provenance,
    SourceFacts,
    format_value,
    group_headline,
    list_headline,
    list_kinds,
    list_losses,
    list_sizes,
    list_sources,
    read_transcript,
    summarize,
)
from pipeline.report.labels import (
    SAMPLE_TITLES,
    SPEAKERS,
    describe_kind,
    describe_reason,
    describe_stage,
    describe_task,
)
from pipeline.report.markdown import render_markdown
from pipeline.report.model_card import (
    list_chat_sources,
    list_commands,
    list_data_sources,
    list_licenses,
    list_limits,
    list_time,
    list_uses,
)
from pipeline.report.typed_turns import Transcript, describe_user_turns, group_transcripts, list_user_rows

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("report.html", "report.md")


class Phase(NamedTuple):
    """How the curves of a training phase are shown; `heldout` is a metric in its history, in `unit`."""

    title: str
    meaning: str
    heldout: str
    heldout_title: str
    unit: str


PHASES = {
    "pretrain": Phase("Pretraining", "The model learns to continue text.", "bpb", "Held-out text", "bits per byte"),
    "sft": Phase(
        "Fine-tuning",
        "The model learns to converse and to use its tools.",
        "heldout_loss_nats",
        "Held-out conversations",
        "nats per token",
    ),
}


class CaptionedChart(NamedTuple):
    """A chart with its title and caption."""

    title: str
    caption: str
    chart: str  # SVG


def write_report(out: Path, facts: Facts, provenance: Provenance, champion: Champion | None = None) -> None:
    """Write report.html and report.md to `out`."""
    (out / "report.html").write_text(render_html(facts, provenance, champion), encoding="utf-8")
    (out / "report.md").write_text(render_markdown(facts, provenance, champion), encoding="utf-8")


def render_html(facts: Facts, provenance: Provenance, champion: Champion | None = None) -> str:
    """Return the page."""
    calibration = compute_calibration(facts)
    template = load_environment().get_template("page.html")
    return template.render(
        style=files("pipeline.report").joinpath("templates/page.css").read_text(encoding="utf-8"),
        provenance=provenance,
        champion=champion,
        summary=summarize(facts),
        tiles=list_tiles(facts),
        user_bars=make_skill_bars(list_user_rows(facts, champion)),
        user_summary=describe_user_turns(facts),
        transcripts={
            kind: [make_transcript(each) for each in group] for kind, group in group_transcripts(facts).items()
        },
        decision=champion.decision if champion else (),
        verdict=summarize_decision(champion.decision, champion.reason) if champion else "",
        decision_summary=count_verdicts(champion.decision) if champion else "",
        uses=list_uses(facts),
        limits=list_limits(facts),
        tasks=[
            (describe_task(task), make_task_bars(rows), rows)
            for task, rows in group_headline(list_headline(facts, champion)).items()
        ],
        licenses=list_licenses(facts),
        data_sources=list_data_sources(facts),
        chat_sources=list_chat_sources(facts),
        time=list_time(facts, provenance),
        commands=list_commands(provenance),
        lineage=facts.lineage,
        phases=[(PHASES[name], draw_phase(PHASES[name], rows)) for name, rows in facts.curves.items() if len(rows) > 1],
        sources=make_source_bars(list_sources(facts, champion)),
        losses=[(describe_stage(loss.stage), loss, make_reason_bars(loss)) for loss in list_losses(facts)],
        calibration=calibration and describe_calibration(calibration),
        calibration_bars=make_calibration_bars(calibration) if calibration else [],
        calibration_head=CALIBRATION_HEAD,
        calibration_rows=list_calibration_rows(calibration) if calibration else [],
        kinds=make_kind_bars(list_kinds(facts)),
        samples=[make_sample(sample) for sample in facts.samples],
        sizes=list_sizes(facts),
        metrics=facts.metrics,
        params=group_params(provenance.params),
    )


@cache
def load_environment() -> Environment:
    """Return the Jinja2 environment of this package's templates: everything is escaped, and a missing name is an error."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {"number": format_number, "value": format_value}
    environment.filters.update(filters)
    return environment


def list_tiles(facts: Facts) -> list[tuple[str, str]]:
    """Return (value, meaning) of the most important metrics, as far as they were measured."""
    ours = {**facts.metrics.get("evaluate", {}), **facts.timings.get("evaluate", {})}
    tiles = (
        ("user_turns_acceptable_frac", "of turns typed as users type them answered acceptably", format_short),
        ("bpb", "bits per byte of held-out text", lambda value: f"{value:.3f}"),
        ("tool_chosen_frac", "right tool chosen", format_short),
        ("quote_exact_frac", "exact quotes with the right source", format_short),
        ("abstention_right_frac", "abstains if no passage answers", format_short),
        ("tokens_per_second", "tokens per second, one answer at a time", lambda value: f"{value:,.0f}"),
    )
    return [(text(ours[name]), meaning) for name, meaning, text in tiles if name in ours]


def format_short(value: float) -> str:
    """Format a share as a percentage, without decimals at both ends."""
    return f"{100 * value:.0f} %" if round(value, 3) in (0.0, 1.0) else f"{100 * value:.1f} %"


def make_task_bars(rows: Sequence[HeadlineRow]) -> list[BarRow]:
    """Return the bars of a task: shares as they are; other metrics and their baselines relative to the longest."""
    if all(row.is_share for row in rows):
        return make_skill_bars(rows) if len(rows) > 1 else []
    if any(row.is_share for row in rows):
        return []
    values = [(row.name, row.value, row.se, row.champion) for row in rows]
    bars: list[tuple[str, float, float, float | None]] = []
    for row, value in zip(rows, values, strict=True):
        bars += [value, *((f"{row.name}: {name}", baseline, 0.0, None) for name, baseline in row.baselines)]
    top = max(max(value + se, champion or 0.0) for _, value, se, champion in bars) * 1.02
    return [
        BarRow(
            name,
            value / top,
            f"{value:.3f}",
            f"± {se:.3f}" if se else "",
            (value - se) / top if se else None,
            (value + se) / top if se else None,
            None if champion is None else champion / top,
        )
        for name, value, se, champion in bars
    ]


def make_skill_bars(rows: Sequence[HeadlineRow]) -> list[BarRow]:
    """Return a bar per skill, with one standard error, and the champion's value as the mark."""
    return [
        BarRow(row.name, row.value, format_short(row.value), "", row.value - row.se, row.value + row.se, row.champion)
        for row in rows
        if row.is_share
    ]


def draw_phase(phase: Phase, rows: Sequence[Mapping[str, Any]]) -> list[CaptionedChart]:
    """Return a chart of the training loss, and one of the held-out metric with an axis of its own, because units differ."""
    loss = [(float(row["step"]), float(row["loss_nats"])) for row in rows if "loss_nats" in row]
    heldout = [(float(row["step"]), float(row[phase.heldout])) for row in rows if phase.heldout in row]
    figures: list[CaptionedChart] = []
    if len(loss) > 1:
        last = smooth_points(loss)[-1][1]
        text = f"the loss goes from {loss[0][1]:.2f} to {last:.2f} nats per token in {len(loss):,} steps"
        series = [Series("loss of each step", loss, "raw"), Series("moving average", smooth_points(loss), "smooth")]
        figures.append(_draw(f"{phase.title}: training loss", text, series, "nats per token"))
    if len(heldout) > 1:
        text = f"{heldout[0][1]:.3f} at step {heldout[0][0]:,.0f}, {heldout[-1][1]:.3f} {phase.unit} at the end"
        series = [Series(phase.heldout_title, heldout, "held-out")]
        figures.append(_draw(f"{phase.title}: {phase.heldout_title.lower()}", text, series, phase.unit))
    return figures


def _draw(title: str, text: str, series: Sequence[Series], unit: str) -> CaptionedChart:
    chart = draw_line_chart(series, x_label="steps", y_label=unit, description=f"{title}: {text}")
    return CaptionedChart(title.partition(": ")[2].capitalize(), f"{text[0].upper()}{text[1:]}.", chart)


def make_source_bars(rows: Sequence[SourceFacts]) -> list[BarRow]:
    """Return a bar per source, with one standard error; the longest fills the track."""
    top = max([row.bpb + row.se for row in rows] + [row.champion or 0.0 for row in rows], default=1.0) * 1.02
    return [
        BarRow(
            row.name,
            row.bpb / top,
            f"{row.bpb:.3f}",
            f"± {row.se:.3f}",
            (row.bpb - row.se) / top,
            (row.bpb + row.se) / top,
            None if row.champion is None else row.champion / top,
        )
        for row in rows
    ]


def make_reason_bars(loss: Loss) -> list[BarRow]:
    """Return a bar per reason for dropping documents, relative to the most frequent one of this stage."""
    top = max((n for _, n in loss.reasons), default=1)
    return [
        BarRow(describe_reason(name), n / top, format_number(n), _format_small(n / max(loss.docs_in, 1)))
        for name, n in loss.reasons
    ]


def _format_small(share: float) -> str:
    return "< 0.01 %" if share < 5e-5 else f"{100 * share:.2f} %"


def make_kind_bars(kinds: Sequence[tuple[str, int]]) -> list[BarRow]:
    """Return a bar per kind of training conversation."""
    total, top = sum(n for _, n in kinds), max((n for _, n in kinds), default=1)
    return [BarRow(describe_kind(name), n / top, format_number(n), f"{100 * n / total:.0f} %") for name, n in kinds]


def make_calibration_bars(calibration: CalibrationFacts) -> list[BarRow]:
    """Return a bar per score bin that has texts: the share of positives."""
    return [
        BarRow(f"{row.low:.1f} to {row.high:.1f}", share, format_short(share), format_number(row.n_docs))
        for row in calibration.bins
        if (share := row.positive_frac) is not None
    ]


def make_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return title, verdict (right, wrong or none) and turns (style, speaker, text) of a held-out item."""
    turns = [(style, SPEAKERS.get(style, style), text) for style, text in read_transcript(sample)]
    verdict = "" if "is_right" not in sample else "right" if sample["is_right"] else "wrong"
    answer = ("answer", "MiniGPT", str(sample["answer"]) or "(nothing)")
    title = SAMPLE_TITLES.get(str(sample["skill"]), str(sample["skill"]))
    return {"title": title, "verdict": verdict, "turns": [*turns, answer]}


def make_transcript(transcript: Transcript) -> dict[str, Any]:
    """Return title, verdict and turns (style, speaker, text) of a conversation, like `make_sample`."""
    styles = {"assistant": "answer"}
    turns = [(styles.get(style, style), SPEAKERS.get(style, style), text) for style, text in transcript.turns]
    verdict = "wrong" if transcript.problems else "right"
    return {"title": "; ".join([transcript.id, *transcript.problems]), "verdict": verdict, "turns": turns}


def group_params(params: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Group params by their section: `filter.language.min_score` becomes `language.min_score` of `filter`."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for dotted, value in params.items():
        section, _, name = dotted.partition(".")
        groups.setdefault(section, []).append((name or section, value))
    return groups
