"""Map the words in `class`, `id`, `role` and `itemprop` of HTML elements to hints about their contents.

In: lists of words. Out: tables for a compiled scan, which sets one bit per group of words. Words of five and more characters
match anywhere in an attribute (`relatedPosts`, `post-related`), shorter ones only between characters that aren't letters, or at a
change of case. The words are English because the names that programmers give to classes are; a classifier weighs them against
the structure of the page, which is the same in any language.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.text.compiled import CASE, leaf, load64

HINTS = {  # group: words; at most 32 groups
    "navigation": "nav menu menus navbar navigation breadcrumb crumb crumbs topbar toolbar sitemap toc tabs",
    "header": "header masthead banner head topnav",
    "footer": "footer foot colophon copyright legal contentinfo bottom disclaim",
    "sidebar": "sidebar aside rail widget secondary complementary",
    "comments": "comment comments disqus respond reply discussion livefyre",
    "share": "share social sharing facebook twitter addthis follow whatsapp pinterest linkedin",
    "related": "related recommend similar more also popular trending latest recent suggest outbrain taboola readnext upnext",
    "ads": "advert sponsor ads ad promo adsense affiliate adslot",
    "consent": "cookie consent gdpr privacy ccpa",
    "byline": "byline author date publish timestamp meta time posted dateline datetime",
    "tags": "tags tag category categories keyword label topics",
    "account": "login signin signup register subscri newslett account paywall donate donation",
    "hidden": "modal popup hidden dialog lightbox tooltip dropdown overlay screen sr visually offscreen noprint collapse alert",
    "article": "article story blogpost newsarticle",
    "content": "content main",
    "post": "entry post blog news",
    "body": "body text copy prose markdown paragraph richtext wysiwyg rte",
    "media": "caption credit figure image photo gallery video media slide carousel",
    "pages": "pagin pager next prev previous",
    "title": "title headline heading",
    "summary": "summary lead intro excerpt standfirst deck subtitle teaser abstract description",
    "forum": "forum thread message topic question answer",
    "product": "product price cart shop basket rating review stock",
    "list": "list item card grid tile feed results",
    "form": "search filter form input select button btn",
    "code": "code highlight docs documentation",
    "main_body": "articlebody articletext entrycontent postcontent contentbody articlecontent",
    "notes": "reference footnote citation bibliog",
}
GROUPS = tuple(HINTS)
N_SLOTS = 1 << 12
N_SHORT = 4  # words of up to so many characters match whole words only


def hash_start(key: int) -> int:
    """Return the slot of a word by its first four bytes."""
    return ((key & 0xFFFFFFFF) * 2654435761 >> 20) & (N_SLOTS - 1)


def make_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (first entry by slot, next entry with the same slot, up to eight bytes of the word, bits).

    Words of more than eight bytes are matched by the first eight."""
    bits: dict[bytes, int] = {}
    for number, words in enumerate(HINTS.values()):
        for word in words.split():
            bits[word[:8].encode()] = bits.get(word[:8].encode(), 0) | 1 << number
    keys = [int.from_bytes(word, "little") for word in sorted(bits)]
    first, after = np.full(N_SLOTS, -1, np.int16), np.full(len(keys), -1, np.int16)
    for number, key in enumerate(keys):
        after[number], first[hash_start(key)] = first[hash_start(key)], number
    return first, after, np.array(keys, np.uint64), np.array([bits[word] for word in sorted(bits)], np.uint32)


TABLES = make_tables()
LOW = np.uint64(0xFFFFFFFF)


@leaf
def find_hints(data: Any, at: int, end: int, tables: Any) -> int:  # pragma: no cover (compiled)
    """Return the bits of the groups whose words occur in a value; eight bytes behind its end must exist."""
    first, after, keys, bits = tables
    found = before = 0
    while at < end:
        byte = data[at]
        if not 97 <= (byte | 32) <= 122:
            before = 0
            at += 1
            continue
        word = load64(data, at) | CASE
        entry = first[_find_slot(word & LOW)]
        while entry >= 0:
            size = _count_bytes(keys[entry])
            if size > N_SHORT and at + size <= end and keys[entry] == _cut_word(word, size):
                found |= bits[entry]
            entry = after[entry]
        if before == 0 or (before >= 97 and byte < 97):  # the start of a word
            key = _cut_word(word, _count_letters(data, at, end))
            entry = first[_find_slot(key & LOW)]
            while entry >= 0:
                if keys[entry] == key and key <= LOW:
                    found |= bits[entry]
                entry = after[entry]
        before = byte
        at += 1
    return found


@leaf
def _find_slot(start: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return (start * np.uint64(2654435761) >> np.uint64(20)) & np.uint64(N_SLOTS - 1)


@leaf
def _cut_word(word: np.uint64, size: int) -> np.uint64:  # pragma: no cover (compiled)
    return word if size >= 8 else word & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))


@leaf
def _count_bytes(key: np.uint64) -> int:  # pragma: no cover (compiled)
    size = 1
    while size < 8 and key >> np.uint64(8 * size):
        size += 1
    return size


@leaf
def _count_letters(data: Any, at: int, end: int) -> int:  # pragma: no cover (compiled)
    """Return how many letters a word has, up to five: it ends before a capital after a small letter."""
    size = 1
    while size <= N_SHORT and at + size < end and 97 <= (data[at + size] | 32) <= 122:
        if data[at + size] < 97 <= data[at + size - 1]:
            break
        size += 1
    return size
