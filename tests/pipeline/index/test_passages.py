"""Passages: short, titled, and starting with the sentence to quote verbatim."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.index.passages import Doc, cut_passages, join_fitting, quote_first, shorten


def doc(text: str, title: str = "a.b.norm", signature: str = "(x, ord=None)", source: str = "python_docs/a") -> Doc:
    return Doc("0" * 32, text, source, json.dumps({"signature": signature}), title, "MIT")


def test_a_symbol_gives_its_last_name_its_signature_and_the_first_paragraphs() -> None:
    text = "a.b.norm(x, ord=None)\n\nMatrix or vector norm.\n\nMore of it.\n\nParameters\n----------\nx : array"
    (passage,) = cut_passages([doc(text)], 200)
    assert passage.text == '"Matrix or vector norm." More of it. — norm(x, ord=None)'
    assert (passage.title, passage.sentence, passage.is_symbol) == ("a.b.norm", "Matrix or vector norm.", True)


def test_the_end_of_a_sentence_without_a_full_stop_is_visible() -> None:
    (passage,) = cut_passages([doc("a.b.norm\n\nMatrix norm\n\nMore of it.", signature="")], 200)
    assert passage.text == '"Matrix norm" — More of it. — norm'
    assert passage.sentence == "Matrix norm"
    (passage,) = cut_passages([doc("a.b.norm\n\nMatrix norm", signature="-> int")], 200)
    assert passage.text == '"Matrix norm" — norm -> int'


def test_a_docstring_without_prose_becomes_a_passage() -> None:
    (passage,) = cut_passages([doc("a.b.norm\n\nReturns:\n    The default.")], 200)
    assert passage.text == '"Returns: The default." — norm(x, ord=None)'


def test_a_title_gives_one_passage() -> None:
    passages = list(cut_passages([doc("a.b.norm\n\nOne."), doc("a.b.norm\n\nTwo."), doc("x", title="")], 200))
    assert [passage.sentence for passage in passages] == ["One."]


def test_prose_is_cut_into_numbered_passages_in_order() -> None:
    words = [f"Sentence number {n} stands here." for n in range(40)]
    passages = list(cut_passages([doc(" ".join(words), title="A Book", source="text/b")], 200))
    assert [passage.title for passage in passages] == [f"A Book §{n}" for n in range(1, len(passages) + 1)]
    assert " ".join(passage.text.replace('"', "") for passage in passages) == " ".join(words)
    assert all(len(passage.text) <= 200 and passage.text.startswith(f'"{passage.sentence}"') for passage in passages)
    (short,) = cut_passages([doc("Just a line without much", title="", source="text/b")], 200)
    assert (short.title, short.text) == ("Just a line without much", '"Just a line without much"')


def test_a_shortened_sentence_gets_no_quotation_marks() -> None:
    assert quote_first(["One two three four five six seven."], 20) == "One two three…"
    assert quote_first(["One.", "Two."], 20) == '"One." Two.'


@given(st.text(min_size=1, max_size=60), st.integers(1, 40))
def test_shortened_texts_are_at_most_as_long_as_allowed(text: str, n: int) -> None:
    cut = shorten(text, n)
    assert len(cut) <= n
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))


@given(st.lists(st.text(alphabet="ab ", min_size=1, max_size=20), min_size=1, max_size=6), st.integers(1, 60))
def test_joined_sentences_are_at_most_as_long_as_allowed(parts: list[str], n: int) -> None:
    assert len(join_fitting(parts, n)) <= n
