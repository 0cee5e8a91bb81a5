"""report.html: the facts of pipeline/report/facts.py as one page. Everything that comes from outside is escaped here or in
charts.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipeline.report.charts import BarRow, Series, bars, line_chart, number, smoothed
from pipeline.report.facts import (
    CALIBRATION_HEAD,
    SKILLS,
    Facts,
    Figures,
    HeadlineRow,
    calibration,
    calibration_rows,
    calibration_sentence,
    funnel,
    headline,
    mark,
    measured,
    sentence,
    shown,
    sources,
    transcript,
)
from pipeline.report.style import STYLE

PHASES = {
    "pretrain": ("Pretraining", "Learning to continue text.", "bpb", "held-out text, bits per byte"),
    "sft": ("Tuning", "Learning to talk and to use tools.", "heldout_loss_nats", "held-out conversations"),
}
WHO = {
    "user": "Person",
    "tool": "Tool",
    "system": "System",
    "call": "MiniGPT calls",
    "assistant": "MiniGPT",
    "text": "Text",
}
SKILL_NAMES = {skill.metric.removesuffix("_frac"): skill.name for skill in SKILLS} | {
    "continuation": "Pretrained model goes on"
}


def render_html(facts: Facts, champion: Figures | None = None) -> str:
    sections = (
        _head(facts, champion),
        _skills(headline(facts, champion), champion is not None),
        _curves(facts),
        _sources(facts, champion),
        _documents(facts),
        _calibration(facts),
        _conversations(facts),
        _samples(facts.samples),
        _sizes(facts),
        _everything(facts),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>MiniGPT: report</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _head(facts: Facts, champion: Figures | None) -> str:
    ours = {**facts.metrics.get("evaluate", {}), **facts.timings.get("evaluate", {})}
    wanted = (
        ("bpb", "bits per byte of held-out text", lambda value: f"{value:.3f}"),
        ("tool_chosen_frac", "right tool chosen", _short_percent),
        ("quote_exact_frac", "quotes exact, with source", _short_percent),
        ("abstention_right_frac", "says so when nothing answers", _short_percent),
        ("tokens_per_second", "tokens a second, one answer at a time", lambda value: f"{value:,.0f}"),
    )
    tiles = "".join(
        f'<li class="tile"><b>{escape(show(ours[name]))}</b><span>{escape(text)}</span></li>'
        for name, text, show in wanted
        if name in ours
    )
    beside = " The champion’s figures stand beside them." if champion else ""
    return (
        f'<p class="kicker">MiniGPT</p><h1>What this model can do</h1><p class="lead">{escape(sentence(facts))} '
        f"Every figure is measured on text and names that training never saw.{beside}</p>"
        f'<ul class="tiles">{tiles}</ul>'
    )


def _short_percent(value: float) -> str:
    return f"{100 * value:.0f} %" if round(value, 3) in (0.0, 1.0) else f"{100 * value:.1f} %"


def _skills(rows: Sequence[HeadlineRow], has_champion: bool) -> str:
    picture = bars(
        [
            BarRow(
                row.name, row.value, _short_percent(row.value), "", row.value - row.se, row.value + row.se, row.champion
            )
            for row in rows
            if row.is_share
        ],
        description="Share of held-out items that were right, by skill",
    )
    key = "; the orange line is the champion" if has_champion else ""
    caption = f"<figcaption>Share of held-out items that were right, with one standard error{key}.</figcaption>"
    names = ["Value", "± se", "Items", *(["Champion", "Change"] if has_champion else [])]
    head = '<th scope="col">Measured on held-out items</th>' + "".join(_number_head(name) for name in names)
    body = "".join(_skill(row, has_champion) for row in rows)
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<h2>Skills</h2><figure>{picture}{caption}</figure><h3>The same in figures</h3>{table}"


def _number_head(name: str) -> str:
    return f'<th scope="col" class="n{" hide-small" if name == "Items" else ""}">{escape(name)}</th>'


def _number(text: str, style: str = "") -> str:
    return f'<td class="n {style}">{escape(text)}</td>'


def _skill(row: HeadlineRow, has_champion: bool) -> str:
    cells = [
        f"<td>{escape(row.name)}<small>{escape(row.meaning)}</small></td>",
        _number(shown(row.value, is_share=row.is_share), "main"),
        _number(shown(row.se, is_share=row.is_share)),
        _number(number(row.n), "hide-small"),
    ]
    if has_champion:
        style = {True: "up", False: "down", None: ""}[row.is_better]
        cells.append(_number("–" if row.champion is None else shown(row.champion, is_share=row.is_share)))
        change = "–" if row.change is None else shown(row.change, is_share=row.is_share, is_signed=True)
        cells.append(_number(change, style))
    return f"<tr>{''.join(cells)}</tr>"


def _curves(facts: Facts) -> str:
    figures = [_curve(phase, facts.curves.get(phase, [])) for phase in PHASES]
    return f"<h2>Training</h2>{''.join(figures)}" if any(figures) else ""


def _curve(phase: str, rows: Sequence[Mapping[str, Any]]) -> str:
    title, meaning, heldout_name, heldout_label = PHASES[phase]
    loss = [(float(row["step"]), float(row["loss_nats"])) for row in rows if "loss_nats" in row]
    heldout = [(float(row["step"]), float(row[heldout_name])) for row in rows if heldout_name in row]
    if len(loss) < 2:
        return ""
    last = smoothed(loss)[-1][1]
    description = f"{title}: the loss goes from {loss[0][1]:.2f} to {last:.2f} nats per token in {len(loss)} steps"
    description += f"; {heldout_label} at the end: {heldout[-1][1]:.3f}" if heldout else ""
    series = [Series("loss of each step", loss, "raw"), Series("smoothed", smoothed(loss), "smooth")]
    series += [Series(heldout_label, heldout, "held-out")] if len(heldout) > 1 else []
    picture = line_chart(series, x_label="steps", y_label="nats per token", description=description)
    key = '<span class="key smooth"></span>loss'
    key += f' &nbsp; <span class="key held-out"></span>{heldout_label}' if len(heldout) > 1 else ""
    return f"<h3>{title}</h3><p>{meaning}</p><figure>{picture}<figcaption>{key}<br>{escape(description)}.</figcaption></figure>"


def _sources(facts: Facts, champion: Figures | None) -> str:
    rows = sources(facts, champion)
    if not rows:
        return ""
    top = max([row.bpb + row.se for row in rows] + [row.champion or 0.0 for row in rows]) * 1.02
    picture = bars(
        [
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
        ],
        description="Bits per byte of held-out documents, by source; less is better",
    )
    return (
        "<h2>Surprise by source</h2><p>How many bits the pretrained model needs for a byte of held-out text: less is better.</p>"
        f"<figure>{picture}</figure>"
    )


def _documents(facts: Facts) -> str:
    stages = funnel(facts)
    if not stages:
        return ""
    top = max(loss.docs_in for loss in stages) or 1
    parts: list[str] = []
    for loss in stages:
        verb = "collected" if loss.stage == "download" else f"left after {loss.stage}"
        parts.append(bars([BarRow(verb, loss.docs_out / top, number(loss.docs_out))], description=f"Documents {verb}"))
        lost = [
            BarRow("− " + name.replace("_", " "), n / top, number(n), f"{100 * n / max(loss.docs_in, 1):.1f} %")
            for name, n in loss.reasons
        ]
        parts.append(bars(lost, description=f"Dropped by {loss.stage}", style="lost"))
    return f"<h2>Documents</h2><p>What went in, and why some of it was left out.</p><figure>{''.join(parts)}</figure>"


def _calibration(facts: Facts) -> str:
    found = calibration(facts)
    if found is None:
        return ""
    rows = [
        BarRow(
            f"{row.low:.1f} to {row.high:.1f}", row.positive_frac, _short_percent(row.positive_frac), number(row.n_docs)
        )
        for row in found.bins
        if row.positive_frac is not None
    ]
    picture = bars(rows, description="Share of positives among held-out texts, by score, and how many texts")
    first, *others = CALIBRATION_HEAD
    head = f'<th scope="col">{escape(first)}</th>' + "".join(map(_number_head, others))
    body = "".join(
        f"<tr><td>{escape(row[0])}</td>{''.join(map(_number, row[1:]))}</tr>" for row in calibration_rows(found)
    )
    return (
        f"<h2>What the quality score means</h2><p>{escape(calibration_sentence(found))}</p><figure>{picture}"
        "<figcaption>Share of positives among the texts of each score, and how many texts there are.</figcaption></figure>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _conversations(facts: Facts) -> str:
    figures = facts.metrics.get("conversations", {})
    technical = {"tokens", "joined", "named_heldout", "too_long"}
    kinds = {name.removeprefix("n_train_"): n for name, n in figures.items() if name.startswith("n_train_")}
    kinds = {name: int(n) for name, n in sorted(kinds.items(), key=lambda kind: -kind[1]) if name not in technical}
    if not kinds:
        return ""
    top = max(kinds.values())
    rows = [BarRow(name, n / top, number(n), f"{100 * n / sum(kinds.values()):.0f} %") for name, n in kinds.items()]
    return (
        "<h2>Conversations</h2><p>What the model was tuned on: made by program from the documents, and written by hand.</p>"
        f"<figure>{bars(rows, description='Conversations to tune on, by kind')}</figure>"
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    return (
        f"<h2>Samples</h2><p>Held-out items as they came, wrong ones too.</p>{''.join(map(_sample, samples))}"
        if samples
        else ""
    )


def _sample(sample: Mapping[str, Any]) -> str:
    verdict = mark(sample).strip(" ()")
    badge = f'<span class="badge {verdict}">{"✓" if verdict == "right" else "✗"} {verdict}</span>' if verdict else ""
    name = SKILL_NAMES.get(str(sample["skill"]), str(sample["skill"]))
    turns = "".join(_turn(who, WHO.get(who, who), text) for who, text in transcript(sample))
    answer = _turn("answer", "MiniGPT", str(sample["answer"]) or "(nothing)")
    return f'<article class="talk"><header><small>{escape(name)}</small>{badge}</header>{turns}{answer}</article>'


def _turn(style: str, who: str, text: str) -> str:
    return f'<div class="turn {escape(style)}"><span class="who">{escape(who)}</span>{escape(text)}</div>'


def _sizes(facts: Facts) -> str:
    return f"<h2>Speed, sizes, settings</h2>{_two_columns(measured(facts))}"


def _everything(facts: Facts) -> str:
    tables = {
        stage: _two_columns([(name, f"{value:.10g}") for name, value in figures.items()])
        for stage, figures in facts.metrics.items()
    }
    parts = [f"<details><summary>{escape(stage)}</summary>{table}</details>" for stage, table in tables.items()]
    return f"<h2>Every figure</h2>{''.join(parts)}"


def _two_columns(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f'<tr><td>{escape(name)}</td><td class="n">{escape(value)}</td></tr>' for name, value in rows)
    return f"<table><tbody>{body}</tbody></table>"
