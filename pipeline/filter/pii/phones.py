"""Find telephone numbers.

In: a window of bytes and the position of the first digit. Out: the span of the number, or None.
"""

from __future__ import annotations

import re

from pipeline.filter.pii.spans import Span, ends_here, extract_digits

_INTERNATIONAL = re.compile(rb"\+[1-9]\d{0,14}(?:(?:[ .\-/]| ?\(| ?\) ?|\)-)\d{1,8}){0,8}")
_COUNTRY = re.compile(  # ITU-T, list of assigned country codes
    rb"1|7|2(?:[07]|1[12368]|[2346]\d|5[0-8]|9[01789])|3(?:[0-469]|[57]\d|8[0-35-79])|4(?:[013-9]|2[013])|5(?:[1-8]|[09]\d)"
    rb"|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])|8(?:[1246]|0[08]|5[02356]|7[08]|8[0-368])|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68])"
)
_FICTION = re.compile(rb"555\D?01\d\d\Z")
_NANP = re.compile(rb"(?:1[-. ])?(?:\(([2-9]\d\d)\)[ -]?|([2-9]\d\d)([-. ]))([2-9]\d\d)([-. ])(\d{4})")
_NATIONAL = re.compile(rb"\(?\d{1,12}(?:(?:[ .\-/]| ?\(| ?\) ?|\)-| - )\d{1,8}){0,6}")
_DATE = re.compile(rb"\d{4}([-/.])\d\d?\1\d\d?(?!\d)|\d\d?([-/.])\d\d?\2\d{4}(?!\d)")
_CUE_END = rb"\W{0,4}(?:(?:numbers?|no|nr|num|us|me|at|is|on|nummer|home|work|office|toll|free|ext|or|and|direct)\b\W{0,4}){0,3}\Z"
_PHONE_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:tel|telephones?|telefon|telefono|telefone|telefoon|tel\xc3\xa9fono|t\xc3\xa9l|t\xc3\xa9l\xc3\xa9phone|phones?|ph"
    rb"|fax|telefax|mobile|mob|handy|whatsapp|hotline|sms|cell(?=[ :]*phone)|cellphone|call(?=\W{1,3}(?:us|me|at|on|now)\b))\b"
    + _CUE_END
)


PHONE_REGIONS: tuple[str, ...] = ()


def find_phone(window: bytes, at: int, regions: tuple[str, ...] = PHONE_REGIONS) -> Span | None:
    """Return the span of a telephone number, where `at` is its first digit.

    Covers: `+` and 8 to 15 digits (E.164), in groups or, from 10 digits on, without separators; the North American forms
    555-234-5678, 555.234.5678 and (555) 234-5678 with valid area and exchange codes; other national forms of 7 to 15 digits only
    after a word like "phone" or "fax". Not matched on purpose: numbers reserved for fiction (555-0100 to 555-0199), area code 555,
    unassigned country codes, dates, decimals, groups separated by spaces without such a word.
    """
    has_cue = _PHONE_CUE.search(window, max(0, at - 40), at - (window[max(0, at - 1) : at] in (b"+", b"("))) is not None
    if window[max(0, at - 1) : at] == b"+":
        return _match_international(window, at - 1, has_cue)
    return _match_north_american(window, at, has_cue) or (_match_national(window, at) if has_cue else None)


def _match_international(window: bytes, at: int, has_cue: bool) -> Span | None:
    """Return the span of a number in E.164 form, where `at` is the `+`."""
    before = window[max(0, at - 1) : at]
    if before.isalnum() or (before and before in b"_)]=+.*/^" and not has_cue):
        return None
    found = _INTERNATIONAL.match(window, at)
    while found is not None:
        number, groups = extract_digits(found.group()), re.findall(rb"\d+", found.group())
        if len(number) <= 15:
            break
        found = _INTERNATIONAL.match(window, at, at + len(found.group().rstrip(b"0123456789").rstrip(b" .-/()")))
    else:
        return None
    if not 8 <= len(number) <= 15 or not ends_here(window, found.end()):
        return None
    if number[:1] == b"1" and not re.fullmatch(rb"1[2-9]\d\d[2-9]\d{6}", number):
        return None
    if not _COUNTRY.match(number) or len(set(number[1:])) < 3 or (number[:1] == b"1" and _FICTION.search(number)):
        return None
    is_decimal = len(groups) == 2 and b"." in found.group()
    is_bare = len(groups) == 1 and (len(number) < 10 or number.endswith(b"000000"))
    is_list = len(number) < 10 and max(map(len, groups[1:]), default=9) < 3
    return None if not has_cue and (is_decimal or is_bare or is_list) else found.span()


def _match_north_american(window: bytes, at: int, has_cue: bool) -> Span | None:
    """Return the span of a number of the North American Numbering Plan."""
    found = (window[max(0, at - 1) : at] == b"(" and _NANP.match(window, at - 1)) or _NANP.match(window, at)
    start = found.start() if found else at
    if found is None or not ends_here(window, found.end()) or window[max(0, start - 1) : start] in (b"=", b"+", b"_"):
        return None
    area, first, second = found.group(1) or found.group(2), found.group(3), found.group(5)
    is_plain = first is not None and (first != second or first == b" ")
    is_assigned = area != b"555" and area[1:] != b"11" and found.group(4)[1:] != b"11"
    if (is_plain and not has_cue) or not is_assigned or _FICTION.search(found.group()):
        return None
    return found.span()


def _match_national(window: bytes, at: int) -> Span | None:
    """Return the span of another national form; the caller has seen a word like "phone"."""
    found = _NATIONAL.match(window, at - (window[max(0, at - 1) : at] == b"("))
    if found is not None and found.group().startswith(b"(") and b")" not in found.group():
        found = _NATIONAL.match(window, at)
    if found is None or _DATE.match(window, at) or not ends_here(window, found.end()):
        return None
    number, groups = extract_digits(found.group()), re.findall(rb"\d+", found.group())
    is_decimal = len(groups) == 2 and b"." in found.group()
    if not 7 <= len(number) <= 15 or is_decimal or _FICTION.search(found.group()) or len(set(number)) < 3:
        return None
    return found.span()
