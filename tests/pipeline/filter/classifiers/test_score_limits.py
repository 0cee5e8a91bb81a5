"""Limits are quantiles of held-out foreign texts of each length; what no known language fits is unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.filter.classifiers import score_limits
from pipeline.filter.classifiers.language_training import judge_texts, load_calibrated, train_language
from pipeline.filter.classifiers.score_limits import (
    FALSE_PASSES,
    MIN_LIMIT,
    REFERENCE,
    CalibratedModel,
    compute_log_odds,
    cut_spans,
    fit_limits,
    predict_possible,
    shift,
)
from pipeline.filter.params import Language
from pipeline.params import load_params
from tests.conftest import ROOT

LANGUAGES = ROOT / "data" / "seed" / "languages"
UNKNOWN_TEXTS = {
    "Uzbek in Cyrillic": "Бу функция ҳар бир қаторни ўқийди ва йўқ қийматларни ўртача қиймат билан тўлдиради.",
    "Kazakh": "Бұл функция әрбір жолды оқып, жетіспейтін мәндерді орташа мәнмен толтырады.",
    "Georgian": "ეს ფუნქცია კითხულობს ყველა სტრიქონს და აბრუნებს ახალ მასივს.",
    "Armenian": "Այս ֆունկցիան կարդում է բոլոր տողերը և վերադարձնում նոր զանգված։",
    "Burmese": "ဤလုပ်ဆောင်ချက်သည် စာကြောင်းတိုင်းကို ဖတ်သည်။",
    "Khmer": "មុខងារនេះអានបន្ទាត់នីមួយៗ ហើយត្រឡប់អារេថ្មី។",
    "Urdu": "یہ فنکشن ہر سطر کو پڑھتا ہے اور گمشدہ قدروں کو اوسط سے بھرتا ہے۔",
}


@pytest.fixture(scope="module")
def params() -> Language:
    return load_params(ROOT / "params.yaml").filter.language


@pytest.fixture(scope="module")
def model(params: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    quick = params.model_copy(update={"n_epochs": 5, "n_spans": 2, "n_mixed": 1, "keep_weight": 2, "n_buckets": 20_000})
    path = tmp_path_factory.mktemp("calibrated") / "language.bin"
    train_language(quick, LANGUAGES, path.parent, path)
    return path


@pytest.mark.parametrize("name", UNKNOWN_TEXTS)
def test_a_language_that_was_never_seen_is_unknown(name: str, params: Language, model: Path) -> None:
    judgment = judge_texts(params, model, pa.array([UNKNOWN_TEXTS[name]]))
    assert judgment.language.to_pylist() == ["unknown"]
    assert judgment.score.tolist() == [0.0]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("这个函数读取2024年的每一行，并返回3个新数组。", "zh"),
        ("この関数は2024年の各行を読み、3つの配列を返します。", "ja"),
        ("Эта функция читает строки файла CSV и возвращает массив numpy.", "ru"),
        ("Renvoie le nombre d'éléments où la clé n'a pas été trouvée.", "fr"),
    ],
)
def test_known_languages_remain_known(text: str, language: str, params: Language, model: Path) -> None:
    assert judge_texts(params, model, pa.array([text])).language.to_pylist() == [language]


def test_the_limits_let_the_fraction_of_foreign_spans_pass(model: Path) -> None:
    calibrated = load_calibrated(model)
    assert isinstance(calibrated, CalibratedModel)
    lines = [("__label__de", "die größe der datei in bytes wird als zahl zurückgegeben"), ("__label__en", "the size")]
    limits = fit_limits(calibrated.classifier, calibrated.alphabets, lines * 3, ["__label__en"])
    assert len(limits) == len(FALSE_PASSES)
    assert list(limits) == sorted(limits, reverse=True)
    assert min(limits) >= MIN_LIMIT
    spans = pa.array([span for span in cut_spans(lines[0][1]) if span.count(" ") == 0])
    chances, n_words = predict_possible(calibrated.classifier, calibrated.alphabets, spans)
    scores = shift(chances[:, calibrated.classifier.labels.index("__label__en")], n_words, limits)
    assert np.max(scores) <= REFERENCE + 1e-6, "with few spans the limit is the largest of them"


def test_without_foreign_lines_the_score_is_the_probability(model: Path) -> None:
    calibrated = load_calibrated(model)
    assert isinstance(calibrated, CalibratedModel)
    assert fit_limits(calibrated.classifier, calibrated.alphabets, [("__label__en", "a line")], ["__label__en"]) == ()
    assert shift(np.array([0.2, 0.9]), np.array([1, 9]), ()).tolist() == [0.2, 0.9]


def test_shorter_texts_need_more_evidence() -> None:
    scores = shift(np.full(5, 0.9), np.array([1, 2, 3, 4, 500]), (6.0, 3.0, 1.0, -1.0))
    assert np.all(np.diff(scores)[:3] > 0)
    assert scores[3] == scores[4] > 0.9
    limit = 1 / (1 + np.exp(-3.0))
    assert shift(np.array([limit]), np.array([2]), (6.0, 3.0, 1.0, -1.0))[0] == pytest.approx(REFERENCE)
    assert np.isfinite(compute_log_odds(np.array([0.0, 1.0]))).all()


def test_spans_overlap() -> None:
    assert cut_spans("a b c") == ["a", "b", "c", "a b", "b c", "a b c"]
    assert cut_spans("") == []
    assert max(score_limits.SPAN_SIZES) >= len(FALSE_PASSES)
