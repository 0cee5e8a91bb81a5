"""Text is the same however it is cut into tokens: whole characters, and nothing from the first stop string on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.inference.text_assembler import TextAssembler

STOPS = st.lists(st.text("ab ", min_size=1, max_size=4) | st.sampled_from(["é😀", "\n\n", ""]), max_size=3)


@given(content=st.binary(max_size=60) | st.text("ab é😀\n", max_size=60).map(str.encode), cuts=st.data(), stops=STOPS)
def test_cuts_change_nothing(content: bytes, cuts: st.DataObject, stops: list[str]) -> None:
    assembler, pieces = TextAssembler(stops), list[str]()
    places = sorted(cuts.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    for start, end in zip([0, *places], [*places, len(content)], strict=True):
        pieces.append(assembler.feed(content[start:end]))
    pieces.append(assembler.finish())
    text = content.decode("utf-8", "replace")
    found = [text.find(stop) for stop in stops if stop and stop in text]
    assert "".join(pieces) == text[: min(found, default=len(text))]
    assert assembler.is_stopped == bool(found)
    assert assembler.n_released == len("".join(pieces))


def test_text_is_released_as_early_as_it_is_certain() -> None:
    assembler = TextAssembler(["abc"])
    assert [assembler.feed(token) for token in (b"xa", b"b", b"xab", b"c later", b"")] == ["x", "", "abx", "", ""]
    assembler = TextAssembler()
    emoji = "😀".encode()
    assert [assembler.feed(emoji[:2]), assembler.feed(emoji[2:] + b"!"), assembler.feed(emoji[:3])] == ["", "😀!", ""]
    assert assembler.finish() == "\ufffd"
