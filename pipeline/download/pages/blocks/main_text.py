"""Reduce a page to its main text: drop navigation, related links, comments, notices and the like.

In: HTML in UTF-8. Out: HTML of the blocks that are main text, with the lists, tables and headings around them and without
anything else. A page in which little looks like main text is reduced to the text that it declares for search engines
(`articleBody`), or to its most probable blocks. Time: O(n).

Measured against trafilatura 2.3.1 on the halves of public collections to which nothing was fitted (benchmarks/pages/main_text.py):
F1 0.955 and 0.955 on scrapinghub's 181 articles, 0.948 and 0.935 on Mozilla's 130 pages, 0.926 and 0.926 on trafilatura's own 990,
at 13 times its speed; 0.890 and 0.863 on the 511 test pages of WCXB, with forums, shops and documentation.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from html import unescape

import numpy as np

from pipeline.download.pages.blocks.block_classifier import classify_blocks
from pipeline.download.pages.blocks.block_regions import MIN_PROSE
from pipeline.download.pages.blocks.block_text import B_COMMAS, B_ELEMENT, B_END, B_LINK, B_SIZE, B_START, B_STOPS
from pipeline.download.pages.blocks.html_tags import BLOCK_TAGS, IS_SKIPPED, KIND, TAG, mark_tags
from pipeline.download.pages.blocks.page_blocks import E_END, E_INNER, E_INNER_END, E_PARENT, E_START, E_TAG, Blocks

MIN_PROBABILITY = 0.52
MIN_SIZE = 200  # characters; a page with less above the threshold gets a lower one
ARTICLE_BODY = re.compile(rb'"articleBody"\s*:\s*("(?:[^"\\]|\\.)*")')  # of schema.org, in JSON
LAYOUT_TAGS = "ul ol li dl dt dd table thead tbody tr td th pre blockquote"  # repeated around their blocks
BOOK_SHARE, BOOK_PARAGRAPHS = 0.8, 40
MAX_LEVELS = 24  # deeper lists would be indented by more characters than they hold
IS_HEADING = mark_tags("h1 h2 h3 h4 h5 h6")
IS_LAYOUT = np.isin(np.arange(len(KIND)), [TAG[name] for name in LAYOUT_TAGS.split()])
IS_SHOWN = np.isin(np.arange(len(KIND)), [TAG[name] for name in BLOCK_TAGS if name not in ("html", "body")])


def find_main_text(page: bytes, blocks: Blocks) -> bytes:
    """Return the main text of a page as HTML."""
    is_main = choose_blocks(classify_blocks(blocks), blocks) if len(blocks.blocks) else np.zeros(0, np.bool_)
    size = int(blocks.blocks[is_main, B_SIZE].sum())
    body = find_article_body(page) if size < MIN_SIZE else b""
    return body if len(body) > 2 * size else cut_blocks(page, blocks, is_main)


def find_article_body(page: bytes) -> bytes:
    """Return the text that a page without visible text declares for search engines, as HTML."""
    for match in ARTICLE_BODY.finditer(page):
        try:
            text = str(json.loads(match[1]))
        except ValueError:
            continue
        return (text if "<" in text else "".join(f"<p>{line}</p>" for line in text.splitlines())).encode(
            "utf-8", "ignore"
        )
    return b""


def find_title(page: bytes, blocks: Blocks) -> str:
    """Return the contents of the page's first `<title>`."""
    for row in blocks.elements[blocks.elements[:, E_TAG] == TAG["title"]][:1]:
        return unescape(page[row[E_INNER] : row[E_INNER_END]].decode("utf-8", "ignore"))
    return ""


def choose_blocks(probabilities: np.ndarray, page: Blocks) -> np.ndarray:
    """Return which blocks are main text."""
    is_main = probabilities > MIN_PROBABILITY
    if page.blocks[is_main, B_SIZE].sum() < MIN_SIZE:
        is_main = probabilities > min(MIN_PROBABILITY, probabilities.max() / 2)
    return is_main | _find_siblings(is_main, page)


def _find_siblings(is_main: np.ndarray, page: Blocks) -> np.ndarray:
    """Return the prose and headings in containers of whose prose at least half is main text, or that hold nearly all prose of the
    page in many paragraphs, such as a book: no paragraph is lost amid its like."""
    blocks, elements = page.blocks, page.elements
    sizes, around = blocks[:, B_SIZE], blocks[:, B_ELEMENT]
    has_punctuation = blocks[:, B_STOPS] + blocks[:, B_COMMAS] > 0
    is_prose = (sizes >= MIN_PROSE) & has_punctuation & (2 * blocks[:, B_LINK] <= sizes) & (around >= 0)
    containers = np.where(around >= 0, elements[around, E_PARENT] + 1, 0) if len(elements) else around * 0
    prose = np.bincount(containers, sizes * is_prose)
    kept = np.bincount(containers, sizes * (is_prose & is_main))
    is_book = (prose > BOOK_SHARE * prose.sum()) & (np.bincount(containers, is_prose) >= BOOK_PARAGRAPHS)
    is_text = (prose > 0) & ((2 * kept >= prose) | is_book)
    is_heading = (around >= 0) & IS_HEADING[elements[around, E_TAG]] if len(elements) else is_prose
    return (is_prose & is_text[containers]) | (is_heading & is_book[containers])


def cut_blocks(html: bytes, page: Blocks, is_main: np.ndarray) -> bytes:
    """Return the HTML of these blocks and of the elements that lay them out."""
    elements, blocks = page.elements, page.blocks[is_main]
    is_skipped = (KIND[elements[:, E_TAG]] & IS_SKIPPED) > 0
    starts, ends = elements[is_skipped, E_START].tolist(), elements[is_skipped, E_END].tolist()
    ranges: list[tuple[int, int]] = []
    for start, end in zip(blocks[:, B_START].tolist(), blocks[:, B_END].tolist(), strict=True):
        at = start
        for number in range(bisect_left(starts, start), bisect_left(starts, end)):
            if starts[number] >= at:
                ranges.append((at, starts[number]))
                at = min(ends[number], end)
        ranges.append((at, end))
    for number in _find_layout(elements, blocks):
        _, _, start, inner, inner_end, end = elements[number, : E_END + 1].tolist()
        ranges.append((start, inner))
        if end > inner_end:
            ranges.append((inner_end, end))
    ranges.sort()
    return b"".join([html[start:end] for start, end in ranges])


def _find_layout(elements: np.ndarray, blocks: np.ndarray) -> list[int]:
    """Return the elements of the blocks, and the lists, tables and the like around them, up to `MAX_LEVELS`."""
    tags, parents = elements[:, E_TAG].tolist(), elements[:, E_PARENT].tolist()
    levels = {-1: 0}  # how many elements around and including each one lay out
    innermost = {*blocks[:, B_ELEMENT].tolist()} - {-1}
    for element in innermost:
        path: list[int] = []
        while element not in levels:
            path.append(element)
            element = parents[element]
        level = levels[element]
        for inner in reversed(path):
            level += bool(IS_LAYOUT[tags[inner]])
            levels[inner] = level
    return [
        element
        for element, level in levels.items()
        if element >= 0
        and level <= MAX_LEVELS
        and (IS_LAYOUT[tags[element]] or (element in innermost and IS_SHOWN[tags[element]]))
    ]
