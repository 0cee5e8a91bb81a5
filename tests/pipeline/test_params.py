"""Settings that have two forms, and settings that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.filter.params import PII_KINDS, Decontamination, Licenses, Pii
from pipeline.filter.pii.redact import KINDS


def test_a_list_of_licenses_is_what_may_stay() -> None:
    assert Licenses.model_validate(["MIT", "ISC"]) == Licenses(allow=["MIT", "ISC"])
    assert Licenses.model_validate(["MIT", "unknown"]) == Licenses(allow=["MIT", "unknown"], unknown="keep")


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"allow": ["MIT", "unknown"]},
        {"deny": ["unknown"]},
        {"allow": [3]},
        [3],
        {"allow": ["MIT"], "unknown": "yes"},
    ],
)
def test_a_policy_that_says_nothing_or_two_things_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        Licenses.model_validate(value)


def test_the_kinds_of_personal_data_are_those_that_are_looked_for() -> None:
    assert tuple(Pii().kinds) == PII_KINDS == KINDS
    with pytest.raises(ValidationError):
        Pii(kinds=["name"])  # pyright: ignore[reportArgumentType]


def test_evaluation_sets_have_names_of_their_own() -> None:
    one = {"name": "blimp", "path": "x.jsonl", "fields": ["sentence_good"]}
    assert Decontamination.model_validate({"sets": [one]}).ngram_words == 13
    for sets in ([], [one, one], [{**one, "name": "Two words"}]):
        with pytest.raises(ValidationError):
            Decontamination.model_validate({"sets": sets})
