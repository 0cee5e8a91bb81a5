"""Items made from held-out documents: right by construction, one group per document, the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest

from model.tokenizer.tokenizer import Tokenizer, train_bpe
from pipeline.evaluate.made_items import PER_DOCUMENT, find_repeated_word, make_gaps, make_next_sentences
from pipeline.evaluate.measure import HeldoutDocuments

NOUNS = ["array", "matrix", "table", "column", "value", "vector", "window", "number"]


def write_document(rng: Random) -> str:
    sentences = [
        f"The {rng.choice(NOUNS)} has a {rng.choice(NOUNS)} that belongs to the {rng.choice(NOUNS)} number {rng.randint(1, 99)}."
        for _ in range(4)
    ]
    sentences.append(f"It is returned by the function as a new {rng.choice(NOUNS)}.")
    return " ".join(sentences)


TEXTS = [write_document(Random(seed)) for seed in range(30)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXTS, 400)


@pytest.fixture(scope="module")
def documents(tokenizer: Tokenizer) -> HeldoutDocuments:
    bos = tokenizer.get_special_id("bos")
    tokens = [[bos, *tokenizer.encode(text)] for text in TEXTS]
    sources = [f"s{number % 2}" for number in range(len(TEXTS))]
    return HeldoutDocuments([f"d{n}" for n in range(len(TEXTS))], sources, [len(t) for t in TEXTS], tokens)


def test_the_right_sentence_follows_its_context_and_the_others_are_of_other_documents(
    documents: HeldoutDocuments, tokenizer: Tokenizer
) -> None:
    items = make_next_sentences(documents, tokenizer, 20, 1)
    assert len(items) == 20
    assert {item.right for item in items} == {0, 1, 2, 3}
    by_id = dict(zip(documents.ids, TEXTS, strict=True))
    for item in items:
        text, right = by_id[item.group], item.choices[item.right]
        assert f"{item.context}{right}" in text
        wrong = [choice.strip() for choice in item.choices if choice != right]
        assert len(set(item.choices)) == 4
        assert all(any(each in other for id_, other in by_id.items() if id_ != item.group) for each in wrong)
    assert max(sum(item.group == id_ for item in items) for id_ in documents.ids) <= PER_DOCUMENT
    assert items == make_next_sentences(documents, tokenizer, 20, 1)
    assert items != make_next_sentences(documents, tokenizer, 20, 2)


def test_a_gap_is_a_last_word_that_the_text_before_it_has(documents: HeldoutDocuments, tokenizer: Tokenizer) -> None:
    items = make_gaps(documents, tokenizer, 10, 1)
    assert items
    by_id = dict(zip(documents.ids, TEXTS, strict=True))
    for item in items:
        assert f"{item.context}{item.word}." in by_id[item.group]
        assert item.word.strip() in item.context
    assert items == make_gaps(documents, tokenizer, 10, 1)


def test_the_most_repeated_word_is_the_last_of_several() -> None:
    assert find_repeated_word("one array, two arrays, an array and a table") == "array"
    assert find_repeated_word("alpha beta beta alpha") == "alpha"
    assert find_repeated_word("a to be") == ""


def test_documents_without_prose_give_no_items(tokenizer: Tokenizer) -> None:
    bos = tokenizer.get_special_id("bos")
    none = HeldoutDocuments(["d"], ["s"], [4], [[bos, *tokenizer.encode("x = 1")]])
    assert make_next_sentences(none, tokenizer, 5, 1) == []
    assert make_gaps(none, tokenizer, 5, 1) == []
