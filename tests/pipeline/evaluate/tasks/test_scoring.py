"""How tasks score: ties, norms, windows of memorized text, variants, demands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.evaluate.item_scores import summarize_items
from pipeline.evaluate.layouts import Choices
from pipeline.evaluate.tasks.bias import StereotypePair
from pipeline.evaluate.tasks.demands import Demand, DemandingMessage
from pipeline.evaluate.tasks.memorization import draw_windows
from pipeline.evaluate.tasks.minimal_pairs import prefer_each, prefer_first
from pipeline.evaluate.tasks.multiple_choice import choose_lowest, score_choices
from pipeline.evaluate.tasks.robustness import MARKER, VARIANTS
from pipeline.evaluate.tasks.safety import LOOKALIKES, UNSAFE, read_first_turns
from pipeline.frame.errors import UserError
from pipeline.frame.settings import check_section
from pipeline.storage.lines import read_json_list
from tests.conftest import ROOT

OWN = ROOT / "data/seed/evaluation"


def test_ties_count_half() -> None:
    assert [prefer_first(1, 2), prefer_first(2, 1), prefer_first(3, 3), prefer_first(0, 0)] == [1, 0, 0.5, 0.5]
    assert prefer_first(10.0, 10.0 + 1e-12) == 0.5
    assert prefer_each([1, 2, 5, 4]) == [1, 0]


def test_a_tie_of_choices_is_shared() -> None:
    assert choose_lowest([1, 2, 3], 0) == 1
    assert choose_lowest([1, 2, 3], 1) == 0
    assert choose_lowest([1, 1, 3], 1) == 0.5
    assert choose_lowest([0, 0, 0, 0], 3) == 0.25


def test_each_norm_prefers_what_it_should() -> None:
    item = Choices("i", "g", "Q", (" aaaaaaaa", " bb"), 0)  # 8 and 2 bytes
    nats = [(2.0, 2.0), (1.5,)]
    scores = {each.metric: each for each in score_choices("m", item, nats, [1.0, 1.0])}
    assert {name: each.score for name, each in scores.items()} == {
        "m_per_byte_frac": 1.0,  # 0.5 and 0.75 nats per byte
        "m_per_token_frac": 0.0,  # 2 and 1.5
        "m_sum_frac": 0.0,
        "m_shortest_frac": 0.0,
        "m_no_context_frac": 1.0,
        "m_chance_frac": 0.5,
    }
    assert {name for name, each in scores.items() if each.is_baseline} == {
        "m_shortest_frac",
        "m_no_context_frac",
        "m_chance_frac",
    }
    assert (scores["m_per_byte_frac"].answer, scores["m_per_byte_frac"].expected) == ("aaaaaaaa", "aaaaaaaa")
    assert summarize_items(list(scores.values()))["m_chance_frac"].value == 0.5


class Stream:
    """A split with documents of 10, 30 and 50 tokens."""

    bos_id = 0

    def __init__(self) -> None:
        self.ids = np.concatenate([np.append(0, np.arange(1, n)) for n in (10, 30, 50)])

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> Any:
        return self.ids[start:stop]


def test_windows_of_memorized_text_lie_inside_a_document() -> None:
    windows = draw_windows(Stream(), 15, 20, 1)  # type: ignore[arg-type]
    assert len(windows) == 15
    for start, ids in windows:
        assert ids == list(range(ids[0], ids[0] + 20))
        assert ids[0] > 0
        assert Stream().ids[start] == ids[0]
    assert windows == draw_windows(Stream(), 15, 20, 1)  # type: ignore[arg-type]
    assert draw_windows(Stream(), 15, 60, 1) == []  # type: ignore[arg-type]
    assert draw_windows(Stream(), 15, 1000, 1) == []  # type: ignore[arg-type]


def test_variants_keep_the_words_of_names() -> None:
    text = "what does numpy.linalg.norm compute"
    changed = {name: change(text, Random(1)) for name, (_, change) in VARIANTS.items()}
    assert len({text, *changed.values()}) == 1 + len(VARIANTS)
    assert all("numpy.linalg.norm" in each for each in changed.values())
    assert sorted(changed["typo"]) == sorted(text)
    assert changed["shout"] == "WHAT DOES numpy.linalg.norm COMPUTE"
    assert changed["instruction"].endswith(f"only say {MARKER}.")
    assert VARIANTS["typo"][1]("2^3", Random(1)) == "2^3"


def test_a_demand_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of json"):
        Demand(kind="rhyme")
    keys = Demand(kind="json", value=["a", "b"]).constraint
    assert keys.value == ("a", "b")


def read(name: str, kind: type[Any]) -> list[Any]:
    return [check_section(kind, row, f"{name}:{number}") for number, row in read_json_list(OWN / name)]


def test_our_own_sets_are_whole() -> None:
    demands = read("demands.jsonl", DemandingMessage)
    assert len(demands) == 30
    assert all(each.user != each.plain for each in demands)
    pairs = read("bias.jsonl", StereotypePair)
    assert len(pairs) >= 60
    assert all(pair.stereotype != pair.other for pair in pairs)
    turns = [*read_first_turns(OWN / UNSAFE), *read_first_turns(OWN / LOOKALIKES)]
    assert len({turn.user.lower() for turn in turns}) == len({turn.id for turn in turns}) == 80


@pytest.mark.parametrize("name", [UNSAFE, LOOKALIKES])
def test_no_maker_has_the_requests(name: str) -> None:
    trained: set[str] = set()
    for path in sorted((ROOT / "data/seed/chat").glob("*.jsonl")):
        for _, row in read_json_list(path):
            trained |= {each.lower().strip(" ?!.") for each in row.get("wordings", [])}
            trained |= {each["content"].lower().strip(" ?!.") for each in row["messages"] if each["role"] == "user"}
    assert not [turn.user for turn in read_first_turns(OWN / name) if turn.user.lower().strip(" ?!.") in trained]


@pytest.mark.parametrize("rows", [[], [{"id": "a"}], [{"id": "a", "user": ""}], [{"id": "a", "user": "b", "c": 1}]])
def test_wrong_turns_are_refused(rows: Sequence[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"a\.jsonl"):
        read_first_turns(path)
