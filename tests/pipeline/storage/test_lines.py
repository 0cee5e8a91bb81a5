"""Test the reader of lines: marks, encodings, line breaks, limits, and errors that name their position."""

import codecs
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame.errors import UserError
from pipeline.storage import lines
from pipeline.storage.lines import (
    decode_text,
    number_lines,
    read_json_list,
    read_lines,
    read_list,
    split_lines,
)

MARK = codecs.BOM_UTF8
NO_BREAKS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def list_lines(data: bytes) -> list[tuple[int, str]]:
    return list(read_lines(io.BytesIO(data), "list.txt"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lines_of_any_encoding_and_line_break(newline: str, encoding: str) -> None:
    text = newline.join(["é", "", "  b c ", "𝄞", ""])
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    assert list_lines(mark + text.encode(encoding)) == [(1, "é"), (3, "b c"), (4, "𝄞")]


@pytest.mark.parametrize("character", NO_BREAKS)
def test_other_separators_are_characters_of_a_line(character: str) -> None:
    line = json.dumps({"text": f"a{character}b"}, ensure_ascii=False)
    assert list_lines(f"{line}\n{line}\n".encode()) == [(1, line), (2, line)]


def test_marks_of_joined_files_are_removed() -> None:
    assert list_lines(MARK + b"a\r\n" + MARK + b"b\n" + MARK + MARK + b"c\n" + MARK) == [(1, "a"), (2, "b"), (3, "c")]
    assert decode_text(MARK + b"a\r\n" + MARK + b"b\rc") == "a\nb\nc"
    assert list(number_lines("\ufeffa\r\n\ufeffb\r\r c")) == [(1, "a"), (2, "b"), (4, "c")]
    utf16 = "a\n".encode("utf-16")
    assert list_lines(utf16 + utf16) == [(1, "a"), (2, "a")]


def test_a_mark_inside_a_line_is_a_character() -> None:
    assert list_lines("a\ufeffb\n".encode()) == [(1, "a\ufeffb")]
    assert decode_text("a\ufeffb".encode()) == "a\ufeffb"


@given(
    st.text(st.sampled_from("ab\r\n é𝄞\ufeff\u2028")), st.integers(1, 9), st.sampled_from(["utf-8", "utf-16", "utf-32"])
)
def test_chunks_make_no_difference(text: str, size: int, encoding: str) -> None:
    data = text.encode(encoding)

    class Slow(io.BytesIO):
        def read1(self, n: int | None = -1, /) -> bytes:
            return self.read(size)

    assert list(read_lines(Slow(data), "")) == list(number_lines(text))
    assert list(split_lines(Slow(data))) == list(split_lines(io.BytesIO(data)))


@given(st.lists(st.text(st.sampled_from("abc"), max_size=12)), st.integers(1, 9), st.integers(1, 9))
def test_long_lines_are_skipped(texts: list[str], limit: int, size: int) -> None:
    class Slow(io.BytesIO):
        def read1(self, n: int | None = -1, /) -> bytes:
            return self.read(size)

    expected = [(at, None if len(text) > limit else text.encode()) for at, text in enumerate(texts, 1) if text]
    assert list(split_lines(Slow("\n".join(texts).encode()), limit)) == expected


def test_lines_before_a_break_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 8)

    class Broken(io.BytesIO):
        def read1(self, n: int | None = -1, /) -> bytes:
            if data := self.read(n):
                return data
            raise EOFError("clipped")

    rows = split_lines(Broken(b"one\ntwo\nthree\nfou"))
    assert [next(rows)[1] for _ in range(3)] == [b"one", b"two", b"three"]
    with pytest.raises(EOFError):
        next(rows)


def test_errors_name_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"good\n\nb\xe9d\n")
    with pytest.raises(UserError, match=r"list\.txt:3: not UTF-8"):
        read_list(path)
    path.write_bytes(b'{"a": 1}\n\n{"a": }\n')
    with pytest.raises(UserError, match=r"list\.txt:3: not JSON"):
        read_json_list(path)
    with pytest.raises(UserError, match=r"absent\.txt: can't be read"):
        read_list(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="can't be read"):
        read_list(tmp_path)


@pytest.mark.parametrize("text", ["one\ntwo\n", "а б\nв\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_refused_by_name(text: str, encoding: str) -> None:
    with pytest.raises(UserError, match="without a byte order mark"):
        list_lines(text.encode(encoding))


def test_a_text_with_zeros_is_no_utf16() -> None:
    assert list_lines(b'{"a": "b\0c"}\nsome more text\n')[1] == (2, "some more text")
    assert decode_text(b"one\0two words") == "one\0two words"


def test_half_a_character_of_utf16_is_invalid() -> None:
    with pytest.raises(UserError, match=r"list\.txt:2: not UTF-8"):
        list_lines("a\nbc".encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"list\.txt:1: not UTF-8"):
        list_lines(codecs.BOM_UTF16_LE + b"\x00\xd8a\x00")


def test_a_list_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt.gz"
    path.write_bytes(gzip.compress(MARK + b"a\r\nb\r\n"))
    assert read_list(path) == [(1, "a"), (2, "b")]
