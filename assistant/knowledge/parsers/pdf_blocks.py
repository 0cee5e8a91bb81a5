"""Parse PDF with PDFium: paragraphs with their page, and headings recognized by their size.

In: the bytes of the file. Out: blocks in the order of the file's text. A line that is larger than the text is a heading, the
largest size its first level; a paragraph ends at a gap, at a heading, or at the end of a page. Pages without text are noted; a
file without any (a scan) is refused. Words that the end of a line divides are joined. Covers: files with a password, broken
files. Does not cover: the order of columns where the file itself has another, text in pictures. Time: about 5 ms a page.
"""

from __future__ import annotations

import ctypes
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pypdfium2
from pypdfium2 import raw

from assistant.knowledge.parsers.layout import Block, ParsedDocument, ParseError, make_document

HEADING_RATIO = 1.12  # of the most frequent size: 11-point headings above 10-point text have 1.1 … 1.2
MAX_HEADING_CHARS = 150
MAX_LEVELS = 6
GAP_RATIO = 1.45  # of the usual distance of two lines: a paragraph ends
DIVIDED = re.compile("[\ufffe\x02\xad]$")  # what PDFium returns for a hyphen at the end of a line


class PageLine(NamedTuple):
    """One line of a page: its text, its font size and its position from the bottom, both in points."""

    text: str
    size: float
    bottom: float
    page: int


def parse_pdf(data: bytes) -> ParsedDocument:
    """Return the blocks of a PDF. Raise `ParseError` if it can't be read or has no text."""
    try:
        pdf: Any = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ParseError("encrypted", "it has a password: save it without one") from error
        raise ParseError("unreadable", f"not a readable PDF: {error}") from error
    try:
        lines, empty = _read_pages(pdf)
        title = pdf.get_metadata_dict().get("Title", "")
    except pypdfium2.PdfiumError as error:
        raise ParseError("unreadable", f"a page can't be read: {error}") from error
    finally:
        pdf.close()
    if not lines:
        raise ParseError("no_text", f"{len(empty)} pages without text, probably a scan: recognize its text first (OCR)")
    notes = (("pages_without_text", f"{len(empty)} pages, the first is {empty[0]}"),) if empty else ()
    return make_document(title, join_lines(lines), notes)


def _read_pages(pdf: Any) -> tuple[list[PageLine], list[int]]:
    """Return the lines of all pages, and the numbers of the pages without text."""
    lines: list[PageLine] = []
    empty: list[int] = []
    for number in range(1, len(pdf) + 1):
        page = pdf[number - 1]
        text_page = page.get_textpage()
        found = list(_read_lines(text_page, number))
        lines += found
        if not found:
            empty.append(number)
        text_page.close()
        page.close()
    return lines, empty


def _read_lines(text_page: Any, number: int) -> Iterator[PageLine]:
    text: str = text_page.get_text_range()
    position = 0
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    for line in text.split("\r\n"):
        start = position + len(line) - len(line.lstrip())
        if line.strip():
            size = raw.FPDFText_GetFontSize(text_page.raw, start)
            raw.FPDFText_GetCharBox(text_page.raw, start, left, right, bottom, top)
            height = top.value - bottom.value
            yield PageLine(line.strip(), round(size if size > 1 else height, 1), bottom.value, number)
        position += len(line) + 2


def join_lines(lines: list[PageLine]) -> Iterator[Block]:
    """Yield headings and paragraphs."""
    sizes = Counter[float]()
    for line in lines:
        sizes[line.size] += len(line.text)
    usual = sizes.most_common(1)[0][0]
    larger = sorted((size for size in sizes if size >= usual * HEADING_RATIO), reverse=True)
    levels = {size: min(rank, MAX_LEVELS) for rank, size in enumerate(larger, 1)}
    distance = _find_distance(lines, usual)
    held: list[PageLine] = []
    for line in lines:
        if held and _ends_paragraph(held[-1], line, distance, levels):
            yield _make_block(held, levels)
            held = []
        held.append(line)
    yield _make_block(held, levels)


def _find_distance(lines: list[PageLine], usual: float) -> float:
    """Return the most frequent distance of two lines of the usual size."""
    distances = Counter(
        round(above.bottom - below.bottom)
        for above, below in itertools.pairwise(lines)
        if above.page == below.page and above.size == below.size == usual and above.bottom > below.bottom
    )
    return distances.most_common(1)[0][0] if distances else usual * 1.2


def _ends_paragraph(above: PageLine, below: PageLine, distance: float, levels: dict[float, int]) -> bool:
    if above.page != below.page or levels.get(above.size) != levels.get(below.size):
        return True
    gap = above.bottom - below.bottom
    return gap < -distance or gap > GAP_RATIO * max(distance, above.size * 1.2 if above.size in levels else 0)


def _make_block(lines: list[PageLine], levels: dict[float, int]) -> Block:
    text = ""
    for line in lines:
        text = DIVIDED.sub("", text) + line.text if DIVIDED.search(text) else f"{text} {line.text}"
    text = text.strip()
    level = levels.get(lines[0].size, 0)
    is_heading = bool(level) and len(text) <= MAX_HEADING_CHARS
    return Block("heading" if is_heading else "text", text, level if is_heading else 0, page=lines[0].page)
