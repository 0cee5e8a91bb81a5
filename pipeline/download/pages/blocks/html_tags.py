"""Number the tags of HTML, with what the specification says about them: which are blocks, which hold no text, which close others.

In: nothing. Out: tables for a compiled scan, by tag number; 0 is any tag that isn't listed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.download.pages.html_shape import encode_name

IS_BLOCK, IS_SKIPPED, IS_VOID, IS_RAW = 1, 2, 4, 8
BLOCK_TAGS = (
    *(
        "html",
        "body",
        "div",
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "thead",
    ),
    *(
        "tbody",
        "tfoot",
        "tr",
        "td",
        "th",
        "caption",
        "article",
        "main",
        "section",
        "nav",
        "header",
        "footer",
        "aside",
        "form",
    ),
    *(
        "figure",
        "figcaption",
        "blockquote",
        "pre",
        "address",
        "fieldset",
        "legend",
        "details",
        "summary",
        "button",
        "center",
    ),
    *("dialog", "hgroup", "menu", "dir", "search", "hr", "frameset", "listing", "xmp"),
)
SKIPPED_TAGS = (
    *(
        "head",
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "iframe",
        "select",
        "textarea",
        "object",
        "canvas",
        "audio",
    ),
    *("video", "map", "noembed", "noframes", "datalist", "title"),
)
VOID_TAGS = (
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "param"),
)
RAW_TAGS = ("script", "style", "xmp", "iframe", "noembed", "noframes", "title", "textarea")  # hold text, no tags
INLINE_TAGS = ("a", "strong", "b", "time")
TAGS = tuple(dict.fromkeys((*BLOCK_TAGS, *SKIPPED_TAGS, *VOID_TAGS, *RAW_TAGS, *INLINE_TAGS)))
TAG = {name: number + 1 for number, name in enumerate(TAGS)}
N_TAGS = len(TAGS) + 1
# What an element's start closes, up to the innermost element that limits the search: tag, closed tags, limits.
IMPLIED_ENDS = {
    "li": ("li", "ul ol menu dir table"),
    "dt": ("dt dd", "dl table"),
    "dd": ("dt dd", "dl table"),
    "td": ("td th", "tr table"),
    "th": ("td th", "tr table"),
    "tr": ("tr", "table"),
    "tbody": ("tbody thead tfoot", "table"),
    "thead": ("tbody thead tfoot", "table"),
    "tfoot": ("tbody thead tfoot", "table"),
}
SCOPE_TAGS = "td th caption table html body"  # the end tag of another element inside of these closes nothing outside
OPEN_TAGS = "head svg select"  # an element of HTML inside of these ends them
CLOSES, LIMITS = 1, 2
N_SLOTS = 4_096


def mark_tags(names: str) -> np.ndarray:
    """Return by tag number whether it is one of these names."""
    return np.isin(np.arange(N_TAGS), [TAG[name] for name in names.split()])


def _make_kinds() -> np.ndarray:
    kinds = np.zeros(N_TAGS, np.uint8)
    for bit, names in ((1, BLOCK_TAGS), (2, SKIPPED_TAGS), (4, VOID_TAGS), (8, RAW_TAGS)):
        kinds[[TAG[name] for name in names]] |= bit
    return kinds


def _make_slots() -> np.ndarray:
    """Return (encoded name, number) by the name's slot; a test checks that no two names share one."""
    slots = np.zeros((N_SLOTS, 2), np.int64)
    for name, number in TAG.items():
        slots[encode_name(name) % N_SLOTS] = encode_name(name), number
    return slots


def _make_implied() -> np.ndarray:
    """Return what a start tag (row) does to an open element (column): `CLOSES` it, or `LIMITS` the search."""
    implied = np.zeros((N_TAGS, N_TAGS), np.uint8)
    for name, (closed, limits) in IMPLIED_ENDS.items():
        implied[TAG[name], mark_tags(closed)] = CLOSES
        implied[TAG[name], mark_tags(limits)] = LIMITS
    return implied


KIND, SLOTS, IMPLIED = _make_kinds(), _make_slots(), _make_implied()
HAS_IMPLIED: Any = IMPLIED.any(axis=1)
IS_SCOPE, IS_OPEN = mark_tags(SCOPE_TAGS), mark_tags(OPEN_TAGS)
