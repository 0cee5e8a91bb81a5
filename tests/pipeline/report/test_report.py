"""The report: well-formed, self-contained, escaped, in words, with one unit per axis."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedupe.stage import REASONS as DEDUPE_REASONS
from pipeline.evaluate.params import TaskName
from pipeline.filter.licenses import REASONS as LICENSE_REASONS
from pipeline.filter.params import FineWeb, GopherQuality, GopherRepetition
from pipeline.params import STAGES
from pipeline.report.__main__ import main
from pipeline.report.calibration import compute_calibration
from pipeline.report.charts import (
    BarRow,
    Series,
    average_points,
    draw_line_chart,
    format_number,
    list_ticks,
    smooth_points,
)
from pipeline.report.decision import DecisionRow
from pipeline.report.facts import (
    Champion,
    Facts,
    Provenance,
    list_headline,
    list_losses,
    list_sizes,
    list_sources,
    read_facts,
    read_provenance,
)
from pipeline.report.labels import REASONS, TASKS, describe_reason
from pipeline.report.markdown import render_markdown
from pipeline.report.model_card import (
    MAX_SOURCES,
    list_chat_sources,
    list_commands,
    list_data_sources,
    list_limits,
    list_time,
)
from pipeline.report.render import render_html, write_report

HOSTILE = '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)> ``` | & "'
EVALUATE = {
    "bpb": 1.4,
    "bpb_se": 0.01,
    "n_heldout_docs": 900,
    "bpb_numpy": 1.5,
    "bpb_numpy_se": 0.02,
    "bpb_torch": 1.3,
    "bpb_torch_se": 0.03,
    "chat_bpb": 1.6,
    "chat_bpb_se": 0.02,
    "quote_exact_frac": 0.8,
    "quote_exact_frac_se": 0.03,
    "n_heldout_quote_exact": 200,
    "n_params": 3_000_000,
    "model_bytes": 12_000_000,
}
SAMPLES = [
    {
        "id": "1",
        "kind": "quote",
        "skill": "quote_exact",
        "is_right": False,
        "expected": "{}",
        "answer": HOSTILE,
        "prompt": json.dumps(
            [
                {"role": "user", "content": HOSTILE},
                {"role": "assistant", "content": "", "call": {"name": "search_docs", "argument": HOSTILE}},
                {"role": "tool", "content": HOSTILE},
            ]
        ),
    },
    {"skill": "continuation", "prompt": HOSTILE, "answer": HOSTILE},
]
FACTS = Facts(
    metrics={
        "download": {"docs_in": 100, "docs_out": 100, "dropped_duplicate_id": 0},
        "filter": {"docs_in": 100, "docs_out": 88, "dropped_language": 2, "dropped_min_words": 10},
        "conversations": {"n_train": 500, "n_train_quote": 300, "n_train_abstain": 200, "n_train_tokens": 9_999},
        "train_tokenizer": {"heldout_bytes_per_token": 3.2468, "unused_tokens": 14},
        "pretrain": {"tokens": 4_000_000},
        "evaluate": EVALUATE,
    },
    timings={
        "evaluate": {"seconds": 30.0, "tokens_per_second": 400.0, "first_token_seconds": 0.01},
        "pretrain": {"seconds": 260.0, "train_seconds": 250.0, "tokens_per_second": 16_000.0, "mfu": 0.43},
    },
    curves={
        "pretrain": [{"step": n, "loss_nats": 8 / n, **({"bpb": 4 / n} if n % 10 == 0 else {})} for n in range(1, 400)],
        "sft": [],
    },
    samples=SAMPLES,
    shape={"n_layer": 4, "vocab_size": 4096, "is_tied": True},
    figures=[
        {
            "task": "bits_per_byte",
            "metric": "bpb",
            "title": "Bits per byte",
            "meaning": "held-out text",
            "value": 1.4,
            "se": 0.01,
            "n": 900,
            "is_lower_better": True,
            "baselines": [{"metric": "ngram_bpb", "title": "Kneser-Ney 5-gram", "value": 1.2, "se": 0.01, "n": 900}],
        },
        {
            "task": "skills",
            "metric": "quote_exact_frac",
            "title": "Quote with source",
            "meaning": HOSTILE,
            "value": 0.8,
            "se": 0.03,
            "n": 200,
            "is_lower_better": False,
            "baselines": [],
        },
    ],
    composition={
        "documents": [
            {"source": "web", "license": "MIT", "docs": 80, "tokens": 3_000, "bytes": 9_000},
            {"source": HOSTILE, "license": "CC0-1.0", "docs": 8, "tokens": 1_000, "bytes": 3_000},
        ],
        "conversations": [{"source": "", "license": "", "conversations": 500, "bytes": 10}],
    },
    lineage=[("download", "python -m pipeline download", "d" * 32), ("sft", "python -m pipeline sft", "e" * 32)],
)
CHAMPION = Champion(
    "6",
    {"bpb": 1.5, "quote_exact_frac": 0.9, "bpb_numpy": 1.45},
    [
        DecisionRow("bpb", "Bits per byte", 1.5, 1.4, -0.1, -0.12, -0.08, "better", "paired over 900 items"),
        DecisionRow("quote_exact_frac", HOSTILE, 0.9, 0.8, -0.1, -0.16, -0.04, "worse", HOSTILE),
    ],
    "worse: quote_exact_frac",
)
PROVENANCE = Provenance(
    "7", "f" * 64, "c0ffee" + "0" * 34, True, "1 May 2026, 12:00 UTC", {"filter.licenses": HOSTILE, "sft.seed": "1"}
)
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Check that every tag is closed, in order; collect tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse_page(champion: Champion | None = None, facts: Facts = FACTS) -> Page:
    page = Page()
    page.feed(render_html(facts, PROVENANCE, champion))
    page.close()
    assert not page.open
    return page


@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_the_page_is_well_formed_and_self_contained(champion: Champion | None) -> None:
    page = parse_page(champion)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", render_html(FACTS, PROVENANCE, champion), re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "http" not in style[1]


def test_hostile_text_is_escaped() -> None:
    page = parse_page()
    shown = "".join(page.text)
    assert shown.count(HOSTILE) >= 6
    assert HOSTILE not in render_html(FACTS, PROVENANCE)
    markdown = render_markdown(FACTS, PROVENANCE)
    assert "````text" in markdown  # a longer fence than the text has
    assert f"| {HOSTILE}" not in markdown.replace("\\|", "|"), "cells of tables are no markup"


def test_charts_have_descriptions_and_one_unit_each() -> None:
    page = parse_page()
    assert page.tags.count("svg") == 2  # nats per token and bits per byte; the other phase has no history
    charts = re.findall(r"<svg.*?</svg>", render_html(FACTS, PROVENANCE), re.DOTALL)
    assert [[unit in chart for unit in (">nats per token<", ">bits per byte<")] for chart in charts] == [
        [True, False],
        [False, True],
    ]
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert any("loss goes from 8.00" in label for label in labels)
    assert ("role", "img") in page.attributes


def test_the_champion_is_shown_for_comparison() -> None:
    alone, beside = "".join(parse_page().text), "".join(parse_page(CHAMPION).text)
    assert "champion" not in alone.lower()
    assert "Champion" in beside
    assert "champion (version 6)" in beside
    assert "90.0 %" in beside
    assert "−10.0 %" in beside
    assert "| Champion |" in render_markdown(FACTS, PROVENANCE, CHAMPION)
    rows = {row.name: row for row in list_headline(FACTS, CHAMPION)}
    assert rows["Bits per byte"].verdict == "better"  # lower is better
    assert rows["Quote with source"].verdict == "worse"
    assert rows["Quote with source"].change == pytest.approx(-0.1)


def test_the_decision_table_is_shown_with_interval_rule_and_verdict() -> None:
    page, markdown = "".join(parse_page(CHAMPION).text), render_markdown(FACTS, PROVENANCE, CHAMPION)
    for text in ("1.5000", "1.4000", "−0.1000", "−0.1200 … −0.0800", "−16.0 % … −4.0 %", "paired over 900 items"):
        assert text in page
        assert text in markdown
    assert "1 better, 1 worse" in page
    assert f"The gate's decision. Worse: {HOSTILE}; better: Bits per byte." in page


def test_the_model_card_has_data_limits_time_and_lineage() -> None:
    page, markdown = "".join(parse_page().text), render_markdown(FACTS, PROVENANCE)
    for text in ("MIT", "75.0 %", "CC0-1.0", "made by this pipeline", "python -m pipeline download", "d" * 12):
        assert text in page
        assert text in markdown
    assert "Kneser-Ney 5-gram 1.200" in page
    assert "Kneser-Ney 5-gram 1.200" in markdown
    rows = dict(list_time(FACTS, PROVENANCE._replace(n_cores=2)))
    assert rows["all stages"] == "4.8 min"
    assert rows["energy"].startswith("about 1 Wh: 2 cores at 7.5 W, estimated")
    assert list_time(FACTS._replace(timings={"sft": {}}), PROVENANCE) == []
    assert list_commands(PROVENANCE)[0][0] == "git checkout c0ffee000000 && make run"
    assert "pull --version 7" in list_commands(PROVENANCE)[1][0]


def test_limits_name_what_was_measured() -> None:
    metrics = EVALUATE | {"clean_bpb": 1.5, "clean_ngram_bpb": 1.4, "harmless_refused_frac": 0.05}
    metrics |= {"user_turns_acceptable_frac": 0.7, "user_turns_acceptable_frac_se": 0.02, "n_user_turns": 100}
    metrics |= {"user_how_to_acceptable_frac": 0.4, "user_how_to_acceptable_frac_se": 0.1, "n_user_how_to": 20}
    limits = list_limits(FACTS._replace(metrics=FACTS.metrics | {"evaluate": metrics}))
    assert any("how to, without a name (40.0 %)" in text for text in limits)
    assert any("worse than a 5-gram of the same tokens: 1.500 against 1.400" in text for text in limits)
    assert any("refuses 5.0 % of harmless" in text for text in limits)
    assert not any("5-gram" in text or "harmless" in text for text in list_limits(FACTS))


def test_conversations_are_counted_by_source_with_all_licenses() -> None:
    rows = [
        {"source": "seed", "license": "MIT", "conversations": 5, "bytes": 1},
        {"source": "skills", "license": "PSF-2.0 AND MIT", "conversations": 4, "bytes": 1},
        {"source": "skills", "license": "BSD-3-Clause AND MIT", "conversations": 3, "bytes": 1},
    ]
    facts = FACTS._replace(composition={"conversations": rows})
    assert list_chat_sources(facts) == [("skills", "BSD-3-Clause, MIT, PSF-2.0", "7"), ("seed", "MIT", "5")]


def test_many_sources_are_shown_in_few_rows() -> None:
    documents = [{"source": f"s{i}", "license": "MIT", "docs": 1, "tokens": 100 - i, "bytes": 1} for i in range(40)]
    rows = list_data_sources(FACTS._replace(composition={"documents": documents}))
    assert len(rows) == MAX_SOURCES + 1
    assert rows[-1][:2] == ("28 others", "28")
    assert list_data_sources(FACTS._replace(composition={})) == []


def test_losses_and_sources_are_in_order() -> None:
    assert [(loss.stage, loss.reasons) for loss in list_losses(FACTS)] == [
        ("download", []),
        ("filter", [("min_words", 10), ("language", 2)]),
    ]
    assert [source.name for source in list_sources(FACTS, CHAMPION)] == ["numpy", "torch"]


BINS = {0: (60, 3), 30: (0, 0), 60: (20, 10), 90: (20, 19)}
CLASSIFIED = FACTS._replace(
    metrics={
        **FACTS.metrics,
        "filter": {
            **FACTS.metrics["filter"],
            "quality_auc_frac": 0.925,
            "quality_min_score": 0.6,
            **{f"quality_bin_{low:02d}_docs": n for low, (n, _) in BINS.items()},
            **{f"quality_bin_{low:02d}_positives": n for low, (_, n) in BINS.items()},
        },
    }
)


def test_the_calibration_is_shown_if_there_is_a_classifier() -> None:
    assert compute_calibration(FACTS) is None
    assert "quality score" not in render_html(FACTS, PROVENANCE) + render_markdown(FACTS, PROVENANCE)
    found = compute_calibration(CLASSIFIED)
    assert found
    assert [(row.low, row.high, row.n_docs) for row in found.bins] == [
        (0.9, 1.0, 20),
        (0.6, 0.9, 20),
        (0.3, 0.6, 0),
        (0.0, 0.3, 60),
    ]
    assert [row.positive_frac for row in found.bins] == [0.95, 0.5, None, 0.05]
    assert [row.precision for row in found.bins] == [0.95, 29 / 40, 29 / 40, 32 / 100]
    assert [row.recall for row in found.bins] == [19 / 32, 29 / 32, 29 / 32, 1.0]
    markdown, text = render_markdown(CLASSIFIED, PROVENANCE), "".join(parse_page(None, CLASSIFIED).text)
    assert "| 0.6 to 0.9 | 20 | 50.0 % | 72.5 % | 90.6 % |" in markdown
    for page in (markdown, text):
        assert "92.5 % of all pairs (AUC). Documents with 0.6 or more are kept." in page
    assert "0.6 to 0.92050.0 %72.5 %90.6 %" in text


def test_facts_are_read_back_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    finish_pipeline(tmp_path)
    facts = read_facts(tmp_path)
    assert facts.samples == SAMPLES
    assert not list_losses(facts)
    assert facts.timings == {stage: {} for stage in STAGES}, "nothing has run here"
    (tmp_path / "out").mkdir()
    write_report(tmp_path / "out", facts, PROVENANCE, CHAMPION)
    first = (tmp_path / "out" / "report.html").read_bytes()
    write_report(tmp_path / "out", facts, PROVENANCE, CHAMPION)
    assert (tmp_path / "out" / "report.html").read_bytes() == first
    parse_page(CHAMPION, facts)


def test_samples_may_contain_what_other_readers_take_for_a_line_break(tmp_path: Path) -> None:
    finish_pipeline(tmp_path)
    samples = [{"text": "a\u2028b\x85c\x0bd"}, {"text": ""}]
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)  # as evaluate writes them
    (tmp_path / "data/evaluate/samples.jsonl").write_text(lines, encoding="utf-8")
    assert read_facts(tmp_path).samples == samples


def finish_pipeline(root: Path) -> None:
    """Write the files of a finished pipeline that the report needs."""
    for name in ("metrics", "sft", "evaluate"):
        (root / "data" / name).mkdir(parents=True)
    (root / "data/sft/config.json").write_text('{"n_layer": 2}')
    (root / "data/metrics/evaluate.json").write_text(json.dumps(EVALUATE))
    (root / "data/evaluate/figures.json").write_text(json.dumps(FACTS.figures))
    (root / "data/evaluate/composition.json").write_text(json.dumps(FACTS.composition))
    (root / "data/evaluate/samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in SAMPLES))


def test_the_command_writes_the_report_of_a_finished_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert "the pipeline has not been evaluated" in capsys.readouterr().err
    finish_pipeline(tmp_path)
    assert main([]) == 0
    assert (tmp_path / "var/report.html").read_text().startswith("<!doctype html>")
    assert "1.400" in (tmp_path / "var/report.md").read_text()


def test_clock_readings_are_shown_if_there_are_any() -> None:
    rows = dict(list_sizes(FACTS))
    assert rows["Generation speed, one answer at a time"] == "400 tokens/s"
    assert rows["Time to first token"] == "10 ms"
    assert rows["Time for pretraining"] == "250 s (16,000 tokens/s, MFU 43.0 %)"
    assert "400" in "".join(parse_page().text)
    elsewhere = FACTS._replace(timings={})
    assert not [name for name in dict(list_sizes(elsewhere)) if "time" in name.lower()]
    assert "tokens per second" not in render_html(elsewhere, PROVENANCE)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_cover_the_range_and_are_few(low: float, span: float, n: int) -> None:
    high = low + span
    found = list_ticks(low, high, n)
    assert 2 <= len(found) <= 2 * n + 3
    assert found[0] <= low + 1e-6 * span + abs(low) * 1e-9
    assert found[-1] >= high - 1e-6 * span - abs(high) * 1e-9 - 1e-9
    assert all(after > before for before, after in itertools.pairwise(found))


def test_curves_are_reduced_to_means_and_smoothed_from_the_first_value() -> None:
    points = [(float(n), 2.0) for n in range(10_000)]
    assert len(average_points(points)) <= 240
    assert all(y == 2.0 for _, y in average_points(points))
    assert smooth_points([(0.0, 3.0), (1.0, 3.0)])[0][1] == pytest.approx(3.0)
    assert draw_line_chart([Series("a", [(1.0, 1.0)], "raw")], x_label="x", y_label="y", description="d") == ""


def test_bars_stay_within_their_track() -> None:
    row = BarRow("<b>", 2.0, "x", "", -1.0, 3.0, 9.0)
    assert (row.fill, row.error, row.mark_left) == ("100.00%", ("0.00%", "100.00%"), "100.00%")
    page = render_html(FACTS, PROVENANCE, CHAMPION)
    positions = re.findall(r"(?:width|left):([\d.-]+)%", page)
    assert positions
    assert all(0 <= float(value) <= 100 for value in positions)


def test_an_axis_covers_smooth_curves_and_cuts_spikes_of_raw_ones() -> None:
    spike = [(1.0, 2.0), (2.0, 900.0), (3.0, 1.0)]
    series = [Series("loss", spike, "raw"), Series("average", [(1.0, 2.0), (3.0, 1.0)], "smooth")]
    chart = draw_line_chart(series, x_label="steps", y_label="nats", description="<d>")
    assert ">2<" in chart
    assert "900" not in chart
    assert "<d>" not in chart
    assert all(0 <= float(y) <= 250 for y in re.findall(r'y[12]?="([\d.-]+)"', chart))


def test_the_page_names_version_date_commit_and_params() -> None:
    text = "".join(parse_page().text)
    for expected in ("Version 7", "1 May 2026, 12:00 UTC", "c0ffee000000 with local changes", "ffffffffffff", "seed"):
        assert expected in text
    assert "not registered" not in text
    unregistered = render_html(FACTS, PROVENANCE._replace(version="", fingerprint="", commit="", params={}))
    assert "not registered" in unregistered
    assert "Commit" not in unregistered
    assert "Settings" not in unregistered
    markdown = render_markdown(FACTS, PROVENANCE)
    assert "Version 7, fingerprint ffffffffffff, commit c0ffee000000 with local changes" in markdown


def test_provenance_is_read_from_the_repository(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("sft: {seed: 3}\n")
    provenance = read_provenance(tmp_path, version="2")
    assert (provenance.version, provenance.commit, provenance.is_dirty) == ("2", "", False)
    assert provenance.params == {"sft.seed": "3"}


def test_every_task_of_the_evaluation_has_words() -> None:
    assert set(get_args(TaskName)) == set(TASKS)


def test_every_reason_for_dropping_a_document_has_words() -> None:
    sections = (GopherQuality, GopherRepetition, FineWeb)
    fields = [name for section in sections for name in section.model_fields if name.startswith(("min_", "max_"))]
    names = [name.replace("_ngram_", "_5gram_") for name in fields]
    for name in (*names, *DEDUPE_REASONS, *LICENSE_REASONS):
        words = describe_reason(name)
        assert name in REASONS or "5\u2011word" in words, name
        assert "_" not in words


@pytest.mark.parametrize(
    ("value", "text"), [(58410, "58,410"), (1.352, "1.35"), (2_400_000, "2.4 M"), (3.0, "3"), (0.00213, "0.00213")]
)
def test_numbers_are_formatted_for_readers(value: float, text: str) -> None:
    assert format_number(value) == text


def test_the_vocabulary_is_reported_if_it_was_measured() -> None:
    rows = dict(list_sizes(FACTS))
    assert rows["Bytes per token on held-out documents"] == "3.247"
    assert rows["Vocabulary entries unused on the tokenizer's own sample"] == "14"
    older = FACTS._replace(
        metrics={name: figures for name, figures in FACTS.metrics.items() if name != "train_tokenizer"}
    )
    assert len(list_sizes(older)) == len(rows) - 2
