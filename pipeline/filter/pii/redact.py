"""Personal data and secrets in texts, each replaced by a placeholder that says what it was: `<EMAIL>`, `<PHONE>`, `<IP>`, `<CARD>`,
`<IBAN>`, `<NATIONAL_ID>`, `<KEY>`.

In: a column of texts. Out: the column with replacements, all else in it unchanged, and how many of each kind each row had. The
same text gives the same text; what has been redacted once has nothing left to redact. Time: linear; a compiled scan finds the
places where something may be (`pii_scan`), exact checks look there only. Memory: the column, once more where something changed.

Covered: email addresses; public IPv4 and IPv6 addresses; telephone numbers in international form, in the North American form, and
in other forms behind a word like "phone"; payment cards (issuer, length, Luhn); IBANs (country, length, mod 97); identity numbers
of eleven countries (`pii_ids`); keys and tokens with a known prefix, JSON Web Tokens, private key blocks (`pii_keys`).

Left on purpose, since it points at nobody: example.com and the other reserved names, private, loopback and documentation addresses,
555-01xx numbers, `git@host`, key stand-ins; numbers that are parts of others, dates, version numbers, decimals.

Not covered: names, postal addresses, dates of birth, coordinates, account numbers other than IBANs, license plates, MAC
addresses, user names, passwords, spelled-out forms ("john at example dot org"), digits of other scripts, telephone numbers without
`+` that a word in a language unknown to `pii_numbers` announces, forms broken over two lines.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.filter.pii import scan as pii_scan
from pipeline.filter.pii.emails import find_email
from pipeline.filter.pii.ip_addresses import find_ipv4, find_ipv6
from pipeline.filter.pii.keys import LONG_STARTS, MAX_KEY_BYTES, find_key, list_prefixes
from pipeline.filter.pii.national_ids import find_id
from pipeline.filter.pii.payment_numbers import find_card, find_iban
from pipeline.filter.pii.phones import find_phone
from pipeline.filter.pii.spans import Span
from pipeline.text.columns import Bytes, Offsets, to_utf8

Finder: TypeAlias = Callable[[bytes, int], Span | None]

# Where two overlap, the one further to the front stays: an address may hold a number, a number of 16 digits one of 10.
KINDS = ("key", "email", "iban", "card", "national_id", "ip", "phone")
MAX_ROUNDS = 8  # a text can be made so that each replacement uncovers another one; this keeps the time linear
BACK_BYTES, AHEAD_BYTES = 128, 512  # what an exact check may see around a place

_FINDERS: dict[int, tuple[tuple[str, Finder], ...]] = {
    pii_scan.AT: (("email", find_email),),
    pii_scan.IPV4: (("ip", find_ipv4), ("phone", find_phone)),
    pii_scan.IPV6: (("ip", find_ipv6),),
    pii_scan.NUMBER: (("card", find_card), ("national_id", find_id), ("phone", find_phone)),
    pii_scan.WORD: (("iban", find_iban), ("national_id", find_id)),
    pii_scan.KEY: (("key", find_key),),
}


class FoundSpan(NamedTuple):
    """Bytes `start` to `stop` of the column's data, in row `row`, are of this kind."""

    row: int
    start: int
    stop: int
    kind: str


class Redacted(NamedTuple):
    """The texts after replacement; one int64 column `pii_<kind>` for each kind asked for."""

    texts: pa.StringArray
    counts: pa.RecordBatch


def make_placeholder(kind: str) -> str:
    return f"<{kind.upper()}>"


def redact(texts: pa.StringArray, kinds: Sequence[str] = KINDS) -> Redacted:
    """Replaces what is of these kinds. A column without any comes back as the same object."""
    counts = np.zeros((len(KINDS), len(texts)), np.int64)
    rows = np.arange(len(texts))
    part = texts
    for _ in range(MAX_ROUNDS):  # nearly always two, the second over the rows that changed: what an overlap had hidden
        data, offsets = to_utf8(part)
        found = find_spans(data, offsets, kinds)
        if not found:
            break
        for each in found:
            counts[KINDS.index(each.kind), rows[each.row]] += 1
        changed, part = _replace_spans(data, offsets, found)
        rows = rows[changed]
        is_changed = np.zeros(len(texts), np.bool_)
        is_changed[rows] = True
        texts = pc.replace_with_mask(texts, pa.array(is_changed), part)
    columns = {f"pii_{kind}": pa.array(counts[KINDS.index(kind)]) for kind in kinds}
    return Redacted(texts, pa.record_batch(columns))


def find_spans(data: Bytes, offsets: Offsets, kinds: Sequence[str] = KINDS) -> list[FoundSpan]:
    """What is of these kinds, in the order of the text, without overlaps."""
    wanted = {what: [(kind, finder) for kind, finder in finders if kind in kinds] for what, finders in _FINDERS.items()}
    candidates = pii_scan.scan(data, offsets, list_prefixes() if "key" in kinds else ())
    found: list[FoundSpan] = []
    open_at = 0  # a token of many kilobytes is looked at once, not again at each word in it
    for row, at, what in zip(candidates.rows.tolist(), candidates.at.tolist(), candidates.what.tolist(), strict=True):
        if at < open_at or not wanted[what]:
            continue
        first = max(int(offsets[row]), at - BACK_BYTES)
        is_long = what == pii_scan.KEY and data[at] in LONG_STARTS
        last = min(int(offsets[row + 1]), at + (MAX_KEY_BYTES if is_long else AHEAD_BYTES))
        window = data[first:last].tobytes()
        for kind, finder in wanted[what]:
            span = finder(window, at - first)
            if span is not None:
                found.append(FoundSpan(row, first + span[0], first + span[1], kind))
                open_at = first + span[1] if kind == "key" else open_at
                break
    return _drop_overlaps(found)


def _drop_overlaps(found: list[FoundSpan]) -> list[FoundSpan]:
    out: list[FoundSpan] = []
    for each in sorted(found, key=lambda each: (each.start, -each.stop)):
        if not out or each.start >= out[-1].stop:
            out.append(each)
        elif KINDS.index(each.kind) < KINDS.index(out[-1].kind):
            out[-1] = each
    return out


def _replace_spans(data: Bytes, offsets: Offsets, found: Sequence[FoundSpan]) -> tuple[list[int], pa.StringArray]:
    """The rows that hold something, and their new texts."""
    rows: list[int] = []
    texts: list[bytes] = []
    pieces: list[bytes] = []
    for index, (row, start, stop, kind) in enumerate(found):
        is_first = index == 0 or found[index - 1].row != row
        since = int(offsets[row]) if is_first else found[index - 1].stop
        pieces += (data[since:start].tobytes(), make_placeholder(kind).encode())
        if index + 1 == len(found) or found[index + 1].row != row:
            pieces.append(data[stop : int(offsets[row + 1])].tobytes())
            rows.append(row)
            texts.append(b"".join(pieces))
            pieces = []
    return rows, pa.array(texts, pa.binary()).cast(pa.string())
