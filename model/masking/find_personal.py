"""Find personal data and secrets in texts, and replace them by placeholders that name their kind: `<EMAIL>`, `<PHONE>`, `<IP>`,
`<CARD>`, `<IBAN>`, `<NATIONAL_ID>`, `<KEY>`.

In: UTF-8 bytes of texts, or one text. Out: spans by kind, or the text with replacements. Deterministic and idempotent: a masked
text has nothing left to mask. The pipeline (model/masking), the assistant and the service mask by these same functions. Time:
linear; a compiled scan finds candidates (scan.py), and exact checks look only at these.

Covers: email addresses; IPv4 and IPv6 addresses, private ones included unless `only_public_ips` is set; telephone numbers in
international form, in North American form, in the national forms of `phone_regions`, and in any form after a word like "phone",
before a label like "fax" or with an extension; payment cards (issuer, length, Luhn); IBANs (country, length, mod 97) in either
case and any groups; identity numbers of eleven countries (national_ids.py); keys and tokens with a known prefix, JSON Web Tokens,
private key blocks (keys.py).

Kept on purpose, because it identifies nobody: example.com and other reserved names; the unspecified address, netmasks, and networks
for documentation; numbers reserved for fiction (555-01xx, Ofcom's); `git@host`; placeholder keys; numbers that are parts of others,
dates, version and section numbers (ip_addresses.py), decimals.

Does not cover: names, postal addresses, dates of birth, coordinates, account numbers other than IBANs, license plates, MAC
addresses, user names, passwords, spelled-out forms ("john at example dot org"), digits of other scripts, telephone numbers without
`+` after a cue word in a language that phones.py does not know, numbers split over two lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

import numpy as np

from model.masking import scan as byte_scan
from model.masking.byte_forms import Bytes, Offsets
from model.masking.emails import find_email
from model.masking.ip_addresses import find_ipv4, find_ipv6
from model.masking.keys import LONG_STARTS, MAX_KEY_BYTES, find_key, list_prefixes
from model.masking.national_ids import find_id
from model.masking.payment_numbers import find_card, find_iban, find_odd_iban
from model.masking.phones import PHONE_REGIONS, find_phone
from model.masking.spans import Span

Finder: TypeAlias = Callable[[bytes, int], Span | None]

# Of two overlapping spans the kind listed first wins: an email address may contain a number, a card number a phone number.
KINDS = ("key", "email", "iban", "card", "national_id", "ip", "phone")
# Nearly always two: the second, over the changed rows, finds what an overlap had hidden. A crafted text may reveal another match
# with each replacement; the bound keeps the time linear.
MAX_ROUNDS = 8
BACK_BYTES, AHEAD_BYTES = 128, 512  # what an exact check sees around a candidate


class Options(NamedTuple):
    """What counts as personal: the regions whose national forms of telephone numbers are found without a word like "phone" before
    them, and whether private and loopback addresses are kept."""

    phone_regions: tuple[str, ...] = PHONE_REGIONS
    only_public_ips: bool = False


DEFAULTS = Options()


@lru_cache(maxsize=8)
def _list_finders(kinds: tuple[str, ...], options: Options) -> dict[int, tuple[tuple[str, Finder], ...]]:
    """Return the exact checks of these kinds for each kind of candidate."""
    phone: Finder = partial(find_phone, regions=options.phone_regions)
    finders: dict[int, tuple[tuple[str, Finder], ...]] = {
        byte_scan.AT: (("email", find_email),),
        byte_scan.IPV4: (("ip", partial(find_ipv4, only_public=options.only_public_ips)), ("phone", phone)),
        byte_scan.IPV6: (("ip", partial(find_ipv6, only_public=options.only_public_ips)),),
        byte_scan.NUMBER: (("card", find_card), ("national_id", find_id), ("phone", phone)),
        byte_scan.WORD: (("iban", find_iban), ("national_id", find_id), ("iban", find_odd_iban)),
        byte_scan.KEY: (("key", find_key),),
    }
    return {what: tuple(each for each in checks if each[0] in kinds) for what, checks in finders.items()}


class FoundSpan(NamedTuple):
    """Personal data of one kind: bytes `start` to `stop` of the column's data, in row `row`."""

    row: int
    start: int
    stop: int
    kind: str


class MaskedText(NamedTuple):
    """A text after replacement, and the number of each kind that it had."""

    text: str
    counts: dict[str, int]


def make_placeholder(kind: str) -> str:
    """Return the placeholder of a kind."""
    return f"<{kind.upper()}>"


def find_spans(
    data: Bytes, offsets: Offsets, kinds: Sequence[str] = KINDS, options: Options = DEFAULTS
) -> list[FoundSpan]:
    """Return personal data of these kinds in text order, without overlaps."""
    wanted = _list_finders(tuple(kinds), options)
    prefixes = list_prefixes() if "key" in kinds else ()
    candidates = byte_scan.scan(data, offsets, prefixes, only_public_ips=options.only_public_ips)
    spans: list[FoundSpan] = []
    next_at = 0  # a token of many kilobytes is checked once, not again at each word in it
    for row, at, what in zip(candidates.rows.tolist(), candidates.at.tolist(), candidates.what.tolist(), strict=True):
        if at < next_at or not wanted[what]:
            continue
        first = max(int(offsets[row]), at - BACK_BYTES)
        is_long = what == byte_scan.KEY and data[at] in LONG_STARTS
        last = min(int(offsets[row + 1]), at + (MAX_KEY_BYTES if is_long else AHEAD_BYTES))
        window = data[first:last].tobytes()
        for kind, finder in wanted[what]:
            span = finder(window, at - first)
            if span is not None:
                spans.append(FoundSpan(row, first + span[0], first + span[1], kind))
                next_at = first + span[1] if kind == "key" else next_at
                break
    return _drop_overlaps(spans)


def _drop_overlaps(spans: list[FoundSpan]) -> list[FoundSpan]:
    """Return the spans in text order, keeping the preferred kind of each overlap."""
    out: list[FoundSpan] = []
    for each in sorted(spans, key=lambda each: (each.start, -each.stop)):
        if not out or each.start >= out[-1].stop:
            out.append(each)
        elif KINDS.index(each.kind) < KINDS.index(out[-1].kind):
            out[-1] = each
    return out


def mask_text(text: str, kinds: Sequence[str] = KINDS, options: Options = DEFAULTS) -> MaskedText:
    """Return one text with placeholders, and how many there are of each kind. Raises: ValueError for an unknown kind."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"kinds: no such kind; found {unknown[0][:80]!r}; use {', '.join(KINDS)}")
    counts = dict.fromkeys(kinds, 0)
    for _ in range(MAX_ROUNDS):
        data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
        spans = find_spans(data, np.array([0, len(data)], np.int64), kinds, options)
        if not spans:
            break
        for each in spans:
            counts[each.kind] += 1
        text = join_replaced(data, 0, len(data), spans).decode()
    return MaskedText(text, {kind: n for kind, n in counts.items() if n})


def join_replaced(data: Bytes, start: int, stop: int, spans: Sequence[FoundSpan]) -> bytes:
    """Return the bytes from `start` to `stop` with these spans in them replaced by placeholders."""
    pieces: list[bytes] = []
    for each in spans:
        pieces += (data[start : each.start].tobytes(), make_placeholder(each.kind).encode())
        start = each.stop
    return b"".join((*pieces, data[start:stop].tobytes()))
