"""Test extracting the main text of a page, its charset and its license; and pages built to stall the parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.web_page import PageError, decode, read_html, read_plain

PROSE = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 6
PAGE = f"""<!DOCTYPE html><html><head><title> A
 title </title><style>p {{ color: red }}</style><script>var text = "no"</script></head><body>
<nav class="navbar"><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<article><h1>The fox</h1><p>{PROSE}</p><h2>The dog</h2><p>{PROSE}</p>
<ul><li>The first</li>
<li>The <a href="/x">second</a> thing</li></ul></article>
<footer class="site-footer"><p>Copyright and cookies</p></footer></body></html>"""


def test_the_article_is_kept_and_its_surroundings_dropped() -> None:
    page = read_html(PAGE.encode())
    assert page.title == "A title"
    assert page.text.count(PROSE.strip()) == 2
    assert all(part in page.text for part in ("The fox", "The dog", "• The first", "• The second thing"))
    assert not any(part in page.text for part in ("Home", "About us", "cookies", "var text", "color"))
    assert page.license == "unknown"


@pytest.mark.parametrize(
    ("tag", "license"),
    [
        ('<link rel="license" href="https://creativecommons.org/licenses/by/4.0/">', "CC-BY-4.0"),
        ('<a class=x rel="nofollow license" href="//creativecommons.org/publicdomain/zero/1.0/">CC0</a>', "CC0-1.0"),
        ('<meta name="DC.rights" content="https://creativecommons.org/licenses/by-sa/3.0/">', "CC-BY-SA-3.0"),
        ('<a href="https://creativecommons.org/licenses/by/4.0/">a page about licenses</a>', "unknown"),
        ('<link rel="license" href="/terms">', "unknown"),
    ],
)
def test_the_declared_license_of_a_page_is_read(tag: str, license: str) -> None:
    assert read_html(PAGE.replace("<article>", f"<article>{tag}").encode()).license == license


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-16", "iso-8859-1", "windows-1251", "shift_jis", "gb2312", "iso-2022-jp"]
)
def test_a_declared_charset_is_used(charset: str) -> None:
    text = {"windows-1251": "Привет, мир", "shift_jis": "日本語", "gb2312": "中文", "iso-2022-jp": "日本語"}.get(
        charset, "déjà vu"
    )
    assert decode(text.encode(charset), charset) == text
    assert decode(f'<meta charset="{charset}">{text}'.encode(charset)).endswith(text) or charset == "iso-2022-jp"


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x1b\ufeff"), max_size=80),
    st.sampled_from(["", "latin-1", "x"]),
)
def test_valid_utf_8_is_decoded_whatever_charset_is_declared(text: str, charset: str) -> None:
    assert decode(text.encode(), charset) == text


@given(st.binary(max_size=200), st.sampled_from(["", "utf-8", "utf-16le", "nonsense", "gbk", "utf-7"]))
def test_any_bytes_are_decoded(body: bytes, charset: str) -> None:
    for page in (read_html(body, charset), read_plain(body, charset)):
        assert "\0" not in page.text + page.title
        page.text.encode()


def test_a_plain_text_has_unix_line_endings() -> None:
    assert read_plain(b"a\r\nb\rc\0").text == "a\nb\nc"


@pytest.mark.parametrize("page", [b"<div>" * 100_000, b"<ul><li>" * 100_000, b"<p " + b"a=1 " * 100_000 + b">"])
def test_a_page_built_to_stall_the_parser_is_refused(page: bytes) -> None:
    """Without the check each takes minutes."""
    with pytest.raises(PageError):
        read_html(page)


@pytest.mark.parametrize(
    "page",
    [
        b"<p>a\0b</p>" * 100_000,
        b'<p class="' + b"a " * 1_000_000 + b'">x',
        b"<!--" * 100_000,
        b"<" * 100_000,
        b"<table><tr><td>" * 900,
        b"<b><i><a><p>" * 100_000,
        b"<div>" * 999 + b"<p>x</p>" * 20_000,
        b"<svg><g>" * 400 + b"<select><option>" * 400,
        b"&#x41;&amp;&bogus;" * 100_000,
    ],
)
def test_hostile_pages_are_read_or_refused(page: bytes) -> None:
    """Run in seconds, without crashing the parser, which is written in C."""
    try:
        read_html(page).text.encode()
    except PageError:
        return
