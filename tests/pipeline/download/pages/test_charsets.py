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


@pytest.mark.parametrize("declared", ["", "utf-8", "windows-1251", "iso-8859-1", "utf-16"])
@pytest.mark.parametrize("text", TEXTS[1:])
def test_an_invalid_byte_costs_one_character(declared: str, text: str) -> None:
    """Not the whole page, which would become windows-1252."""
    page = (PAGE % ("x", text * 9)).encode()
    at = page.index(text.encode()) + len(text.encode())
    assert decode(page[:at] + b"\xff" + page[at:], declared) == page.decode()
    assert decode(page[:at] + b"\xe9 \xe8" + page[at:], declared) == page.decode().replace(
        text * 2, f"{text} {text}", 1
    )


@pytest.mark.parametrize(
    ("charset", "text", "invalid"),
    [
        ("windows-1251", "Смотритель зажигал лампу каждый вечер", b"\x98"),
        ("shift_jis", "灯台守が灯をともした", b"\x81 "),
        ("gbk", "守塔人每天傍晚点亮灯火", b"\xff"),
        ("euc-kr", "등대지기는 매일 저녁 등불을 켰다", b"\xff"),
        ("big5", "守塔人每天傍晚點亮燈火", b"\xff"),
        ("iso-8859-1", "Le phare fut construit à l'été", b"\x81"),
        ("windows-1256", "كان الحارس يضيء المصباح", b""),
        ("x-mac-cyrillic", "Смотритель зажигал лампу", b""),
    ],
)
def test_an_invalid_byte_in_a_legacy_charset_costs_one_character(charset: str, text: str, invalid: bytes) -> None:
    codec = {"x-mac-cyrillic": "mac-cyrillic"}.get(charset, charset)
    body = text.encode(codec) + invalid + text.encode(codec)
    assert decode(body, charset).replace(" ", "") == (text * 2).replace(" ", "")


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("windows-1251", "Смотритель зажигал лампу каждый вечер. "),
        ("koi8-r", "Смотритель зажигал лампу каждый вечер. "),
        ("windows-1252", "Le gardien écrivait à l'été. "),
        ("iso-8859-2", "Příliš žluťoučký kůň úpěl ďábelské ódy. "),
    ],
)
def test_a_text_that_is_not_utf_8_although_it_says_so_is_decoded(charset: str, text: str) -> None:
    body = b"<meta charset=utf-8><p>" + text.encode(charset) * 3
    assert decode(body, "utf-8").endswith(text * 3)
    assert decode(b"caf\xe9", "utf-8") == "café"


def test_the_additions_of_windows_are_decoded() -> None:
    assert decode("①髙﨑".encode("cp932"), "shift_jis") == "①髙﨑"
    assert decode("똠방각하".encode("cp949"), "euc-kr") == "똠방각하"
    assert decode("镕㐂".encode("gb18030"), "gb2312") == "镕㐂"
    assert decode(b"\x93quoted\x94", "iso-8859-1") == "“quoted”"


def test_an_escape_character_does_not_make_utf_8_japanese() -> None:
    assert decode("\x1b[1mdéjà vu\x1b[0m".encode(), "latin-1") == "\x1b[1mdéjà vu\x1b[0m"
    assert decode("日本語".encode("iso-2022-jp"), "iso-2022-jp") == "日本語"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=200))
def test_text_without_null_characters_is_never_taken_for_a_wide_one(text: str) -> None:
    assert find_wide_encoding(text.encode()) == ""


@given(st.binary(max_size=200), st.sampled_from(["", "utf-16", "utf-16be", "utf-32le", "x"]))
def test_any_bytes_are_decoded(body: bytes, declared: str) -> None:
    decode(body, declared).encode()
