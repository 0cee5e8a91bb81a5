"""Decode the bytes of a text from the web.

In: the bytes, and the charset that a header declares, in any spelling. Out: text; bytes that are invalid in its charset are
dropped. The order of evidence: a byte order mark; tags in UTF-16 or UTF-32, or the null bytes between Latin letters; UTF-8, also
with some invalid bytes, whatever is declared; the header; `<meta>`; the frequencies of the bytes. A declared UTF-16 is wrong for a
body with tags in ASCII, and a declared UTF-8 for one with hardly any of its characters.
Does not cover: UTF-16 without a mark, a declaration or tags, in a language whose characters lie beyond U+00FF. Time: O(n).
"""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import (  # pyright: ignore[reportMissingModuleSource]
    detect_encoding,
    map_encoding_to_html5,
)

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
OTHER_NAMES = {  # not in resiliparse's table
    "utf-32": "utf-32-le",
    "utf-32le": "utf-32-le",
    "utf-32be": "utf-32-be",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-mac-ukrainian": "mac-cyrillic",
}
ISO_2022 = re.compile(rb"\x1b[$(][@A-Z(]")  # escape sequences: bytes that look like ASCII and are not
CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1a]")  # as in Cyrillic in UTF-16, whose bytes are all ASCII
# What browsers mean by these names: the charset, and what Windows added to it.
SUPERSETS = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
}
SNIFFED_BYTES = 4_096
MIN_BYTES = 32
MIN_NULL_FRAC = 0.5  # of the units of UTF-16: Latin letters
MAX_OTHER_FRAC = 0.1  # of those, null bytes in the other half of the units
UNIT_BYTES = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
TAGS = {
    "utf-16-le": re.compile(rb"<\0[!/?A-Za-z]\0"),
    "utf-16-be": re.compile(rb"\0<\0[!/?A-Za-z]"),
    "utf-32-le": re.compile(rb"<\0\0\0[!/?A-Za-z]\0\0\0"),
    "utf-32-be": re.compile(rb"\0\0\0<\0\0\0[!/?A-Za-z]"),
}


def decode(body: bytes, charset: str = "") -> str:
    """Return the text; bytes that are invalid in its charset are dropped."""
    declared = charset.strip().strip("\"'").lower()
    if wide := find_wide_encoding(body, declared):
        return body.decode(wide, "ignore").removeprefix("\ufeff")
    if not (body.isascii() and ISO_2022.search(body)):
        try:
            return body.decode("utf-8-sig")
        except UnicodeDecodeError:
            if _is_mostly_utf_8(body):
                return body.decode("utf-8-sig", "ignore")
    candidates = (
        lambda: _map_name(declared),
        lambda: detect_encoding(body, from_html_meta=True),
        lambda: detect_encoding(body, from_html_meta=False),
    )
    encodings = (find() or "" for find in candidates)
    # Not resiliparse's `bytes_to_str`: a single invalid byte makes it decode the whole text as windows-1252.
    encoding = next((each for each in encodings if each and not each.startswith("utf-")), "cp1252")
    return body.decode(SUPERSETS.get(encoding, encoding), "ignore")


def _map_name(declared: str) -> str:
    """Return Python's name of a declared charset; empty if it is none."""
    return (
        OTHER_NAMES.get(declared.replace("_", "-"))
        or (map_encoding_to_html5(declared, False) if declared else "")
        or ""
    )


def _is_mostly_utf_8(body: bytes) -> bool:
    """Return whether more bytes than not are part of a valid character, among those that are not ASCII: other charsets form such
    sequences only by accident."""
    text = body.decode("utf-8", "replace")
    n_invalid = text.count("\ufffd")
    n_valid = len(text) - len(text.encode("ascii", "ignore")) - n_invalid
    return n_valid > n_invalid


def find_wide_encoding(body: bytes, declared: str = "") -> str:
    """Return the encoding of a text in UTF-16 or UTF-32; empty if it is in neither."""
    for mark, encoding in MARKS:
        if body.startswith(mark) and (len(mark) == 2 or len(body) % 4 == 0):
            return encoding
    name = _map_name(declared)
    name = name if name.startswith(("utf-16", "utf-32")) else ""
    sample = body[:SNIFFED_BYTES]
    if b"\0" in sample:
        return _find_by_tags(sample) or _find_by_nulls(sample[: len(sample) // 4 * 4]) or name
    return name if name and b"<" not in sample and (CONTROLS.search(sample) or not _is_utf_8(body)) else ""


def _find_by_tags(sample: bytes) -> str:
    """Return the encoding in which the sample contains most tags; empty if it contains none."""
    counts = {
        encoding: sum(match.start() % size == 0 for match in TAGS[encoding].finditer(sample))
        for encoding, size in UNIT_BYTES.items()
    }
    best = max(counts, key=lambda encoding: counts[encoding])
    return best if counts[best] else ""


def _find_by_nulls(sample: bytes) -> str:
    """Return the encoding of Latin letters to which the null bytes of the sample belong; empty if there is a doubt."""
    n_quads = len(sample) // 4
    nulls = [sample[at::4].count(0) for at in range(4)]
    if n_quads * 4 < MIN_BYTES:
        return ""
    if nulls[3] == n_quads and nulls[2] >= n_quads * 0.9 and nulls[0] <= n_quads * 0.1:
        return "utf-32-le"
    if nulls[0] == n_quads and nulls[1] >= n_quads * 0.9 and nulls[3] <= n_quads * 0.1:
        return "utf-32-be"
    first, second = nulls[0] + nulls[2], nulls[1] + nulls[3]
    if max(first, second) < MIN_NULL_FRAC * n_quads * 2 or min(first, second) > MAX_OTHER_FRAC * max(first, second):
        return ""
    return "utf-16-le" if second > first else "utf-16-be"


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
