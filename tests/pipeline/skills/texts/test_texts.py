"""Examples about given texts: the answer is one of several candidates, held-out material never trains, tools are certain."""

from __future__ import annotations

from random import Random

import pytest

from model.grounding.counting import find_text_call
from model.grounding.text_tasks import list_text_answers, read_text_task
from model.tokenizer.chat import Message
from pipeline.skills.neighbors import NameIndex
from pipeline.skills.skill import Example, Item, Maker, Material
from pipeline.skills.texts.classification import CLASSIFICATION
from pipeline.skills.texts.extraction import EXTRACTION
from pipeline.skills.texts.given_text import CITIES, FIRST_NAMES, gives_answer
from pipeline.skills.texts.spelling import SPELLING
from pipeline.skills.texts.summaries import SUMMARY, make_summary

NOTHING = NameIndex([])
MAKERS: list[Maker] = [EXTRACTION.makers[0], CLASSIFICATION.makers[0], SUMMARY.makers[0]]


def make_material(*, is_heldout: bool) -> Material:
    return Material([], [], [], lambda _argument, _question: "", NOTHING, NOTHING, is_heldout=is_heldout)


def make(maker: Maker, n: int, *, is_heldout: bool = False) -> list[Example]:
    return maker.make_examples(n, make_material(is_heldout=is_heldout), Random(5))


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.name)
def test_the_answer_is_one_of_several_candidates(maker: Maker) -> None:
    for is_heldout in (False, True):
        examples = make(maker, 60, is_heldout=is_heldout)
        assert len(examples) == 60
        for example in examples:
            task = read_text_task(example.messages[0].text)
            assert task is not None
            answers = list_text_answers(task)
            assert example.messages[1].text in answers
            assert len(answers) > 1


@pytest.mark.parametrize("maker", [*MAKERS, SPELLING.makers[0]], ids=lambda maker: maker.name)
def test_examples_depend_on_the_seed_alone(maker: Maker) -> None:
    assert make(maker, 20) == make(maker, 20)
    assert make(maker, 20) != maker.make_examples(20, make_material(is_heldout=False), Random(6))


def test_held_out_names_never_train() -> None:
    texts = "\n".join(example.messages[0].text for maker in MAKERS for example in make(maker, 150))
    heldout = [*FIRST_NAMES[3::4], *CITIES[3::4]]
    assert [name for name in heldout if f"{name} " in texts] == []
    assert any(f"{name} " in texts for name in CITIES)


def test_the_central_sentence_is_first_in_about_half_of_the_texts() -> None:
    examples = [example for seed in range(200) if (example := make_summary(Random(seed), False))]
    first = [list_text_answers(task)[0] for each in examples if (task := read_text_task(each.messages[0].text))]
    share = sum(each.messages[1].text == sentence for each, sentence in zip(examples, first, strict=True)) / len(
        examples
    )
    assert 0.5 < share < 0.75  # a summary by position alone stays below


def test_an_answer_is_right_to_the_character_only() -> None:
    item = Item("1", "extraction", [Message.of("user", "x")], {"call": None, "answer": "Ada"})
    assert gives_answer(item, Message.of("assistant", "Ada"))
    assert not gives_answer(item, Message.of("assistant", "Ada."))


@pytest.mark.parametrize("is_heldout", [False, True])
def test_counting_and_spelling_are_what_the_message_certainly_asks_for(is_heldout: bool) -> None:
    for example in make(SPELLING.makers[0], 200, is_heldout=is_heldout):
        assert find_text_call(example.messages[0].text) == example.messages[1].call, example.messages[0].text
