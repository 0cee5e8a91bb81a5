"""Languages that are not written with a text's letters are ruled out; foreign terms, names and accents rule nothing out."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.filter.classifiers.alphabets import collect_letters, make_alphabets, measure_fit

LINES = [
    ("en", "the quick brown fox jumps over the lazy dog"),
    ("de", "größe äußere müssen höher daß ähnlich über öl"),
    ("ru", "съешь же ещё этих мягких французских булок да выпей чаю объект фигура цена"),
    ("sr", "ђак љут њива ћуп џеп жаба шума чаша фабрика хлеб цена кућа село поље град зуб"),
    ("fa", "کتاب یک گربه ژاله چرا پدر شب طلا ظرف عدد غذا صبر ضرر ثروت حال خانه ذرت قلم فردا هوا مادر نان وقت لب"),
    ("ja", "日本語の文です カタカナ"),
    ("ko", "한국어 문장"),
]
LETTERS = collect_letters(LINES)
LABELS = sorted(LETTERS)
ALPHABETS = make_alphabets(LETTERS, LABELS)


def list_possible(line: str) -> list[str]:
    possible = measure_fit(pa.array([line]), ALPHABETS).is_possible[0]
    return [label for label, is_possible in zip(LABELS, possible.tolist(), strict=True) if is_possible]


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ("a plain english line", ["de", "en"]),
        ("größe", ["de"]),
        ("a naïve approach", ["de", "en"]),  # one foreign letter
        ("cher élève où ça très déjà êtes là", []),
        ("я объясняю код на python и c", ["ru"]),
        ("қўл ҳақида ғоя бўлган қадр", []),  # Uzbek in Cyrillic
        ("ქართული ენა", []),
        ("كتاب يكتب", ["fa"]),  # Arabic yeh and kaf for Persian ones
        ("کِتابِ یک", ["fa"]),  # vowel points
        ("漢字", ["ja"]),
        ("뛰어쓰기", ["ko"]),
        ("python 3 の code", ["de", "en"]),  # less than a quarter of the letters is Japanese
        ("", ["de", "en", "fa", "ja", "ko", "ru", "sr"]),
    ],
)
def test_possible_languages(line: str, labels: list[str]) -> None:
    assert list_possible(line) == labels


def test_letters_are_those_of_the_training_lines() -> None:
    assert LETTERS["en"] == "a"
    assert LETTERS["de"] == "aßäöü"
    assert "a" not in LETTERS["ru"]
    assert LETTERS["ko"] == "국문어장한"


def test_words_are_counted_where_there_are_letters() -> None:
    lines = pa.array(["", "3 4", "one two three", "и я", "x"])
    assert measure_fit(lines, ALPHABETS).n_words.tolist() == [0, 0, 3, 2, 1]
    assert measure_fit(lines.slice(2), ALPHABETS).n_words.tolist() == [3, 2, 1]
