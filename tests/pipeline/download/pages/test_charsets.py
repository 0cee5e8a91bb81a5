"""Test decoding texts whose charset is declared, marked, recognizable, or none of these."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.charsets import decode, find_wide_encoding
from pipeline.download.pages.web_page import read_html

PAGE = "<!DOCTYPE html><html><head><title>%s</title></head><body><p>%s</p></body></html>"
TEXTS = [
    "The keeper climbed the steps.",
    "Смотритель зажигал лампу каждый вечер.",
    "灯台守が灯をともした。一つ一つ。",
    "كان الحارس يضيء المصباح",
]
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-le": codecs.BOM_UTF32_LE}


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", TEXTS)
def test_a_wide_page_is_decoded_if_it_is_declared_marked_or_neither(encoding: str, text: str) -> None:
    page = PAGE % ("x", text * 9)
    body = page.encode(encoding)
    for declared in ("", encoding, encoding.upper().replace("-LE", "LE"), "utf-16", "utf-8", "windows-1252", "unicode"):
        assert decode(body, declared) == page
        assert read_html(body, declared).text.strip() == (text * 9).strip()
    if encoding in MARKS:
        assert decode(MARKS[encoding] + body) == page


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_declared_wide_text_is_decoded_without_markup(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding), encoding) == text


def test_a_clipped_unit_is_dropped() -> None:
    assert decode("ab".encode("utf-16-le") + b"c", "utf-16le") == "ab"
    assert decode(codecs.BOM_UTF16_BE + "a😀".encode("utf-16-be")[:-1]) == "a"


@pytest.mark.parametrize("declared", ["utf-16", "utf-16le", "utf-16be", "utf-32", "unicode"])
def test_a_wrongly_declared_page_stays_what_it_is(declared: str) -> None:
    """Pages say `<meta charset=utf-16>` in ASCII, and servers follow them."""
    assert decode(b"<p>in ASCII", declared) == "<p>in ASCII"
    assert decode("<p>déjà vu".encode(), declared) == "<p>déjà vu"
    assert decode("<p>déjà vu".encode("latin-1"), declared).startswith("<p>d")


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_text_truncated_within_a_character_is_still_utf_8(cut: int) -> None:
    body = ("Каждый вечер смотритель зажигал лампу 😀" * 3).encode()
    assert decode(body[:-cut], "latin-1") == body.decode().removesuffix("😀")


def test_an_escape_character_does_not_make_utf_8_japanese() -> None:
    assert decode("\x1b[1mdéjà vu\x1b[0m".encode(), "latin-1") == "\x1b[1mdéjà vu\x1b[0m"
    assert decode("日本語".encode("iso-2022-jp"), "iso-2022-jp") == "日本語"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=200))
def test_text_without_null_characters_is_never_taken_for_a_wide_one(text: str) -> None:
    assert find_wide_encoding(text.encode()) == ""


@given(st.binary(max_size=200), st.sampled_from(["", "utf-16", "utf-16be", "utf-32le", "x"]))
def test_any_bytes_are_decoded(body: bytes, declared: str) -> None:
    decode(body, declared).encode()
