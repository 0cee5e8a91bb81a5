"""Recognize web and email addresses in a run without white space. Compiled, for the tokenizer in pipeline/filter/words/words.py.

In: bytes i to j of a text. Out: whether they are an address. An address is, in this order: a scheme (`https://`), a user (`name@`),
a host with a lower-case domain or four numbers, a port, a path; all but the host are optional. Time: linear, once for each `@`.
"""

from __future__ import annotations

from pipeline.filter.words.char_flags import DIGIT, HOST, LETTER, LOWER, CharFlags
from pipeline.text.columns import Bytes
from pipeline.text.compiled import decode, leaf

MAX_LABEL = 64


@leaf
def is_address(data: Bytes, i: int, j: int, table: CharFlags) -> bool:  # pragma: no cover (compiled)
    """Return whether bytes i to j are an address."""
    if _is_host(data, i, j, table):
        return True
    is_scheme, k = True, i
    while k < j:
        if data[k] == 64 and k > i and _is_host(data, k + 1, j, table):
            return True
        is_end = data[k] == 58 and k + 2 < j and data[k + 1] == 47 and data[k + 2] == 47  # ://
        if is_scheme and is_end and k - i >= 2 and _is_host(data, k + 3, j, table):
            return True
        point, width = decode(data, k)
        is_scheme = is_scheme and (table[point] & (LETTER | DIGIT) != 0 or point in (43, 45, 46, 95))
        k += width
    return False


@leaf
def _is_host(data: Bytes, i: int, j: int, table: CharFlags) -> bool:  # pragma: no cover (compiled)
    """Return whether the bytes are a host with an optional port and path, and nothing else."""
    n_labels, n_numbers = 0, 0
    while True:
        start, n, n_lower, n_digits, edges = i, 0, 0, 0, 0
        last = 0
        while i < j:
            point, width = decode(data, i)
            if not table[point] & HOST:
                break
            is_inner = point == 45 or point == 95
            edges += is_inner and i == start
            n_lower += table[point] & LOWER != 0
            n_digits += table[point] & DIGIT != 0
            last, n = point, n + 1
            i += width
        if n == 0:
            return False
        if i < j and data[i] == 46:
            if edges or last == 45 or last == 95 or n > MAX_LABEL:
                return False
            n_labels, n_numbers = n_labels + 1, n_numbers + (n == n_digits and n <= 3)
            i += 1
            continue
        is_domain = n_labels > 0 and n == n_lower and 2 <= n <= 63
        is_numeric = n_labels == 3 and n_numbers == 3 and n == n_digits and n <= 3
        return (is_domain or is_numeric) and _is_rest(data, i, j)


@leaf
def _is_rest(data: Bytes, i: int, j: int) -> bool:  # pragma: no cover (compiled)
    """Return whether an optional port follows and then the end or a path."""
    if i < j and data[i] == 58:
        start = i + 1
        i += 1
        while i < j and 48 <= data[i] <= 57:
            i += 1
        if not 2 <= i - start <= 5:
            return False
    return i == j or data[i] in (47, 63, 35)
