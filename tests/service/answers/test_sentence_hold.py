"""Text is given out in whole sentences, and nothing of it is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.answers.sentence_hold import MAX_CHARS, SentenceHold


def cut(pieces: list[str]) -> list[str]:
    hold = SentenceHold()
    return [sentence for piece in pieces for sentence in hold.add(piece)] + hold.finish()


@given(st.lists(st.text(alphabet='ab. !?\n"', max_size=12), max_size=30))
def test_the_sentences_are_the_text(pieces: list[str]) -> None:
    assert "".join(cut(pieces)) == "".join(pieces)


@given(st.text(alphabet="ab. !?\n", max_size=80), st.integers(1, 9))
def test_sentences_do_not_depend_on_how_the_text_arrives_by_more_than_white_space(text: str, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert [s.strip() for s in cut(pieces) if s.strip()] == [s.strip() for s in cut([text]) if s.strip()]


def test_a_sentence_is_given_out_when_the_next_one_begins() -> None:
    hold = SentenceHold()
    assert hold.add("It is 3") == []
    assert hold.add(".5 m") == []
    assert hold.add(" long. ") == []
    assert hold.add("And") == ["It is 3.5 m long. "]
    assert hold.add(" wide\n") == ["And wide\n"]
    assert hold.finish() == []


@given(st.integers(0, MAX_CHARS + 50))
def test_a_word_is_never_in_two_parts(n_before: int) -> None:
    key = "mg-" + "x" * 43
    parts = cut(["a " * (n_before // 2) + "b" * (n_before % 2) + " " + key + " c" * MAX_CHARS])
    assert any(key in part for part in parts)
    assert max(map(len, parts)) <= MAX_CHARS


def test_a_text_without_an_end_is_bounded() -> None:
    hold = SentenceHold()
    assert hold.add("a" * (2 * MAX_CHARS + 1)) == ["a" * MAX_CHARS] * 2
    assert hold.finish() == ["a"]
