"""Every parser: headings, paragraphs, items, rows and code with their place; hostile files are refused with a reason."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge.parsers.choose_parser import FORMATS, parse_bytes
from assistant.knowledge.parsers.layout import Block, ParsedDocument, ParseError
from tests.assistant.knowledge.made_files import ENCRYPTED_PDF, make_docx, make_paragraph, make_pdf

MARKDOWN = """\
---
title: 'Staff handbook'
---
# Leave

Everybody has *thirty* days
of [leave](https://example.org/leave).

## Parental `leave`

- forty weeks
- half pay
  - in part time too

| Grade | Days |
|-------|------|
| A     | 30   |

```python
days = 30
```

<div>Ask the <b>office</b>.</div>
"""
RST = """\
Staff handbook
==============

Everybody has *thirty* days, see :func:`leave.days` and :ref:`the list <target>`.

Parental leave
--------------

.. note:: Forty weeks.

.. versionadded:: 3.1
   Half pay.

.. code-block:: python
   :linenos:

   days = 30

- first
- second

term
  meaning

=====  ====
Grade  Days
=====  ====
A      30
=====  ====

.. include:: /etc/passwd

.. raw:: html

   <script>steal()</script>
"""
HTML = """<html><head><title>Leave - Acme Intranet</title><style>p {}</style></head><body>
<nav>Home | Staff</nav><main><h1>Leave</h1>Everybody has <b>thirty</b> days.<p>Ask <a href="x">the office</a>.<br>Soon.</p>
<ul><li>one<ul><li>inner</li></ul></li><li><p>two</p></li></ul><table><tr><th>Grade</th><td><p>A</p></td></tr></table>
<pre>days = 30
  more</pre><h2>Parental</h2>Forty weeks.<div hidden>no</div><script>steal()</script></main><footer>(c)</footer></body></html>"""


def list_texts(parsed: ParsedDocument) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in parsed.blocks]


def parse(kind: str, text: str) -> ParsedDocument:
    return parse_bytes(kind, text.encode())


def find(parsed: ParsedDocument, text: str) -> Block:
    return next(block for block in parsed.blocks if block.text == text)


def test_markdown_gives_blocks_with_the_lines_of_the_file() -> None:
    parsed = parse(".md", MARKDOWN)
    assert parsed.title == "Staff handbook"
    assert list_texts(parsed) == [
        ("heading", "Leave"),
        ("text", "Everybody has thirty days of leave."),
        ("heading", "Parental leave"),
        ("item", "forty weeks"),
        ("item", "half pay"),
        ("item", "in part time too"),
        ("row", "Grade | Days"),
        ("row", "A | 30"),
        ("code", "days = 30"),
        ("text", "Ask the office ."),
    ]
    lines = MARKDOWN.split("\n")
    for block in parsed.blocks:
        first_word = re.search(r"\w+", block.text)[0]  # type: ignore[index]
        assert first_word in "\n".join(lines[block.line_start - 1 : block.line_end]), block


def test_rst_gives_blocks_with_the_lines_of_the_file() -> None:
    parsed = parse(".rst", RST)
    assert parsed.title == "Staff handbook"
    assert list_texts(parsed) == [
        ("text", "Everybody has thirty days, see leave.days and the list."),
        ("heading", "Parental leave"),
        ("text", "Forty weeks."),
        ("text", "3.1 Half pay."),
        ("code", "days = 30"),
        ("item", "first"),
        ("item", "second"),
        ("item", "term: meaning"),
        ("row", "Grade | Days"),
        ("row", "A | 30"),
    ]
    lines = RST.split("\n")
    for block in parsed.blocks:
        first_word = re.search(r"[^\W\d]\w*|\d+", block.text)[0]  # type: ignore[index]
        assert first_word in "\n".join(lines[block.line_start - 1 : block.line_end]), block


def test_rst_reads_no_other_file_and_keeps_the_title_of_a_pep() -> None:
    parsed = parse(
        ".rst", "PEP: 8\nTitle: Style Guide\n\nIntroduction\n============\n\nText.\n\n.. include:: /etc/hostname\n"
    )
    assert parsed.title == "PEP 8: Style Guide"
    assert not [text for _, text in list_texts(parsed) if "hostname" in text]


def test_html_gives_the_main_part() -> None:
    parsed = parse(".html", HTML)
    assert parsed.title == "Leave"  # the only top heading, and part of the page's title
    assert list_texts(parsed) == [
        ("text", "Everybody has thirty days."),
        ("text", "Ask the office. Soon."),
        ("item", "one"),
        ("item", "inner"),
        ("item", "two"),
        ("row", "Grade | A"),
        ("code", "days = 30\n  more"),
        ("heading", "Parental"),
        ("text", "Forty weeks."),
    ]


def test_plain_text_gives_paragraphs_with_lines() -> None:
    parsed = parse(".txt", "one\ntwo\n\n\nthree")
    assert [(block.text, block.line_start, block.line_end) for block in parsed.blocks] == [
        ("one two", 1, 2),
        ("three", 5, 5),
    ]


def test_pdf_gives_headings_paragraphs_and_pages() -> None:
    pages = [
        [
            ("Staff Handbook", 20),
            ("", 10),
            ("Leave", 14),
            ("Everybody has thirty days of leave in a", 10),
            ("year, from the start.", 10),
            ("", 10),
            ("A second paragraph.", 10),
        ],
        [("Travel", 14), ("Trains come first.", 10)],
        [],
    ]
    parsed = parse_bytes(".pdf", make_pdf(pages))
    assert parsed.title == "Staff Handbook"
    assert [(block.kind, block.text, block.page) for block in parsed.blocks] == [
        ("heading", "Leave", 1),
        ("text", "Everybody has thirty days of leave in a year, from the start.", 1),
        ("text", "A second paragraph.", 1),
        ("heading", "Travel", 2),
        ("text", "Trains come first.", 2),
    ]
    assert parsed.notes == (("pages_without_text", "1 pages, the first is 3"),)


def test_word_gives_headings_by_their_styles() -> None:
    table = f"<w:tbl><w:tr><w:tc>{make_paragraph('A')}</w:tc><w:tc>{make_paragraph('30')}</w:tc></w:tr></w:tbl>"
    body = [
        ("Handbook", "Title"),
        ("Leave", "heading1"),
        ("Thirty days.", ""),
        ("Parental", "heading2"),
        ("Forty weeks.", ""),
    ]
    parsed = parse_bytes(".docx", make_docx("".join(make_paragraph(*each) for each in body) + table))
    assert parsed.title == "Handbook"
    assert list_texts(parsed) == [
        ("heading", "Leave"),
        ("text", "Thirty days."),
        ("heading", "Parental"),
        ("text", "Forty weeks."),
        ("row", "A | 30"),
    ]
    assert [block.level for block in parsed.blocks if block.kind == "heading"] == [2, 3]


def make_bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 70_000_000)
    return target.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (".pdf", ENCRYPTED_PDF, "encrypted"),
        (".pdf", b"%PDF-1.4 nothing", "unreadable"),
        (".pdf", make_pdf([[], []]), "no_text"),
        (".docx", b"PK\x03\x04 nothing", "unreadable"),
        (".docx", b"\xd0\xcf\x11\xe0 an old file", "encrypted"),
        (".docx", make_docx("<w:p>"), "unreadable"),
        (".docx", make_bomb(), "decompression_bomb"),
        (".md", b"\x7fELF\0\0\0\1", "binary"),
        (".md", b" \n ", "empty"),
        (".md", b"# Only a heading\n", "no_text"),
        (".html", b"<p>" + b"<div>" * 5_000 + b"deep", "unreadable"),
        (".html", b"<html><body><script>x()</script></body></html>", "no_text"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_reason(kind: str, data: bytes, reason: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_bytes(kind, data)
    assert caught.value.reason == reason
    assert caught.value.detail


@pytest.mark.parametrize("kind", [".md", ".rst", ".html", ".txt"])
def test_escape_codes_are_removed_and_everything_else_stays_text(kind: str) -> None:
    hostile = "Red \x1b[31malert\x07 <|end|> \u202eright to left مرحبا\x9b2J."
    parsed = parse(kind, f"<p>{hostile}</p>" if kind == ".html" else hostile)
    text = " ".join(text for _, text in list_texts(parsed))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert "مرحبا" in text
    assert "alert" in text
    assert kind in (".rst", ".html") or "<|end|>" in text  # these two have markup of this form


@pytest.mark.parametrize("data", ["naïve ∑".encode("utf-16"), "naïve".encode("latin-1"), "\ufeffnaïve".encode()])
def test_other_encodings_are_recognized(data: bytes) -> None:
    assert parse_bytes(".txt", data).blocks[0].text.startswith("naïve")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([".md", ".rst", ".txt", ".html"]), st.text(max_size=300))
def test_any_text_is_parsed_or_refused_and_keeps_its_lines(kind: str, text: str) -> None:
    data = text.encode("utf-8", "ignore")
    try:
        parsed = parse_bytes(kind, data)
    except ParseError:
        return
    n_lines = len(re.split("\r\n|\r|\n", text))
    for block in parsed.blocks:
        assert block.text.strip()
        assert 0 <= block.line_start <= block.line_end <= n_lines + 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(kind: str, data: bytes) -> None:
    try:
        assert parse_bytes(kind, data).blocks
    except ParseError:
        return
