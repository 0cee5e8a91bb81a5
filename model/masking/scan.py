"""Find positions in a column of texts where personal data may begin: one compiled pass that rejects nearly all text.

In: UTF-8 bytes and offsets of the texts. Out: candidates (row, byte, kind) in text order for the exact checks called by
find_personal.py. It rejects nothing that an exact check would match, since it requires only what each form must have (an `@`
between a name and a dotted domain, four dotted numbers, a valid Luhn sum, a known prefix, …).

Time: linear for any text, since looking ahead and back is bounded (`MAX_GROUPS` groups of digits, `CUE_BYTES`). Memory: 17 bytes
per candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from model.masking.byte_forms import (
    Bytes,
    Offsets,
    Rows,
    is_digit,
    is_dotted_quad,
    is_gap,
    is_ipv6,
    is_letter,
    is_upper,
    passes_luhn,
)

AT, IPV4, IPV6, NUMBER, WORD, KEY = 1, 2, 3, 4, 5, 6
MAX_GROUPS = 12
CUE_BYTES = 40

# The first three letters of cue words before a number: telephone, fax, …; call, text, …; CPF, PESEL, …; card, Visa, …
CUES = (
    *(
        "tel",
        "pho",
        "mob",
        "fax",
        "cel",
        "cal",
        "wha",
        "sms",
        "hot",
        "han",
        "tlf",
        "tfn",
        "puh",
        "por",
        "ruf",
        "lan",
        "pag",
        "des",
    ),
    *("dia", "rin", "tex", "mes", "ans", "rea", "con", "reg", "off", "dir"),
    *("cpf", "pes", "bsn", "bur", "sof", "ste", "idn", "tin", "aad", "uid"),
    *("car", "vis", "ame", "mas", "deb", "cre"),
)
# … and of labels after a telephone number
LABELS = (
    "off",
    "fax",
    "mob",
    "cel",
    "hom",
    "wor",
    "des",
    "tel",
    "pho",
    "dir",
    "lan",
    "han",
    "ext",
    "dur",
    "pos",
    "ram",
    "toe",
)


class Candidates(NamedTuple):
    """Where personal data may begin, in text order; `what` is one of AT … KEY."""

    rows: Rows
    at: Rows
    what: npt.NDArray[np.int8]


def scan(data: Bytes, offsets: Offsets, prefixes: Sequence[bytes], *, only_public_ips: bool = False) -> Candidates:
    """Return the candidates. `prefixes` are those of keys, each at least three bytes; a key's candidate is its word's start."""
    tables = (_make_byte_kinds(), *_make_prefix_table(tuple(prefixes)), _make_cue_table())
    size = 1024 + len(data) // 256
    while True:  # again with larger arrays if these were too small: web text has 1 candidate in 2,000 bytes
        rows, at, what = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int8)
        n = int(_scan(data, offsets, *tables, only_public_ips, rows, at, what))
        if n <= size:
            return Candidates(rows[:n], at[:n], what[:n])
        size = n


_OTHER, _LETTER, _DIGIT, _IN_WORD, _AT, _COLON = 0, 1, 2, 3, 4, 8


@cache
def _make_byte_kinds() -> Bytes:
    """Return the kind of each byte value."""
    kinds = np.zeros(256, np.uint8)
    for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_":
        kinds[byte] = _LETTER
    kinds[ord("0") : ord("9") + 1] = _DIGIT
    kinds[ord("@")] = _AT
    kinds[ord(":")] = _COLON
    return kinds


@cache
def _make_prefix_table(prefixes: tuple[bytes, ...]) -> tuple[npt.NDArray[np.bool_], Bytes, Rows]:
    """Return (hashes of three bytes that begin a prefix, padded prefixes, their lengths)."""
    longest = max((len(prefix) for prefix in prefixes), default=3)
    begins = np.zeros(1 << 15, np.bool_)
    padded = np.zeros((len(prefixes), longest), np.uint8)
    for index, prefix in enumerate(prefixes):
        begins[(prefix[0] << 10 ^ prefix[1] << 5 ^ prefix[2]) & 0x7FFF] = True
        padded[index, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    return begins, padded, np.array([len(prefix) for prefix in prefixes], np.int64)


@cache
def _make_cue_table() -> Bytes:
    """Return for each 15-bit code of three letters whether they begin a cue word (bit 0) or a label (bit 1)."""
    table = np.zeros(1 << 15, np.uint8)
    for bit, words in ((1, CUES), (2, LABELS)):
        for first, second, third in (word.encode() for word in words):
            table[(first & 31) << 10 | (second & 31) << 5 | third & 31] |= bit
    return table


@numba.njit(cache=True, nogil=True)
def _scan(
    data: Bytes,
    offsets: Offsets,
    kinds: Bytes,
    begins: npt.NDArray[np.bool_],
    prefixes: Bytes,
    lengths: Rows,
    cues: Bytes,
    only_public_ips: bool,
    rows: Rows,
    at: Rows,
    what: npt.NDArray[np.int8],
) -> int:  # pragma: no cover (compiled)
    """Fill `rows`, `at` and `what` as far as they reach. Return the number of candidates."""
    n = 0
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        i = start
        while i < stop:
            kind = kinds[data[i]]
            if kind == _OTHER:
                i += 1
                continue
            found = 0
            j = i + 1
            if kind == _COLON:
                found = IPV6 if j < stop and data[j] == 58 and is_ipv6(data, start, stop, i) else 0
            elif kind == _AT:
                found = AT if _is_address(data, start, stop, i, kinds) else 0
            else:
                held = kind
                while j < stop and kinds[data[j]] & _IN_WORD:
                    held |= kinds[data[j]]
                    j += 1
                if (
                    begins[(np.int64(data[i]) << 10 ^ np.int64(data[i + 1]) << 5 ^ np.int64(data[i + 2])) & 0x7FFF]
                    if i + 3 <= stop
                    else False
                ) and _has_prefix(data, i, stop, prefixes, lengths):
                    found = KEY
                elif j < stop and data[j] == 58 and j - i <= 4:
                    found = IPV6 if is_ipv6(data, start, stop, i) else 0
                if not found and held & _DIGIT:
                    found = (
                        _match_number(data, start, stop, i, j, kinds, cues, only_public_ips)
                        if kind == _DIGIT
                        else _match_word(data, stop, i, j)
                    )
            if found:
                if n < len(rows):
                    rows[n], at[n], what[n] = row, i, found
                n += 1
            i = j
    return n


@numba.njit(nogil=True)
def _has_prefix(data: Bytes, i: int, stop: int, prefixes: Bytes, lengths: Rows) -> bool:  # pragma: no cover (compiled)
    """Return whether a prefix of a key starts at i."""
    for k in range(len(lengths)):
        n = 0
        while n < lengths[k] and i + n < stop and data[i + n] == prefixes[k, n]:
            n += 1
        if n == lengths[k]:
            return True
    return False


@numba.njit(nogil=True)
def _is_address(data: Bytes, start: int, stop: int, i: int, kinds: Bytes) -> bool:  # pragma: no cover (compiled)
    """Return whether a name precedes the `@`, and a label and a dot follow."""
    if i == start or i + 1 >= stop or kinds[data[i + 1]] & _IN_WORD == 0:
        return False
    before = data[i - 1]
    if kinds[before] & _IN_WORD == 0 and before < 128 and before not in (37, 43, 45, 46):  # % + - .
        return False
    j = i + 1
    while j < stop and j < i + 65 and (kinds[data[j]] & _IN_WORD or data[j] == 45):
        j += 1
    return bool(j + 1 < stop and data[j] == 46 and kinds[data[j + 1]] & _IN_WORD)


@numba.njit(nogil=True)
def _match_word(data: Bytes, stop: int, i: int, j: int) -> int:  # pragma: no cover (compiled)
    """Return WORD for letters followed by digits: IBAN, National Insurance number, NIE, codice fiscale."""
    size = j - i
    if size >= 4 and is_digit(data[i + 2]) and is_digit(data[i + 3]) and is_letter(data[i]) and is_letter(data[i + 1]):
        if 15 <= size <= 34 or (size == 9 and is_upper(data[i])):
            return WORD
        is_group = size == 4 and j + 12 <= stop and (data[j] == 32 or data[j] == 45)
        return WORD if is_group and (is_letter(data[j + 1]) or is_digit(data[j + 1])) else 0
    n_upper = 0
    while i + n_upper < j and is_upper(data[i + n_upper]):
        n_upper += 1
    if i + n_upper >= j or not is_digit(data[i + n_upper]):
        return 0
    return WORD if (n_upper == 1 and size == 9 and 88 <= data[i] <= 90) or (n_upper == 6 and size == 16) else 0


@numba.njit(nogil=True)
def _match_number(
    data: Bytes,
    start: int,
    stop: int,
    i: int,
    j: int,
    kinds: Bytes,
    cues: Bytes,
    only_public_ips: bool,
) -> int:  # pragma: no cover (compiled)
    """Return the kind of a word from `i` to `j` that begins with a digit, or 0."""
    before = data[i - 1] if i > start else 32
    size = j - i
    after = data[j] if j < stop else 32
    is_quad = size <= 3 and after == 46 and is_dotted_quad(data, stop, i, only_public_ips)
    if before in (35, 36, 37, 38, 64, 92):  # #1 $1 %20 &1 @1 \1, but not root@1.2.3.4
        return IPV4 if is_quad and before == 64 else 0
    if before in (44, 45, 46, 47, 58) and i - 1 > start:  # 1,000 a-1 0.1 a/1 12:30 are parts of something longer
        other = kinds[data[i - 2]]
        is_path = before == 47 and other == _LETTER and is_quad
        if other == _DIGIT or (other == _LETTER and before != 44 and before != 58 and not is_path):
            return 0
    n_digits = 0
    while i + n_digits < j and is_digit(data[i + n_digits]):
        n_digits += 1
    if n_digits < size:
        is_id = (size == 9 and n_digits == 8) or (size == 18 and n_digits == 17)
        return WORD if is_id and is_upper(data[j - 1]) else 0
    if is_quad:
        return IPV4
    if size == 8 and after == 45 and j + 1 < stop and is_upper(data[j + 1]):
        return WORD
    return _match_groups(data, start, stop, i, before, cues)


@numba.njit(nogil=True)
def _match_groups(
    data: Bytes, start: int, stop: int, i: int, before: int, cues: Bytes
) -> int:  # pragma: no cover (compiled)
    """Return NUMBER for digits in groups like cards, national ids and telephone numbers. The shape is the group sizes in hex."""
    shape, n_groups, total = 0, 0, 0
    is_date = False
    end_of_first = j = i
    while True:
        first = j
        while j < stop and is_digit(data[j]):
            j += 1
        n_groups += 1
        total += j - first
        shape = shape << 4 | min(j - first, 15)
        is_card = 12 <= total <= 19 and (n_groups == 1 or shape in (0x4444, 0x465, 0x464, 0x44443))
        if is_card and passes_luhn(data, i, j):
            return NUMBER
        if shape in (0x324, 0x334, 0x3332, 0x1334, 0x1222332):  # social security, telephone, CPF, telephone, NIR
            return NUMBER
        if shape == 0x222 and before == 32 and i - 3 >= start and is_upper(data[i - 2]) and is_upper(data[i - 3]):
            return NUMBER
        if n_groups == 1 and total in (15, 18):
            return NUMBER
        is_date |= (shape == 0x224 or (shape == 0x422 and 49 <= data[i] <= 50)) and 45 <= data[end_of_first] <= 47
        end = gap = j
        end_of_first = j if n_groups == 1 else end_of_first
        while j < stop and j - gap < 3 and is_gap(data[j]):
            j += 1
        if j == gap or j >= stop or not is_digit(data[j]) or n_groups == MAX_GROUPS or total > 20:
            break
    is_decimal = n_groups > 1 and data[end_of_first] == 46 and (n_groups == 2 or end_of_first == i + 1)
    if total < 6 or is_decimal or is_date:
        return 0
    if before == 43:
        return NUMBER
    # An area code in parentheses, a trunk 0, or 00 and a country code
    is_area = before == 40 and end_of_first - i < 6 and end_of_first < stop and data[end_of_first] == 41
    is_national = is_area or (data[i] == 48 and end_of_first > i + 1)
    if is_national and n_groups > 1 and 8 <= total <= 17:
        return NUMBER
    return NUMBER if _has_cue(data, start, i, cues) or _has_label(data, end, stop, cues) else 0


@numba.njit(nogil=True)
def _has_label(data: Bytes, j: int, stop: int, cues: Bytes) -> bool:  # pragma: no cover (compiled)
    """Return whether an extension or a label may follow a number that ends at j."""
    if j + 1 < stop and (data[j] | 32) == 120 and is_digit(data[j + 1]):  # x12
        return True
    first = j
    while j < stop and j - first < 4 and not is_letter(data[j]):
        if data[j] == 35:
            return True
        j += 1
    if j + 2 >= stop or j == first:
        return False
    return bool(cues[(data[j] & 31) << 10 | (data[j + 1] & 31) << 5 | data[j + 2] & 31] & 2) or (data[j] | 32) == 120


@numba.njit(nogil=True)
def _has_cue(data: Bytes, start: int, i: int, cues: Bytes) -> bool:  # pragma: no cover (compiled)
    """Return whether a cue word begins at most `CUE_BYTES` before the number."""
    seen = 0  # the next three letters
    for k in range(i - 1, max(start, i - CUE_BYTES) - 1, -1):
        byte = data[k]
        if (0xD0 <= byte <= 0xD1 or 0xE3 <= byte <= 0xED) and i - k < 16:  # a cue word in Cyrillic, Han, kana or Hangul
            return True
        letter = byte & 31 if 65 <= byte <= 90 or 97 <= byte <= 122 else 0
        if cues[seen] & 1 and not letter:
            return True
        seen = (seen >> 5) | letter << 10
    return bool(cues[seen] & 1)
