"""Find out about the elements of a page: what is around each, which one holds the main part, which branch of the page it is in.

In: elements and blocks. Out: columns of facts per element, sums over the blocks, facts about the page. The main part is the
innermost element with more than half of the prose; the candidate is the element whose paragraphs score highest. Prose is a block
of 50 characters with punctuation that isn't mostly links. Time: O(n).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.download.pages.blocks.block_text import (
    B_COMMAS,
    B_ELEMENT,
    B_END,
    B_LINK,
    B_SIZE,
    B_START,
    B_STOPS,
)
from pipeline.download.pages.blocks.html_tags import IS_BLOCK, KIND, N_TAGS, TAG, mark_tags
from pipeline.download.pages.blocks.page_blocks import E_BITS, E_CLASS, E_FIRST, E_LAST, E_PARENT, E_START, E_TAG
from pipeline.text.compiled import leaf

_KINDS = (
    "p",
    "h1 h2",
    "h3 h4 h5 h6",
    "pre blockquote",
    "div section article main body center hgroup",
    "li ul ol menu dir",
    "dl dt dd",
    "td th tr table tbody",
    "figcaption figure caption",
    "details summary",
    "header nav footer aside address",
    "form fieldset legend button dialog search",
)
AROUND_TAGS = (
    *("nav", "header", "footer", "aside", "article", "main", "form", "table", "li", "dl", "figure", "blockquote"),
    *("button", "section", "details", "pre", "dialog", "address", "tr"),
)
BODY, HTML, ARTICLE, P, H1, H6 = (TAG[name] for name in ("body", "html", "article", "p", "h1", "h6"))
CONTAINER = 4  # the kind of <div> and the like
MIN_PROSE, MIN_SCORED = 50, 25  # characters
NONE = -1
# Columns of the elements' context: the block-level element around, tags and hints around, depth, slot of similar elements, branches
# of the page beside the main part and beside the candidate, and levels up to these.
C_OUTER, C_AROUND, C_BITS, C_DEPTH, C_SLOT, C_BRANCH, C_UP, C_BRANCH2, C_UP2, N_CONTEXT = range(10)
# Columns of sums over the blocks before: characters, those in links, those of prose.
S_SIZE, S_LINK, S_PROSE = range(3)
# Facts about the page.
F_MAIN, F_CANDIDATE, F_LONGEST, F_ARTICLES, F_PARAGRAPHS, F_H1, N_FACTS = range(7)


def _number_kinds() -> np.ndarray:
    kinds = np.full(N_TAGS, len(_KINDS), np.int64)
    for number, names in enumerate(_KINDS):
        kinds[mark_tags(names)] = number
    return kinds


def _number_around() -> np.ndarray:
    around = np.zeros(N_TAGS, np.int64)
    for number, name in enumerate(AROUND_TAGS):
        around[mark_tags(name)] = 1 << number
    return around


TAG_KINDS: Any = _number_kinds()
AROUND, N_AROUND = _number_around(), len(AROUND_TAGS)


@leaf
def divide(a: float, b: float) -> float:  # pragma: no cover (compiled)
    return a / b if b else 0.0


@leaf
def is_prose(row: Any) -> bool:  # pragma: no cover (compiled)
    return row[B_SIZE] >= MIN_PROSE and row[B_STOPS] + row[B_COMMAS] >= 1 and 2 * row[B_LINK] <= row[B_SIZE]


@leaf
def get_kind(elements: Any, e: int) -> int:  # pragma: no cover (compiled)
    return TAG_KINDS[elements[e, E_TAG]] if e >= 0 else NONE


@leaf
def get_tag(elements: Any, e: int) -> int:  # pragma: no cover (compiled)
    return elements[e, E_TAG] if e >= 0 else 0


@leaf
def get_bits(elements: Any, e: int) -> int:  # pragma: no cover (compiled)
    """Return the hints of an element; those of the whole page tell nothing about a part of it."""
    if e < 0 or elements[e, E_TAG] == BODY or elements[e, E_TAG] == HTML:
        return 0
    return elements[e, E_BITS]


@leaf
def add_sizes(blocks: Any, sums: Any, facts: Any) -> None:  # pragma: no cover (compiled)
    for b in range(len(blocks)):
        row = blocks[b]
        prose = row[B_SIZE] if is_prose(row) else 0
        sums[b + 1, S_SIZE] = sums[b, S_SIZE] + row[B_SIZE]
        sums[b + 1, S_LINK] = sums[b, S_LINK] + row[B_LINK]
        sums[b + 1, S_PROSE] = sums[b, S_PROSE] + prose
        facts[F_LONGEST] = max(facts[F_LONGEST], prose)


@leaf
def _count_similar(key: int, slot_keys: Any, similar: Any) -> int:  # pragma: no cover (compiled)
    """Count an element in a hash table of elements with the same tag and class in the same place; return its slot."""
    last = len(similar) - 1
    slot = (key ^ (key >> 13) ^ (key >> 29)) & last
    while similar[slot] and slot_keys[slot] != key:
        slot = (slot + 1) & last
    slot_keys[slot] = key
    similar[slot] += 1
    return slot


@leaf
def trace_elements(
    elements: Any, blocks: Any, sums: Any, context: Any, own_bits: Any, slot_keys: Any, similar: Any, facts: Any
) -> None:  # pragma: no cover (compiled)
    """Set what each element inherits, the hints of inline elements in each block, and the innermost element with most prose."""
    n, all_prose = len(blocks), sums[len(blocks), S_PROSE]
    for e in range(len(elements)):
        tag, parent, first = elements[e, E_TAG], elements[e, E_PARENT], elements[e, E_FIRST]
        is_block, bits = KIND[tag] & IS_BLOCK != 0, get_bits(elements, e)
        if not is_block and first < n and blocks[first, B_START] <= elements[e, E_START] < blocks[first, B_END]:
            own_bits[first] |= bits
        row = context[e]
        row[C_OUTER] = NONE
        if parent >= 0:
            row[C_OUTER] = parent if KIND[elements[parent, E_TAG]] & IS_BLOCK else context[parent, C_OUTER]
            row[C_AROUND], row[C_BITS] = context[parent, C_AROUND], context[parent, C_BITS]
            row[C_DEPTH] = context[parent, C_DEPTH] + 1
        row[C_AROUND] |= AROUND[tag]
        row[C_BITS] |= bits
        facts[F_ARTICLES] += tag == ARTICLE
        facts[F_PARAGRAPHS] += tag == P
        facts[F_H1] += tag == H1
        key = (((row[C_OUTER] + 1) * 256 + tag) << 24) + elements[e, E_CLASS]
        row[C_SLOT] = _count_similar(key, slot_keys, similar)
        if is_block and 2 * (sums[elements[e, E_LAST], S_PROSE] - sums[first, S_PROSE]) > all_prose > 0:
            facts[F_MAIN] = e


@leaf
def find_candidate(elements: Any, blocks: Any, sums: Any, context: Any, scores: Any) -> int:  # pragma: no cover
    """Return the element whose paragraphs score highest, after the idea of Arc90's readability: long ones with commas count, for
    their element and by half for the one around it; links count against it."""
    for b in range(len(blocks)):
        row, e = blocks[b], blocks[b, B_ELEMENT]
        if row[B_SIZE] < MIN_SCORED or e < 0:
            continue
        score = (1 + row[B_COMMAS] + min(row[B_SIZE] / 100, 3.0)) * (1 - row[B_LINK] / row[B_SIZE])
        if TAG_KINDS[elements[e, E_TAG]] != CONTAINER:
            e = context[e, C_OUTER]
        if e >= 0:
            scores[e] += score
            if context[e, C_OUTER] >= 0:
                scores[context[e, C_OUTER]] += score / 2
    candidate, best = NONE, 0.0
    for e in range(len(elements)):
        first, end = elements[e, E_FIRST], elements[e, E_LAST]
        links = divide(sums[end, S_LINK] - sums[first, S_LINK], sums[end, S_SIZE] - sums[first, S_SIZE])
        if scores[e] * (1 - links) > best:
            candidate, best = e, scores[e] * (1 - links)
    return candidate


@leaf
def find_branches(elements: Any, top: int, is_chain: Any, context: Any, column: int) -> None:  # pragma: no cover
    """Set for each element outside of `top` the outermost element around it that doesn't contain `top`, and the levels up to it."""
    for e in range(len(elements)):
        is_chain[e] = False
    while top >= 0:
        is_chain[top] = True
        top = elements[top, E_PARENT]
    for e in range(len(elements)):
        parent = elements[e, E_PARENT]
        if is_chain[e]:
            context[e, column] = NONE
        else:
            context[e, column] = e if parent < 0 or is_chain[parent] else context[parent, column]
            context[e, column + 1] = context[parent, column + 1] + 1 if parent >= 0 else 1
