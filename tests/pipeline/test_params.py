"""Test settings that have two forms, contradict each other, or have been renamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.masking.find_personal import KINDS
from pipeline.filter.params import PII_KINDS, Pii
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params, check_stage_params, load_params
from pipeline.screening.params import Decontamination, Licenses
from tests.conftest import ROOT, read_yaml


def test_a_list_of_licenses_is_an_allow_list() -> None:
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
def test_an_empty_or_contradictory_policy_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        Licenses.model_validate(value)


def test_the_kinds_of_personal_data_are_those_that_are_detected() -> None:
    assert tuple(Pii().kinds) == PII_KINDS == KINDS
    with pytest.raises(ValidationError):
        Pii(kinds=["name"])  # pyright: ignore[reportArgumentType]


def test_evaluation_sets_have_unique_names() -> None:
    one = {"name": "blimp", "path": "x.jsonl", "fields": ["sentence_good"]}
    assert Decontamination.model_validate({"sets": [one]}).ngram_words == 13
    for sets in ([], [one, one], [{**one, "name": "Two words"}]):
        with pytest.raises(ValidationError):
            Decontamination.model_validate({"sets": sets})


@pytest.mark.parametrize(
    ("section", "old", "new", "dotted"),
    [
        ("download", "licence", "license", "download.sources.0.text.licence"),
        ("filter", "licences", "filter.licenses", "filter.licences"),
    ],
)
def test_a_renamed_setting_is_refused_with_its_new_name(section: str, old: str, new: str, dotted: str) -> None:
    values = read_yaml(ROOT / "params.yaml")
    if section == "download":
        values["download"]["sources"][0] = {"kind": "text", "name": "books", "path": "data/raw", old: "MIT"}
    else:
        values["filter"][old] = values["filter"].pop("licenses")
    with pytest.raises(ParamError) as caught:
        check_params(values)
    assert dotted in caught.value.what
    assert f"{dotted}: renamed: use {new}" in caught.value.do.split("; ")


@pytest.mark.parametrize(
    ("dotted", "wrong", "right"),
    [
        ("dedupe", "dedup", "dedupe"),
        ("dedupe.ngram_words", "ngram_wrods", "ngram_words"),
        ("filter.language.min_score", "min_scor", "min_score"),
        ("filter.licenses", "lisences", "licenses"),
        ("filter.zebra", "zebra", None),
    ],
)
def test_a_misspelled_setting_is_refused_with_what_was_meant(dotted: str, wrong: str, right: str | None) -> None:
    values = read_yaml(ROOT / "params.yaml")
    *sections, name = dotted.split(".")
    here = values
    for section in sections:
        here = here[section]
    here[wrong] = here.pop(name, 1)
    with pytest.raises(ParamError) as caught:
        check_params(values)
    do = f"did you mean {right}?" if right else "remove it or correct its spelling"
    assert f"{'.'.join([*sections, wrong])}: unknown setting; {do}" in caught.value.do


def test_a_misspelled_setting_of_a_source_is_refused_with_what_was_meant() -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["download"]["sources"] = [{"kind": "text", "name": "books", "path": "data/raw", "licens": "MIT"}]
    with pytest.raises(
        ParamError, match=r"download\.sources\.0\.text\.licens: unknown setting; did you mean license\?"
    ):
        check_params(values)


@pytest.mark.parametrize(
    ("content", "found", "do"),
    [
        (b"", "None", "one NAME: VALUE per line"),
        (b"[1]", "[1]", "one NAME: VALUE per line"),
        (b"a: [1", "line 1", "fix the line that it names"),
        (b"a: 1\na: 2", 'duplicate key "a"', "fix the line that it names"),
        (b"a: \xff", "position 3", "save it as UTF-8"),
        (None, "directory", "give a YAML file"),
    ],
)
def test_a_file_without_settings_is_refused(tmp_path: Path, content: bytes | None, found: str, do: str) -> None:
    path = tmp_path / "params.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert str(path) in caught.value.what
    assert found in caught.value.found
    assert "suppress" not in caught.value.found
    assert do in caught.value.do


def test_a_stage_needs_its_own_section_and_accepts_a_subset_of_the_others() -> None:
    values = read_yaml(ROOT / "params.yaml")
    subset = {name: values[name] for name in ("shard", "sft")}
    assert check_stage_params(subset, "sft") == check_params(values).sft
    with pytest.raises(ParamError, match=r"mine\.yaml: filter\n"):
        check_stage_params(subset, "filter", "mine.yaml")
    with pytest.raises(ParamError, match="did you mean shard"):
        check_stage_params({**subset, "shad": {}}, "sft")
    with pytest.raises(ParamError, match=r"shard\.val_frac"):
        check_stage_params({**subset, "shard": {**values["shard"], "val_frac": 3}}, "sft")
    with pytest.raises(ParamError, match="domain"):
        check_stage_params({"domain": None}, "domain")
