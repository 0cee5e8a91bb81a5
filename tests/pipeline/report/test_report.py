"""The report: well-formed, self-contained, nothing from outside gets through unescaped."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import STAGES
from pipeline.report import read_facts, render_markdown, write
from pipeline.report.__main__ import main
from pipeline.report.charts import BarRow, Series, bars, line_chart, number, smoothed, thinned, ticks
from pipeline.report.facts import Facts, calibration, funnel, headline, measured, sources
from pipeline.report.page import render_html

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
)
CHAMPION = {"bpb": 1.5, "quote_exact_frac": 0.9, "bpb_numpy": 1.45}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Every tag that is opened is closed, in order."""

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


def parsed(champion: dict[str, float] | None = None, facts: Facts = FACTS) -> Page:
    page = Page()
    page.feed(render_html(facts, champion))
    page.close()
    assert not page.open
    return page


@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_well_formed_and_self_contained(champion: dict[str, float] | None) -> None:
    page = parsed(champion)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", render_html(FACTS, champion), re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "http" not in style[1]


def test_hostile_text_is_shown_as_it_is() -> None:
    page = parsed()
    shown = "".join(page.text)
    assert shown.count(HOSTILE) >= 5
    assert HOSTILE not in render_html(FACTS)
    markdown = render_markdown(FACTS)
    assert "````text" in markdown  # a longer fence than the text has


def test_pictures_have_words() -> None:
    page = parsed()
    assert page.tags.count("svg") == 1  # the other phase has no history
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert any("loss goes from 8.00" in label for label in labels)
    assert ("role", "img") in page.attributes


def test_the_champion_stands_beside() -> None:
    alone, beside = "".join(parsed().text), "".join(parsed(CHAMPION).text)
    assert "Champion" not in alone
    assert "Champion" in beside
    assert "90.0 %" in beside
    assert "−10.0 %" in beside
    assert "| Champion |" in render_markdown(FACTS, CHAMPION)
    rows = {row.name: row for row in headline(FACTS, CHAMPION)}
    assert rows["Bits per byte"].is_better is True  # less is better
    assert rows["Quote and source"].is_better is False
    assert rows["Quote and source"].change == pytest.approx(-0.1)


def test_the_funnel_and_the_sources_in_order() -> None:
    assert [(loss.stage, loss.reasons) for loss in funnel(FACTS)] == [
        ("download", []),
        ("filter", [("min_words", 10), ("language", 2)]),
    ]
    assert [source.name for source in sources(FACTS, CHAMPION)] == ["numpy", "torch"]


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


def test_the_calibration_is_shown_where_there_is_a_classifier() -> None:
    assert calibration(FACTS) is None
    assert "quality score" not in render_html(FACTS) + render_markdown(FACTS)
    found = calibration(CLASSIFIED)
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
    markdown, text = render_markdown(CLASSIFIED), "".join(parsed(None, CLASSIFIED).text)
    assert "| 0.6 to 0.9 | 20 | 50.0 % | 72.5 % | 90.6 % |" in markdown
    for page in (markdown, text):
        assert "92.5 % of all pairs (AUC). Documents with 0.6 or more are kept." in page
    assert "0.6 to 0.92050.0 %72.5 %90.6 %" in text


def test_facts_are_read_back_and_what_is_missing_is_left_out(tmp_path: Path) -> None:
    finish_pipeline(tmp_path)
    facts = read_facts(tmp_path)
    assert facts.samples == SAMPLES
    assert not funnel(facts)
    assert facts.timings == {stage: {} for stage in STAGES}, "nothing has run here"
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", facts, CHAMPION)
    first = (tmp_path / "out" / "report.html").read_bytes()
    write(tmp_path / "out", facts, CHAMPION)
    assert (tmp_path / "out" / "report.html").read_bytes() == first
    parsed(CHAMPION, facts)


def finish_pipeline(root: Path) -> None:
    """The files of a finished pipeline that the report needs."""
    for name in ("metrics", "sft", "evaluate"):
        (root / "data" / name).mkdir(parents=True)
    (root / "data/sft/config.json").write_text('{"n_layer": 2}')
    (root / "data/metrics/evaluate.json").write_text(json.dumps(EVALUATE))
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


def test_clock_readings_are_shown_where_there_are_any() -> None:
    rows = dict(measured(FACTS))
    assert rows["Generation, one answer at a time"] == "400 tokens/s"
    assert rows["Time to first token"] == "10 ms"
    assert rows["Training time of pretrain"] == "250 s (16,000 tokens/s, MFU 43.0 %)"
    assert "400" in "".join(parsed().text)
    elsewhere = FACTS._replace(timings={})
    assert not [name for name in dict(measured(elsewhere)) if "time" in name.lower()]
    assert "tokens a second" not in render_html(elsewhere)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_cover_the_range_and_are_few(low: float, span: float, n: int) -> None:
    high = low + span
    found = ticks(low, high, n)
    assert 2 <= len(found) <= 2 * n + 3
    assert found[0] <= low + 1e-6 * span + abs(low) * 1e-9
    assert found[-1] >= high - 1e-6 * span - abs(high) * 1e-9 - 1e-9
    assert all(after > before for before, after in itertools.pairwise(found))


def test_curves_are_thinned_to_means_and_smoothed_from_the_first_value() -> None:
    points = [(float(n), 2.0) for n in range(10_000)]
    assert len(thinned(points)) <= 240
    assert all(y == 2.0 for _, y in thinned(points))
    assert smoothed([(0.0, 3.0), (1.0, 3.0)])[0][1] == pytest.approx(3.0)
    assert line_chart([Series("a", [(1.0, 1.0)], "raw")], x_label="x", y_label="y", description="d") == ""


def test_bars_keep_inside_their_track() -> None:
    markup = bars([BarRow("<b>", 2.0, "x", "", -1.0, 3.0, 9.0)], description='"d"')
    assert "<b>" not in markup
    assert all(0 <= float(value) <= 100 for value in re.findall(r"(?:width|left):([\d.]+)%", markup))


@pytest.mark.parametrize(
    ("value", "text"), [(58410, "58,410"), (1.352, "1.35"), (2_400_000, "2.4 M"), (3.0, "3"), (0.00213, "0.00213")]
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_the_vocabulary_is_measured_where_it_was() -> None:
    rows = dict(measured(FACTS))
    assert rows["Bytes a token, in documents the tokenizer has not seen"] == "3.247"
    assert rows["Learned tokens that its own sample never needs"] == "14"
    older = FACTS._replace(
        metrics={name: figures for name, figures in FACTS.metrics.items() if name != "train_tokenizer"}
    )
    assert len(measured(older)) == len(rows) - 2
