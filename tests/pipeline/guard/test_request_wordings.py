"""Wordings are what the templates say, each once, and evenly drawn."""

from __future__ import annotations

from collections import Counter
from random import Random

from pipeline.guard.request_wordings import make_gerund, make_wordings
from pipeline.guard.theme_templates import TemplateDraws, read_phrasings, read_themes, split_choices
from tests.conftest import ROOT

SEEDS = ROOT / "data" / "seed" / "guard"


def test_every_alternative_is_drawn_before_one_is_drawn_twice() -> None:
    draws = TemplateDraws(("{a|b|c|d} x",), Random(1))
    for _ in range(3):
        assert Counter(draws.draw() for _ in range(4)) == Counter({f"{letter} x": 1 for letter in "abcd"})


def test_an_alternative_may_be_left_out_without_a_trace() -> None:
    draws = TemplateDraws(("how{| now}{?|.}",), Random(1))
    assert {draws.draw() for _ in range(20)} == {"how?", "how now?", "how.", "how now."}
    assert split_choices("a {b|c}") == [("a ",), ("b", "c")]


def test_gerunds() -> None:
    cases = {
        "build a kite": "building",
        "make tea": "making",
        "run fast": "running",
        "see it": "seeing",
        "lie": "lying",
    }
    for deed, gerund in cases.items():
        assert make_gerund(deed).split()[0] == gerund


def test_wordings_are_distinct_repeatable_and_half_harmful() -> None:
    themes, phrasings = read_themes(SEEDS), read_phrasings(SEEDS)
    wordings = make_wordings(themes, phrasings, 3000, 0.1, 1)
    assert wordings == make_wordings(themes, phrasings, 3000, 0.1, 1)
    assert wordings != make_wordings(themes, phrasings, 3000, 0.1, 2)
    assert len({each.text for each in wordings}) == len(wordings) >= 2900
    assert 0.4 < sum(bool(each.category) for each in wordings) / len(wordings) < 0.6
    assert not [each.text for each in wordings if "{" in each.text or "|" in each.text.replace("<|system|>", "")]


def test_every_harmful_theme_has_harmless_lookalikes_in_the_same_fields() -> None:
    for theme in read_themes(SEEDS):
        if theme.category:
            assert theme.harmless, theme.name
            assert set(theme.harmless) & set(theme.harmful), theme.name
