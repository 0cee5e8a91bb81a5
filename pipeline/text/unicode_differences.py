"""Find the characters that gigatoken and `tokenizers` classify differently, because their Unicode tables are of different versions.

Each has its own tables of letters, numbers and white space: gigatoken's of Unicode 17, those of `tokenizers` (Oniguruma's) of
Unicode 16. A character that only one of them knows as a letter is split from its neighbors differently, and the ids differ. All
other characters have the same class in both, and strings of equal classes are split equally (tests/pipeline/text/test_encode.py).

The ranges below were computed with the versions in `MEASURED_WITH`. With other versions they are computed once per process, from
the libraries themselves, which takes 25 processor seconds. To update the table, print `find_differences()` of encode.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

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
# A letter joins what is before it, a number what follows, white space not even the space before; some fold to contractions.
CONTEXTS = "a{0}1 {0}1'{0}a'l{0}"


def get_measured() -> Ranges | None:
    """Return the table, or None if other versions of the libraries are installed."""
    return MEASURED if all(version(name) == value for name, value in MEASURED_WITH.items()) else None


def join_ranges(points: Iterable[int]) -> Ranges:
    """Return ascending numbers as ranges of consecutive ones."""
    ranges: list[tuple[int, int]] = []
    for point in points:
        is_next = bool(ranges) and ranges[-1][1] == point - 1
        ranges[-1:] = [(ranges[-1][0], point)] if is_next else [*ranges[-1:], (point, point)]
    return tuple(ranges)
