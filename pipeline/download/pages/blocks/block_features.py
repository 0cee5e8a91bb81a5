"""Compute the features of each block of a page's text, from which a classifier tells main text from boilerplate.

In: elements and blocks. Out: one row of numbers per block: its own measures, those of its neighbors, of the elements around it, of
the part of the page in which most prose is, and of the whole page. Prose is a block of 50 characters with punctuation that isn't
mostly links. Time: O(n).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pipeline.download.pages.blocks.block_hints import GROUPS
from pipeline.download.pages.blocks.block_regions import (
    AROUND_TAGS,
    C_AROUND,
    C_BITS,
    C_BRANCH,
    C_BRANCH2,
    C_DEPTH,
    C_OUTER,
    C_SLOT,
    C_UP,
    C_UP2,
    F_ARTICLES,
    F_CANDIDATE,
    F_H1,
    F_LONGEST,
    F_MAIN,
    F_PARAGRAPHS,
    H1,
    H6,
    N_AROUND,
    N_CONTEXT,
    N_FACTS,
    NONE,
    S_LINK,
    S_PROSE,
    S_SIZE,
    TAG_KINDS,
    add_sizes,
    divide,
    find_branches,
    find_candidate,
    get_bits,
    get_kind,
    get_tag,
    is_prose,
    trace_elements,
)
from pipeline.download.pages.blocks.block_text import (
    B_BREAKS,
    B_COMMAS,
    B_COPYRIGHT,
    B_DIGITS,
    B_ELEMENT,
    B_FIELDS,
    B_HASH,
    B_IMAGES,
    B_IN_LINK,
    B_LAST,
    B_LINK,
    B_LINKS,
    B_SIGNS,
    B_SIZE,
    B_STOPS,
    B_STRONG,
    B_TIME,
    B_UPPER,
    B_WIDE,
    B_WORDS,
)
from pipeline.download.pages.blocks.page_blocks import E_FIRST, E_LAST, E_PARENT, Blocks
from pipeline.text.compiled import leaf

# Groups of hints: at the block and its element, at any element around it, at the branch of the page that it is in.
_NEAR = (
    *("navigation", "footer", "comments", "byline", "tags", "account", "hidden", "content", "body", "media", "forum"),
    *("product", "form"),
)
_ANY = (
    *(
        "navigation",
        "header",
        "footer",
        "sidebar",
        "comments",
        "share",
        "related",
        "consent",
        "byline",
        "tags",
        "account",
    ),
    *(
        "hidden",
        "content",
        "post",
        "body",
        "forum",
        "product",
        "list",
        "form",
        "code",
        "main_body",
        "notes",
        "invisible",
    ),
)
_BRANCH = (
    *(
        "navigation",
        "header",
        "footer",
        "sidebar",
        "comments",
        "share",
        "related",
        "tags",
        "account",
        "hidden",
        "content",
    ),
    *("post", "body", "media", "product", "invisible"),
)
_OWN = (
    *("size", "words", "word_size", "link_density", "n_links", "commas", "stops", "stop_density", "digit_density"),
    *(
        "upper_density",
        "signs",
        "strong_density",
        "last",
        "images",
        "breaks",
        "times",
        "in_link",
        "copyright",
        "fields",
    ),
    *("wide", "kind", "level", "repeats", "repeats_before", "depth"),
)
_PLACE = (
    *("index", "place", "size_before", "prose_before", "prose_after", "to_prose_before", "to_prose_after"),
    *("prose_near_before", "prose_near_after", "in_main", "main_side", "in_candidate", "candidate_side"),
    *("candidate_share", "branch_kind", "heads_before", "since_head", "since_h1", "n_h1", "up_to_main"),
    *("up_to_candidate", "candidate_place"),
)
_PAGE = (
    *("n_blocks", "page_size", "page_prose", "page_link_density", "page_prose_share", "size_of_longest", "n_articles"),
    "n_paragraphs",
)
_SIDES = {"before2": -2, "before": -1, "after": 1, "after2": 2}
_LEVELS = ("parent", "grand", "great", "branch", "candidate_branch")
_REGION = ("size", "link_density", "prose_share", "n_blocks", "mean_size", "similar")
NAMES = (
    *_OWN,
    *(f"{side}_{name}" for side in _SIDES for name in ("size", "link_density", "kind")),
    *(f"{level}_{name}" for level in _LEVELS for name in _REGION),
    *("main_link_density", "main_share"),
    *_PLACE,
    *_PAGE,
    *(f"around_{name}" for name in AROUND_TAGS),
    *(f"near_{name}" for name in _NEAR),
    *(f"any_{name}" for name in _ANY),
    *(f"branch_{name}" for name in _BRANCH),
)
SIDES = np.array([*_SIDES.values()])
MAIN_AT = NAMES.index("main_link_density")
NEIGHBORS_AT, REGIONS_AT, PLACE_AT, PAGE_AT, AROUND_AT, NEAR_AT, ANY_AT, BRANCH_AT = (
    NAMES.index(name)
    for name in (
        *("before2_size", "parent_size", "index", "n_blocks", "around_nav", "near_navigation", "any_navigation"),
        "branch_navigation",
    )
)
_BITS = (*GROUPS, "invisible")
NEAR, ANY, BRANCH = (np.array([_BITS.index(name) for name in names]) for names in (_NEAR, _ANY, _BRANCH))


def compute_features(page: Blocks) -> np.ndarray:
    """Return the features, one row per block."""
    rows = np.zeros((len(page.blocks), len(NAMES)), np.float32)
    if len(page.blocks):
        _compute(page.elements, page.blocks, rows)
    return rows


@leaf
def _write_own(row: Any, elements: Any, out: Any) -> None:  # pragma: no cover (compiled)
    size, tag, last = row[B_SIZE], get_tag(elements, row[B_ELEMENT]), row[B_LAST]
    out[0], out[1], out[2] = size, row[B_WORDS], divide(size, row[B_WORDS])
    out[3], out[4], out[5], out[6] = row[B_LINK] / size, row[B_LINKS], row[B_COMMAS], row[B_STOPS]
    out[7], out[8], out[9], out[10] = row[B_STOPS] / size, row[B_DIGITS] / size, row[B_UPPER] / size, row[B_SIGNS]
    out[11] = row[B_STRONG] / size
    out[12] = 3 if last in (46, 33, 63) else 2 if last in (58, 44, 59) else 1 if last >= 97 else 0  # .!? :,; letters
    out[13], out[14], out[15], out[16] = row[B_IMAGES], row[B_BREAKS], row[B_TIME], row[B_IN_LINK]
    out[17], out[18], out[19], out[20] = row[B_COPYRIGHT], row[B_FIELDS], row[B_WIDE] / size, TAG_KINDS[tag]
    out[21] = tag - H1 + 1 if H1 <= tag <= H6 else 0


@leaf
def _write_neighbors(elements: Any, blocks: Any, b: int, out: Any) -> None:  # pragma: no cover (compiled)
    f = NEIGHBORS_AT
    for k in range(len(SIDES)):
        other = b + SIDES[k]
        out[f] = out[f + 1] = out[f + 2] = NONE
        if 0 <= other < len(blocks):
            near = blocks[other]
            out[f], out[f + 1] = near[B_SIZE], near[B_LINK] / near[B_SIZE]
            out[f + 2] = get_kind(elements, near[B_ELEMENT])
        f += 3


@leaf
def _write_region(
    elements: Any, sums: Any, context: Any, similar: Any, region: int, out: Any, f: int
) -> None:  # pragma: no cover (compiled)
    if region < 0:
        return
    first, end = elements[region, E_FIRST], elements[region, E_LAST]
    size = sums[end, S_SIZE] - sums[first, S_SIZE]
    out[f], out[f + 1] = size, divide(sums[end, S_LINK] - sums[first, S_LINK], size)
    out[f + 2] = divide(sums[end, S_PROSE] - sums[first, S_PROSE], sums[len(sums) - 1, S_PROSE])
    out[f + 3], out[f + 4] = end - first, divide(size, end - first)
    out[f + 5] = similar[context[region, C_SLOT]]


@leaf
def _write_regions(
    elements: Any, sums: Any, context: Any, similar: Any, e: int, main: int, out: Any
) -> None:  # pragma: no cover (compiled)
    f, level = REGIONS_AT, e
    for _ in range(3):
        level = context[level, C_OUTER] if level >= 0 else NONE
        _write_region(elements, sums, context, similar, level, out, f)
        f += 6
    branch, candidate_branch = (context[e, C_BRANCH], context[e, C_BRANCH2]) if e >= 0 else (NONE, NONE)
    _write_region(elements, sums, context, similar, branch if branch >= 0 else e, out, f)
    _write_region(elements, sums, context, similar, candidate_branch if candidate_branch >= 0 else e, out, f + 6)
    if main >= 0:
        first, end = elements[main, E_FIRST], elements[main, E_LAST]
        size, f = sums[end, S_SIZE] - sums[first, S_SIZE], MAIN_AT
        out[f], out[f + 1] = (
            int(10 * divide(sums[end, S_LINK] - sums[first, S_LINK], size)),
            int(10 * size / sums[len(sums) - 1, S_SIZE]),
        )


@leaf
def _write_side(elements: Any, top: int, b: int, out: Any, f: int) -> None:  # pragma: no cover (compiled)
    """Set whether the block is in an element, and how many blocks before or after it."""
    if top >= 0:
        first, end = elements[top, E_FIRST], elements[top, E_LAST]
        out[f] = first <= b < end
        out[f + 1] = b - first if b < first else b - end + 1 if b >= end else 0


@leaf
def _write_place(
    elements: Any, sums: Any, context: Any, facts: Any, b: int, e: int, near_prose: Any, heads: Any, out: Any
) -> None:  # pragma: no cover (compiled)
    n, f = len(sums) - 1, PLACE_AT
    size, prose = sums[n, S_SIZE], sums[n, S_PROSE]
    out[f], out[f + 1], out[f + 2] = b, b / n, sums[b, S_SIZE] / size
    out[f + 3], out[f + 4] = divide(sums[b, S_PROSE], prose), divide(prose - sums[b + 1, S_PROSE], prose)
    out[f + 5], out[f + 6] = near_prose[0], near_prose[1]
    out[f + 7] = sums[b, S_PROSE] - sums[max(b - 4, 0), S_PROSE]
    out[f + 8] = sums[min(b + 5, n), S_PROSE] - sums[b + 1, S_PROSE]
    _write_side(elements, facts[F_MAIN], b, out, f + 9)
    candidate = facts[F_CANDIDATE]
    _write_side(elements, candidate, b, out, f + 11)
    if candidate >= 0:
        first, end = elements[candidate, E_FIRST], elements[candidate, E_LAST]
        out[f + 13] = int(10 * divide(sums[end, S_PROSE] - sums[first, S_PROSE], prose))
        out[f + 21] = divide(b - first, end - first)
    out[f + 14] = get_kind(elements, context[e, C_BRANCH]) if e >= 0 else NONE
    out[f + 15], out[f + 16], out[f + 17], out[f + 18] = heads[0], heads[1], heads[2], min(facts[F_H1], 3)
    if e >= 0:
        out[f + 19], out[f + 20] = context[e, C_UP], context[e, C_UP2]


@leaf
def _round_down(x: float) -> int:  # pragma: no cover (compiled)
    """Return the logarithm to base 2, rounded: a number that many pages share."""
    n, power = int(x), 0
    while n > 0:
        n, power = n >> 1, power + 1
    return power


@leaf
def _write_page(sums: Any, facts: Any, b: int, out: Any) -> None:  # pragma: no cover (compiled)
    """Set facts about the page, coarsely: trees would learn pages by heart from exact numbers."""
    n, f = len(sums) - 1, PAGE_AT
    size, prose = sums[n, S_SIZE], sums[n, S_PROSE]
    out[f], out[f + 1], out[f + 2] = _round_down(n), _round_down(size), _round_down(prose)
    out[f + 3], out[f + 4] = int(10 * sums[n, S_LINK] / size), int(10 * prose / size)
    out[f + 5] = divide(sums[b + 1, S_SIZE] - sums[b, S_SIZE], facts[F_LONGEST])
    out[f + 6], out[f + 7] = _round_down(facts[F_ARTICLES]), _round_down(facts[F_PARAGRAPHS])


@leaf
def _write_bits(elements: Any, context: Any, e: int, own_bits: int, out: Any) -> None:  # pragma: no cover (compiled)
    near = any_bits = own_bits
    branch = around = 0
    if e >= 0:
        near |= (
            get_bits(elements, e) | get_bits(elements, elements[e, E_PARENT]) | get_bits(elements, context[e, C_OUTER])
        )
        any_bits = near | context[e, C_BITS]
        branch, around = get_bits(elements, context[e, C_BRANCH]), context[e, C_AROUND]
    for k in range(N_AROUND):
        out[AROUND_AT + k] = around >> k & 1
    for k in range(len(NEAR)):
        out[NEAR_AT + k] = near >> NEAR[k] & 1
    for k in range(len(ANY)):
        out[ANY_AT + k] = any_bits >> ANY[k] & 1
    for k in range(len(BRANCH)):
        out[BRANCH_AT + k] = branch >> BRANCH[k] & 1


@leaf
def _find_slot(code: int, n_slots: int) -> int:  # pragma: no cover (compiled)
    return (code ^ (code >> 20)) & (n_slots - 1)


@leaf
def _round_up(n: int) -> int:  # pragma: no cover (compiled)
    """Return the next power of two."""
    size = 16
    while size < n:
        size *= 2
    return size


@numba.njit(cache=True, nogil=True)
def _compute(elements: Any, blocks: Any, rows: Any) -> None:  # pragma: no cover (compiled)
    n, m = len(blocks), len(elements)
    sums, facts = np.zeros((n + 1, 3), np.int64), np.zeros(N_FACTS, np.int64)
    facts[F_MAIN] = NONE
    add_sizes(blocks, sums, facts)
    context, own_bits = np.zeros((m + 1, N_CONTEXT), np.int64), np.zeros(n, np.int64)
    slot_keys, similar = np.zeros(_round_up(2 * m), np.int64), np.zeros(_round_up(2 * m), np.int64)
    trace_elements(elements, blocks, sums, context, own_bits, slot_keys, similar, facts)
    facts[F_CANDIDATE] = find_candidate(elements, blocks, sums, context, np.zeros(m + 1, np.float64))
    is_chain = np.zeros(m + 1, np.bool_)
    find_branches(elements, facts[F_MAIN], is_chain, context, C_BRANCH)
    find_branches(elements, facts[F_CANDIDATE], is_chain, context, C_BRANCH2)
    n_slots = _round_up(16 * n)
    repeats, repeats_before = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)
    next_prose = np.full(n + 1, n + 20, np.int64)
    for b in range(n - 1, -1, -1):
        repeats[_find_slot(blocks[b, B_HASH], n_slots)] += 1
        next_prose[b] = b if is_prose(blocks[b]) else next_prose[b + 1]
    last_prose = last_head = last_h1 = NONE
    heads, near_prose = np.zeros(3, np.int64), np.zeros(2, np.int64)
    for b in range(n):
        row, out, e = blocks[b], rows[b], blocks[b, B_ELEMENT]
        tag, slot = get_tag(elements, e), _find_slot(row[B_HASH], n_slots)
        _write_own(row, elements, out)
        out[22], out[23], out[24] = repeats[slot], repeats_before[slot], context[e, C_DEPTH] if e >= 0 else 0
        repeats_before[slot] += 1
        _write_neighbors(elements, blocks, b, out)
        _write_regions(elements, sums, context, similar, e, facts[F_MAIN], out)
        last_h1 = b if tag == H1 else last_h1
        near_prose[0], near_prose[1] = b - last_prose if last_prose >= 0 else 99, next_prose[b + 1] - b
        heads[1], heads[2] = b - last_head if last_head >= 0 else 99, b - last_h1 if last_h1 >= 0 else NONE
        _write_place(elements, sums, context, facts, b, e, near_prose, heads, out)
        if H1 <= tag <= H6:
            last_head, heads[0] = b, heads[0] + 1
        last_prose = b if is_prose(row) else last_prose
        _write_page(sums, facts, b, out)
        _write_bits(elements, context, e, own_bits[b], out)
