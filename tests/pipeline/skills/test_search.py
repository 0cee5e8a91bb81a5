"""How-to questions: what fits is quoted, what is unclear is not trained, the argument is the question's content words."""

from __future__ import annotations

from random import Random

import pytest

from model.grounding.answers import NOTHING_FOUND, format_abstention, parse_quotes
from model.grounding.arguments import extract_content_words
from model.tokenizer.chat import Message
from pipeline.skills.neighbors import NameIndex, Subject
from pipeline.skills.search import WORDS_ANSWER, make_task_search, make_written_examples
from pipeline.skills.skill import Item, Material, WrittenQuestion

SORT = '[a.sort] "Sort rows by their keys." More. — sort(x)'
SAME = '[b.sort] "Sort rows by their keys." — sort(y)'
OTHER = '[a.plot] "Draw a line." — plot(x)'
NEAR = '[a.order] "Put rows in the order of keys, sorted." — order(x)'


def make_material(nothing: Material, *lines: str) -> Material:
    index = NameIndex([Subject("a.sort"), Subject("b.sort")])
    question = WrittenQuestion("how do I sort rows by keys", ("a.sort", "b.sort"))

    def search(argument: str, _question: str) -> str:
        return SORT if argument == "a.sort" else "\n".join(lines) or NOTHING_FOUND

    return nothing._replace(symbols=list(index.symbols.values()), questions=[question], search=search, known=index)


@pytest.mark.parametrize(
    ("lines", "titles"),
    [((OTHER, SORT), ["a.sort"]), ((SORT, OTHER, SAME), ["a.sort", "b.sort"]), ((OTHER,), []), ((), [])],
)
def test_each_passage_that_answers_is_quoted(nothing: Material, lines: tuple[str, ...], titles: list[str]) -> None:
    (example,) = make_written_examples(1, make_material(nothing, *lines), Random(1))
    question, call, _, answer = example.messages
    assert call.call is not None
    assert call.call.argument == extract_content_words(question.text) == "sort rows keys"
    assert [quote.title for quote in parse_quotes(answer.text)] == titles == example.expected["sources"]
    assert titles or answer.text == format_abstention("sort rows keys")


def test_a_passage_that_may_answer_as_well_is_neither_quoted_nor_abstained_from(nothing: Material) -> None:
    assert make_written_examples(1, make_material(nothing, NEAR), Random(1)) == []


def test_tasks_are_the_words_of_a_first_sentence(nothing: Material) -> None:
    made = [
        make_task_search(Subject("a.sort"), make_material(nothing, OTHER, SORT), Random(seed)) for seed in range(60)
    ]
    examples = [example for example in made if example is not None]
    assert {tuple(example.expected["sources"]) for example in examples} == {("a.sort",), ()}
    assert all("sort rows" in example.messages[0].text for example in examples)


def test_an_answer_is_right_if_all_that_it_quotes_fits(nothing: Material) -> None:
    (example,) = make_written_examples(1, make_material(nothing, SORT, SAME), Random(1))
    item = Item("1", example.kind, example.messages[:-1], example.expected)
    assert WORDS_ANSWER.applies(item)
    line = 'sort rows keys: "Sort rows by their keys." [a.sort]'
    for text, expected in (
        (example.messages[-1].text, True),
        (line, True),
        (line.replace("a.sort", "a.plot"), False),
        (format_abstention("sort rows keys"), False),
    ):
        assert WORDS_ANSWER.is_right(item, Message.of("assistant", text)) is expected
