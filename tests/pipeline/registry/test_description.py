"""A version's description: a short model card and the gate's decision, never longer than MLflow takes."""

from __future__ import annotations

from pipeline.registry.description import GATE, MAX_CHARS, add_decision, describe_version
from pipeline.registry.lineage import Publication
from pipeline.report.decision import DecisionRow
from tests.pipeline.report.test_report import FACTS, HOSTILE

PAGE = "#/experiments/1/runs/abc"


def make_work(n_params: int = 3) -> Publication:
    params = {f"pretrain.model.p{i}": "x" * 50 for i in range(n_params)}
    tags = {"git_commit": "c0ffee", "git_is_dirty": "true"}
    return Publication("f" * 64, {"pretrain.n_params": 3e6}, params, [], {}, tags)


def make_row(verdict: str, n: int = 0) -> DecisionRow:
    return DecisionRow(f"skill_{n}_frac", f"Skill {n}", 0.5, 0.6, 0.1, 0.02, 0.18, verdict, "paired over 200 items")


def test_it_is_a_short_model_card_with_a_link_to_the_whole_one() -> None:
    text = describe_version(make_work(), FACTS, PAGE)
    assert f"[The whole model card]({PAGE}/artifacts/evaluate/report.html)" in text
    for part in ("with changes that were not committed", "| Bits per byte | 1.400 ± 0.010 (Kneser-Ney 5-gram 1.200) |"):
        assert part in text
    for part in ("Made for:", "| MIT | 3,000 tokens | 75.0 % |", "pretrain.model.p0", "make chat"):
        assert part in text
    assert HOSTILE not in text


def test_what_does_not_fit_is_left_out_from_the_end() -> None:
    text = describe_version(make_work(500), FACTS, PAGE)
    assert len(text) <= MAX_CHARS
    assert "pretrain.model.p0" not in text
    assert "make chat" in text


def test_the_decision_is_replaced_and_shows_what_is_not_equal() -> None:
    rows = [make_row("equal", 1), make_row("better", 2), make_row("worse", 3)]
    first = add_decision("card", rows, "worse: skill_3_frac", PAGE)
    second = add_decision(first, [make_row("better", 4)], "better: skill_4_frac", PAGE)
    assert first.startswith(f"card{GATE}")
    assert "| Skill 2 | 50.0 % | 60.0 % | +10.0 % | better |" in first
    assert "Skill 1" not in first
    assert "1 better, 1 equal, 1 worse" in first
    assert second.count(GATE) == 1
    assert "Skill 2" not in second
    many = [make_row("worse", index) for index in range(100)]
    assert len(add_decision("x" * 4000, many, "y" * 5000, PAGE)) <= MAX_CHARS
    assert "no champion yet" in add_decision("card", [], "no champion yet", PAGE)
