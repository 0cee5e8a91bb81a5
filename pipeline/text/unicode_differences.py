"""Find the characters that gigatoken and `tokenizers` classify differently, because their Unicode tables are of different versions.

Each has its own tables of letters, numbers and white space: gigatoken's of Unicode 17, those of `tokenizers` (Oniguruma's) of
Unicode 16. A character that only one of them knows as a letter is split from its neighbors differently, and the ids differ. All
other characters have the same class in both, and strings of equal classes are split equally (tests/pipeline/text/test_encode.py).

The ranges below were computed with the versions in `MEASURED_WITH`. With other versions they are computed once per process, from
the libraries themselves, which takes 45 processor seconds. To update the table, print `find_differences()`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version

import gigatoken
import tokenizers
from tokenizers import models, pre_tokenizers

from model.tokenizer.tokenizer import make_splitter

Ranges = tuple[tuple[int, int], ...]  # of code points, first and last

MEASURED_WITH = {"tokenizers": "0.23.3", "gigatoken": "0.10.0"}
# fmt: off
MEASURED: Ranges = (  # 4,657 code points: all that Unicode 17 added as letters and numbers
    (0x88F, 0x88F), (0xC5C, 0xC5C), (0xCDC, 0xCDC), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2), (0xA7D4, 0xA7D4), (0xA7F1, 0xA7F1),
    (0x10940, 0x10959), (0x10EC5, 0x10EC7), (0x11DB0, 0x11DDB), (0x11DE0, 0x11DE9), (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3),
    (0x16FF2, 0x16FF6), (0x187F8, 0x187FF), (0x18D09, 0x18D1E), (0x18D80, 0x18DF2), (0x1E6C0, 0x1E6DE), (0x1E6E0, 0x1E6E2),
    (0x1E6E4, 0x1E6E5), (0x1E6E7, 0x1E6ED), (0x1E6F0, 0x1E6F4), (0x1E6FE, 0x1E6FF), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD),
    (0x323B0, 0x33479),
)
# fmt: on
# A character between letters, digits, spaces, line breaks, punctuation, inside contractions, and doubled.
CONTEXTS = "a{0}a1{0}1 {0}a {0}1!{0}! {0}!a{0}1 {0} \n{0}\n'{0}a'l{0} '{0}e{0}{0}x"
NEIGHBORS = "a1 !\n'"
BATCH = 1 << 15


def get_differences() -> Ranges:
    """Return the ranges of characters that the installed versions classify differently."""
    return MEASURED if all(version(name) == value for name, value in MEASURED_WITH.items()) else find_differences()


@lru_cache(maxsize=1)
def find_differences(pattern: str = "cl100k") -> Ranges:
    """Encode every character in each context with both libraries; return the ranges of those whose ids differ."""
    slow, fast = make_probes(pattern)
    different: list[int] = []
    for start in range(0, 0x110000, BATCH):
        points = [point for point in range(start, start + BATCH) if not 0xD800 <= point < 0xE000]
        texts = [CONTEXTS.format(chr(point)) for point in points]
        pairs = zip(slow.encode_batch_fast(texts), fast.encode_batch_list(texts), strict=True)
        different += [point for point, (mine, ids) in zip(points, pairs, strict=True) if mine.ids != ids]
    return join_ranges(different)


def make_probes(pattern: str) -> tuple[tokenizers.Tokenizer, gigatoken.Tokenizer]:
    """Return one tokenizer in both libraries, whose ids show every split: each byte merges with each neighbor in `NEIGHBORS`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    neighbors = [splitting[0][0] for splitting in map(pre_tokenizers.ByteLevel(False).pre_tokenize_str, NEIGHBORS)]
    merges = list(
        dict.fromkeys(pair for near in neighbors for each in letters for pair in ((near, each), (each, near)))
    )
    vocabulary = {token: index for index, token in enumerate([*letters, *map("".join, merges)])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = make_splitter(pattern)
    return tokenizer, gigatoken.Tokenizer.from_json(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))


def join_ranges(points: Iterable[int]) -> Ranges:
    """Return ascending numbers as ranges of consecutive ones."""
    ranges: list[tuple[int, int]] = []
    for point in points:
        is_next = bool(ranges) and ranges[-1][1] == point - 1
        ranges[-1:] = [(ranges[-1][0], point)] if is_next else [*ranges[-1:], (point, point)]
    return tuple(ranges)
