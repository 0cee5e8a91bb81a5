"""Synonyms: the words themselves count fully, their synonyms less; groups are symmetric."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.retrieval.synonyms import GROUPS, WEIGHT, expand_words, parse_groups
from model.retrieval.word_stems import split_words


def test_a_word_also_counts_as_its_synonyms_at_a_lower_weight() -> None:
    expanded = expand_words(split_words("vacation"))
    assert expanded["vacat"] == 1.0
    assert expanded["leav"] == WEIGHT < 1


def test_a_word_of_the_query_is_no_synonym_of_another() -> None:
    assert set(expand_words(split_words("vacation leave")).values()) >= {1.0}
    assert expand_words(split_words("vacation leave"))["leav"] == 1.0


def test_function_words_count_only_if_there_is_nothing_else() -> None:
    assert "for" not in expand_words(["for", "vacat"])
    assert expand_words(["for"]) == {"for": 1.0}


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4), max_size=5))
def test_groups_are_symmetric(lines: list[list[str]]) -> None:
    groups = parse_groups([" ".join(line) for line in lines])
    for word, others in groups.items():
        assert word not in others
        assert all(word in groups[other] for other in others)


def test_every_line_of_the_file_is_a_group() -> None:
    for line in GROUPS.read_text(encoding="utf-8").split("\n"):
        if line and not line.startswith("#"):
            assert len(set(split_words(line))) > 1, line
