"""Other thresholds on stored scores decide as the filter itself would with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.filter.decisions import PASSES, find_first_broken
from pipeline.frame.errors import UserError
from pipeline.ledger.__main__ import main
from pipeline.ledger.replay import get_param_name, read_rules, replay_thresholds
from pipeline.params import load_params
from pipeline.storage.tables import read_table, write_table
from tests.conftest import ROOT, read_yaml
from tests.pipeline.ledger.made import an_id, doc, write_corpus

RULES = [
    {"reason": "language", "score": "language_score", "side": "min", "threshold": 0.65},
    {"reason": "min_words", "score": "words", "side": "min", "threshold": 4.0},
    {"reason": "max_words", "score": "words", "side": "max", "threshold": 90.0},
    {"reason": "max_top_2gram_char_frac", "score": "top_2gram_char_frac", "side": "max", "threshold": 0.3},
    {"reason": "license", "score": "license_allowed", "side": "min", "threshold": 1.0},
]
NAMES = [
    "filter.language.min_score",
    "filter.gopher_quality.min_words",
    "filter.gopher_quality.max_words",
    "filter.gopher_repetition.max_top_ngram_char_frac.2",
]


def write_scores(folder: Path, n: int = 500, rules: Sequence[Mapping[str, object]] = RULES) -> pa.Table:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(1))
    columns = {"id": sorted(an_id(number) for number in range(1, n + 1)), "language": ["en"] * n}
    columns |= {"language_score": rng.random(n), "words": rng.integers(0, 100, n).astype(float)}
    columns |= {"top_2gram_char_frac": rng.random(n), "license_allowed": (rng.random(n) > 0.1).astype(float)}
    table = pa.table(columns)
    write_table(folder / "scores.parquet", table)
    (folder / "rules.json").write_text(json.dumps(rules))
    return table


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.floats(0, 100, allow_nan=False), min_size=1))
def test_a_replay_is_the_filter_with_other_thresholds(
    tmp_path_factory: pytest.TempPathFactory, asked: dict[str, float]
) -> None:
    folder = tmp_path_factory.mktemp("filter")
    scores = write_scores(folder)
    result = replay_thresholds(folder, [f"{name}={value!r}" for name, value in asked.items()], n_listed=1_000)
    _, rules = read_rules(folder / "rules.json")
    others = [
        rule._replace(threshold=asked.get(name, rule.threshold)) for rule, name in zip(rules, [*NAMES, ""], strict=True)
    ]
    now, then = find_first_broken(scores, rules), find_first_broken(scores, others)
    for counts, broken in ((result.now, now), (result.then, then)):
        assert [counts[rule.reason] for rule in rules] == [int((broken == i).sum()) for i in range(len(rules))]
    ids = np.array(scores.column("id").to_pylist())
    gone, back = (now == PASSES) & (then != PASSES), (now != PASSES) & (then == PASSES)
    assert [doc_id for doc_id, _ in result.newly_dropped] == ids[gone].tolist()
    assert [doc_id for doc_id, _ in result.newly_kept] == ids[back].tolist()
    assert (result.n_newly_dropped, result.n_newly_kept, result.n_docs) == (gone.sum(), back.sum(), 500)


def test_every_threshold_has_its_name_in_the_params() -> None:
    """Derive it from score and side, as in files of earlier runs, or take it from `param`."""
    assert [get_param_name(rule) for rule in RULES] == [*NAMES, "filter.licenses"]
    assert get_param_name({"param": "gopher_quality.min_words"}) == get_param_name(
        {"param": "filter.gopher_quality.min_words"}
    )
    params = read_yaml(ROOT / "params.yaml")
    for name in NAMES:
        value = params
        for part in name.split("."):
            value = value[int(part) if part.isdigit() else part]
        assert isinstance(value, int | float)
    assert load_params(ROOT / "params.yaml").filter.language.min_score == params["filter"]["language"]["min_score"]


@pytest.mark.parametrize(
    "setting",
    [
        "filter.gopher_quality.min_letters=3",
        "min_words",
        "filter.licenses=1",
        "filter.gopher_quality.min_words=many",
        "=3",
    ],
)
def test_an_unknown_setting_names_the_known_ones(setting: str, tmp_path: Path) -> None:
    write_scores(tmp_path)
    with pytest.raises(UserError, match="replay: ") as caught:
        replay_thresholds(tmp_path, [setting])
    assert "filter.gopher_quality.min_words" in str(caught.value)


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path, [doc(number) for number in range(1, 501)])
    write_scores(tmp_path / "filter")
    asked = ["replay", "--data", str(tmp_path), "--set", "gopher_quality.min_words=50", "--list", "3"]
    assert main(asked) == 0
    output = capsys.readouterr().out
    assert "filter.gopher_quality.min_words 4 → 50" in output
    assert "Page " in output
    assert main([*asked, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["documents"] == 500
    assert values["changed"] == {"filter.gopher_quality.min_words": {"now": 4.0, "then": 50.0}}
    assert len(values["newly_dropped_examples"]) == 3
    assert values["newly_dropped_examples"][0]["title"].startswith("Page ")


def test_missing_scores_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path, [doc(1)])
    assert main(["replay", "--data", str(tmp_path), "--set", "filter.x=1"]) == 1
    assert "no stored scores" in capsys.readouterr().err


QUALITY = {"reason": "quality_classifier", "score": "quality_score", "side": "min"}


@pytest.mark.parametrize("given_as", ["keep_frac", "min_score"])
def test_a_fraction_is_replayed_as_a_fraction_and_a_score_as_a_score(
    given_as: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever of the two the params have: `keep_frac=0.5` keeps half; it is not a threshold of 0.5."""
    section = "filter.quality_classifier"
    write_corpus(tmp_path, [])
    rules = [*RULES, {**QUALITY, "threshold": 0.1, "param": f"{section}.{given_as}"}]
    table = write_scores(tmp_path / "filter", rules=rules)
    scores = np.linspace(0.0, 0.2, table.num_rows)
    write_table(tmp_path / "filter" / "scores.parquet", table.append_column("quality_score", pa.array(scores)))
    for setting, threshold in ((f"{section}.keep_frac=0.25", scores[375]), (f"{section}.min_score=0.15", 0.15)):
        result = replay_thresholds(tmp_path / "filter", [setting])
        assert result.changed == {f"{section}.min_score": (0.1, threshold)}
        by_hand = find_first_broken(
            read_table(tmp_path / "filter" / "scores.parquet"),
            [*result.rules[:-1], result.rules[-1]._replace(threshold=threshold)],
        )
        assert result.then["quality_classifier"] == (by_hand == len(rules) - 1).sum() > 0
    for wrong in ("0", "1.5"):
        assert main(["replay", "--data", str(tmp_path), "--set", f"{section}.keep_frac={wrong}"]) == 1
        assert "must be a fraction of all documents" in capsys.readouterr().err


def test_a_misspelled_setting_names_similar_ones(tmp_path: Path) -> None:
    write_scores(tmp_path)
    with pytest.raises(UserError) as caught:
        replay_thresholds(tmp_path, ["gopher_quality.min_wrds=3"])
    assert "filter.gopher_quality.min_words" in str(caught.value)
    assert "max_top_ngram" not in str(caught.value)
