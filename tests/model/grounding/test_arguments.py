"""Candidate arguments: the one that a question means is among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.grounding.answers import format_quote
from model.grounding.arguments import (
    MAX_ARGUMENTS,
    asks_for_source,
    extract_content_words,
    list_arguments,
)
from model.tokenizer.chat import Message, ToolCall


def ask(text: str) -> Message:
    return Message.of("user", text)


def search(argument: str, *titles: str) -> list[Message]:
    result = "\n".join(f'[{title}] "A sentence." — f()' for title in titles)
    answer = "\n".join(format_quote(argument, "A sentence.", title) for title in titles)
    call = Message.calling(ToolCall.of("search_docs", argument))
    return [ask("?"), call, Message.result(result), Message.of("assistant", answer)]


@pytest.mark.parametrize(
    ("question", "argument"),
    [
        ("What does numpy.sum do?", "numpy.sum"),
        ("json.dumps???", "json.dumps"),
        ("explain `read_csv()`", "read_csv"),
        ("and norm?", "norm"),
        ("what does the axis argument of numpy.sum do", "numpy.sum: axis"),
        ("What arguments does pandas.read_csv take?", "pandas.read_csv: parameters"),
        ("what does np.argmax return", "np.argmax: returns"),
        ("Welche Argumente hat numpy.sum?", "numpy.sum: parameters"),
        ("show an example of itertools.chain", "itertools.chain: examples"),
        ("difference between list.sort and sorted?", "list.sort; sorted"),
        ("append vs extend", "append; extend"),
        ("numpy sum", "numpy.sum"),
        (
            "Tell me about email.utils.make_msgid, then email.utils.encode_rfc2231.",
            "email.utils.make_msgid; email.utils.encode_rfc2231",
        ),
        ("how does xml differ from lzma", "xml; lzma"),
        ("meaning of create_using in networkx.bull_graph", "networkx.bull_graph: create_using"),
        ("Was bedeutet args in sympy.Add?", "sympy.Add: args"),
        ("numba.vectorizeとは何ですか", "numba.vectorize"),
        ("How do I sort a list by two keys?", "sort list two keys"),
        ("What does Sorting of the Techniques say?", "Sorting of the Techniques"),
    ],
)
def test_first_questions(question: str, argument: str) -> None:
    assert argument in list_arguments([ask(question)])


@pytest.mark.parametrize(
    ("question", "argument"),
    [
        ("and its arguments?", "numpy.linalg.inv: parameters"),
        ("what is the default of overwrite there", "numpy.linalg.inv: overwrite"),
        ("show an example", "numpy.linalg.inv: examples"),
        ("in scipy?", "scipy.inv"),
        ("and what about det?", "numpy.linalg.det"),
        ("how does it differ from pinv?", "numpy.linalg.inv; pinv"),
        ("what is math.sqrt", "math.sqrt"),
        ("What is check_finite for?", "numpy.linalg.inv: check_finite"),
        ("Should I rather use LinAlgError?", "numpy.linalg.inv; numpy.linalg.LinAlgError"),
    ],
)
def test_follow_ups(question: str, argument: str) -> None:
    assert argument in list_arguments([*search("np.linalg.inv", "numpy.linalg.inv"), ask(question)])


def test_the_second_one_is_the_second_half_or_the_second_title() -> None:
    assert "b.g" in list_arguments([*search("a.f; b.g", "a.f", "b.g"), ask("tell me more about the second one")])
    found = search("sort list", "list.sort", "sorted")
    assert "sorted" in list_arguments([*found, ask("the second one")])
    assert "sort list numpy" in list_arguments([*found, ask("and in numpy?")])


@given(st.lists(st.text(max_size=300), min_size=1, max_size=4))
def test_any_conversation_has_few_distinct_one_line_arguments(texts: list[str]) -> None:
    arguments = list_arguments([ask(text) for text in texts])
    assert len(arguments) <= MAX_ARGUMENTS
    assert len(set(arguments)) == len(arguments)
    assert not any("\n" in argument for argument in arguments)


def test_a_long_question_takes_no_time() -> None:
    assert list_arguments([ask("numpy.sum " + "a" * 1_000_000 + " pandas.read_csv")])[:2] == [
        "numpy.sum",
        "pandas.read_csv",
    ]


def test_content_words_keep_order_and_spelling() -> None:
    assert extract_content_words("Is there a function to invert a Matrix, quickly?") == "invert Matrix"
    assert extract_content_words("what is it") == "what is it"
    assert extract_content_words("Which function lets me read .csv files?") == "read csv files"


@pytest.mark.parametrize(
    "question", ["where is that from?", "What's your source?", "source?", "where did you get that"]
)
def test_questions_about_the_source(question: str) -> None:
    assert asks_for_source(question)


@pytest.mark.parametrize("question", ["where is numpy.sum defined?", "What is a source tree?", "and its arguments?"])
def test_other_questions(question: str) -> None:
    assert not asks_for_source(question)
