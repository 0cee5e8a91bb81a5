"""Find telephone numbers. The forms and the words around them are ours; numbering plans are libphonenumber's.

In: a window of bytes and the position of the first digit. Out: the span of the number with its extension, or None.

Evidence decides how strict the check is. A word like "phone" before the number, a label such as "fax" that ends the phrase after
it, or an extension: any plausible form of 7 to 15 digits, also invalid ones (people write "166-684-7899 fax"). A word like "call"
before it: two groups, or one that is valid somewhere. No evidence: `+` and a country code; the North American forms with valid
codes; national forms that start with a trunk 0 or an area code in parentheses, if they are valid in one of the regions and grouped
as its format requires.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberFormat, PhoneMetadata
from stdnum import issn

from model.masking.spans import Span, ends_here, extract_digits

PHONE_REGIONS = (
    *(
        "US",
        "GB",
        "IE",
        "AU",
        "NZ",
        "ZA",
        "IN",
        "DE",
        "AT",
        "CH",
        "FR",
        "BE",
        "NL",
        "IT",
        "ES",
        "PT",
        "SE",
        "FI",
        "HU",
        "JP",
        "BR",
    ),
)
_PLAIN_REGIONS = ("US", "GB", "DE", "FR")  # where digits without separators are a number after a word like "call"

_GAP = rb"(?:[ .\-/]|\xc2\xa0|\xe2\x80[\x90-\x93\xaf]| ?\(| ?\) ?|\)[-/]| - )"
_INTERNATIONAL = re.compile(rb"(?:\+|00)[1-9]\d{0,14}(?:" + _GAP + rb"\d{1,12}){0,8}")
_NATIONAL = re.compile(rb"\(?\d{1,14}(?:" + _GAP + rb"\d{1,12}){0,6}")
_DASH = rb"([-. ]|\xc2\xa0|\xe2\x80[\x90-\x93])"
_NANP = re.compile(
    rb"(?:(?:1|001)[-. ])?(?:\(([2-9]\d\d)\)(?:[ -]|\xc2\xa0)?|([2-9]\d\d)"
    + _DASH
    + rb")([2-9]\d\d)"
    + _DASH
    + rb"(\d{4})"
)
_NANP_SHAPE = re.compile(rb"(?:(?:\+?1|001)[-. ])?(?:\(\d{3}\)[ -]?\d{3}" + _DASH + rb"\d{4}|\d{3}([-.])\d{3}\2\d{4})")
_EXTENSION = re.compile(
    rb"(?i)(?:x|,? ?ext(?:n|ension)?[. :]{0,2}|;ext=| x ?| ?\#|,? ?(?:durchwahl|poste|ramal|toestel)[. :]{1,2})\d{1,6}(?!\w)"
)
_FICTION = re.compile(rb"555\D?01\d\d\Z")
_FICTION_UK = re.compile(  # Ofcom, telephone numbers for drama
    rb"02079460|011[3-8]4960|01[2-6]14960|01914980|02896496|02920180|01632960|07700900|08081570|09098790|03069990"
)
_OTHER_NUMBER = re.compile(rb"(?i)(?:issn|isbn|arxiv|doi)\W{0,3}\Z|(?<![\w.])[0-9a-f]{2} \Z")
_DATE = re.compile(
    rb"\d{4}([-/.])\d\d?\1\d\d?(?!\d)|\d\d?([-/.])\d\d?\2\d{4}(?!\d)|(?:1[5-9]|20)\d\d ?(?:-|\xe2\x80\x93) ?(?:1[5-9]|20)\d\d(?!\d)"
)
_OTHER_FORM = re.compile(
    rb"\(?\d{1,3}(?:\.\d{1,3}){3}(?![.\d])|\d{5}-\d{4}(?!\d)|.{0,12}\((?:1[5-9]|20)\d\d\)?", re.DOTALL
)  # IP, ZIP, year
_CONNECTORS = (
    rb"\W{0,4}(?:(?:numbers?|no|nr|num|us|me|him|her|them|my|our|his|you|your|at|is|on|to|via|the|new|now|back|under|unter|au|al|nummer"
    rb"|home|work|office|toll|free|ext|or|and|direct|registered|line)\b\W{0,4}){0,4}\Z"
)
_PHONE_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:tel|telephones?|telefon|telefono|telefone|telefoon|telefonnummer|telefoonnummer|tel\xc3\xa9fono|t\xc3\xa9l"
    rb"|t\xc3\xa9l\xc3\xa9phone|telefonn?\xc3\xad?|tlf|tfn|puh|phones?|ph|fax|telefax|mobile|mobiel|mobil|mob|m\xc3\xb3vil|celular|cellulare"
    rb"|portable|handy|handynummer|rufnummer|whatsapp|hotline|landline|pager|sms|desk|cell(?=[ :]*phone|:)|cellphone"
    rb"|call(?=\W{1,3}(?:us|me|at|on|now)\b))\b"
    + _CONNECTORS
    + rb"|(?:\xd1\x82\xd0\xb5\xd0\xbb|\xd0\xa2\xd0\xb5\xd0\xbb)[^\n]{0,24}\Z"
    rb"|(?:\xe7\x94\xb5\xe8\xaf\x9d|\xe9\x9b\xbb\xe8\xa9\xb1|\xe6\x89\x8b\xe6\x9c\xba|\xe6\x89\x8b\xe6\xa9\x9f|\xec\xa0\x84\xed\x99\x94)"
    rb"[^\n\w]{0,12}\Z"
)
_CALL_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:call|calling|dial|ring|text|texting|messages?(?= to\b)|answering(?= (?:at|on)\b)|answers?(?= (?:at|on)\b)"
    rb"|reach(?:ed|able)?|contact(?:ed)?|registered|office|direct)\b" + _CONNECTORS
)
_LABEL = re.compile(
    rb"(?i)(?:[ \t]{0,2}[-,(|:]?[ \t]{0,2})(?:office|fax|mobile|cell|home|work|desk|tel|phone|direct|landline|handy|mobil)\b"
    rb"(?=[ \t]*(?:[\n,;.|)\\]|\Z))"
)


def find_unknown_regions(regions: Sequence[str]) -> list[str]:
    """Return the regions that libphonenumber does not know."""
    return [region for region in regions if region not in phonenumbers.SUPPORTED_REGIONS]


def find_phone(window: bytes, at: int, regions: Sequence[str] = PHONE_REGIONS) -> Span | None:
    """Return the span of a telephone number, where `at` is its first digit; `regions` are those whose national forms need no cue.

    Not matched on purpose: numbers reserved for fiction (555-0100 to 555-0199), unassigned country codes, dates, decimals, groups
    separated by spaces without any evidence.
    """
    before = window[max(0, at - 1) : at]
    start = at - (before in (b"+", b"("))
    has_phone = _PHONE_CUE.search(window, max(0, start - 48), start) is not None
    if before == b"+" or window[at : at + 2] == b"00":
        span = _match_international(window, at - (before == b"+"), has_cue=has_phone)
        if span is not None or before == b"+":
            return span
    has_call = has_phone or _CALL_CUE.search(window, max(0, start - 48), start) is not None
    return _match_north_american(window, at, has_cue=has_call) or (
        _match_cued(window, at, has_phone=has_phone, has_call=has_call) or _match_regional(window, at, regions)
    )


def _match_international(window: bytes, at: int, *, has_cue: bool) -> Span | None:
    """Return the span of a number with country code, where `at` is the `+` or the first zero of `00`."""
    before, is_plus = window[max(0, at - 1) : at], window[at : at + 1] == b"+"
    if before.isalnum() or (before and before in b"_)]=+.*/^" and not has_cue):
        return None
    found = _INTERNATIONAL.match(window, at)
    while found is not None:
        number = extract_digits(found.group()) if is_plus else extract_digits(found.group())[2:]
        if len(number) <= 15:
            break
        found = _INTERNATIONAL.match(window, at, at + len(found.group().rstrip(b"0123456789").rstrip(b" .-/()")))
    else:
        return None
    if before == b"(" and b")" in found.group().partition(b"(")[0]:
        at -= 1
    stop, has_evidence = _find_end(window, found.end())
    if stop is None or not 8 <= len(number) <= 15 or len(set(number[1:])) < 3:
        return None
    if has_cue or has_evidence:
        return at, stop
    if number[:1] == b"1":
        is_assigned = re.fullmatch(rb"1[2-9]\d\d[2-9]\d{6}", number) is not None and not _FICTION.search(number)
    else:
        is_assigned = _has_country(number) if is_plus else _is_valid("+" + number.decode(), None)
    return (at, stop) if is_assigned and not _is_bare(found.group(), number, is_plus=is_plus) else None


def _is_bare(text: bytes, number: bytes, *, is_plus: bool) -> bool:
    """Return whether the text is rather a decimal, a large number or a list of small ones."""
    groups = re.findall(rb"\d+", text)
    is_single = len(groups) == 1 and (len(number) < 10 or number.endswith(b"000000") or not is_plus)
    is_list = len(number) < 10 and max(map(len, groups[1:]), default=9) < 3
    is_list = is_list and not _is_valid("+" + number.decode(), None)
    return is_single or is_list or (len(groups) == 2 and b"." in text)


def _match_north_american(window: bytes, at: int, *, has_cue: bool) -> Span | None:
    """Return the span of a number of the North American Numbering Plan; with evidence, of its form with any digits."""
    is_opened = window[max(0, at - 1) : at] == b"("
    found = (is_opened and _NANP.match(window, at - 1)) or _NANP.match(window, at)
    shaped = (is_opened and _NANP_SHAPE.match(window, at - 1)) or _NANP_SHAPE.match(window, at)
    if shaped:
        stop, has_evidence = _find_end(window, shaped.end())
        if stop is not None and (has_evidence or has_cue) and not _FICTION.search(shaped.group()):
            return shaped.start(), stop
    start = found.start() if found else at
    if found is None or window[max(0, start - 1) : start] in (b"=", b"+", b"_"):
        return None
    stop, has_evidence = _find_end(window, found.end())
    area, first, second = found.group(1) or found.group(2), found.group(3), found.group(5)
    is_plain = first is not None and (first != second or first in (b" ", b"\xc2\xa0"))
    is_assigned = area != b"555" and area[1:] != b"11" and found.group(4)[1:] != b"11"
    if (
        stop is None
        or (is_plain and not has_cue and not has_evidence)
        or not is_assigned
        or _FICTION.search(found.group())
    ):
        return None
    return start, stop


def _match_cued(window: bytes, at: int, *, has_phone: bool, has_call: bool) -> Span | None:
    """Return the span of another national form for which words before or after it are evidence."""
    found = _match_balanced(window, at)
    if found is None or _DATE.match(window, at):
        return None
    stop, has_evidence = _find_end(window, found.end())
    number, groups = extract_digits(found.group()), re.findall(rb"\d+", found.group())
    is_decimal = len(groups) == 2 and b"." in found.group()
    smallest = 7 if len(groups) == 1 or not (has_phone or has_evidence) else 6
    if stop is None or not smallest <= len(number) <= 15 or is_decimal or len(set(number)) < 3:
        return None
    if _FICTION.search(found.group()) or number.endswith(b"0000000"):
        return None
    if has_phone:
        return found.start(), stop
    if not (has_call or has_evidence) or len(groups[0]) < 2 or groups[-1] == b"000" or _OTHER_FORM.match(window, at):
        return None
    is_spaced = window[max(0, at - 1) : at] in (b" ", b"\n", b",")
    is_valid = is_spaced and len(number) > 8 and any(_is_national(number, region) for region in _PLAIN_REGIONS)
    return (found.start(), stop) if len(groups) > 1 or is_valid else None


def _match_regional(window: bytes, at: int, regions: Sequence[str]) -> Span | None:
    """Return the span of a number without evidence that is valid and grouped as required in one of the regions."""
    is_opened = window[max(0, at - 1) : at] == b"("
    found = _match_balanced(window, at) if is_opened or window[at : at + 1] == b"0" else None
    if found is None or _DATE.match(window, at):
        return None
    before, (stop, _) = window[max(0, found.start() - 1) : found.start()], _find_end(window, found.end())
    number, groups = extract_digits(found.group()), re.findall(rb"\d+", found.group())
    if stop is None or before.isalnum() or before in (b"=", b"+", b"_", b"]", b")") or len(set(number)) < 4:
        return None
    steps = {int(second) - int(first) for first, second in pairwise(groups)}
    is_list = len(groups) < 2 or len(groups[0]) < 2 or steps in ({0}, {1})  # 01 02 03 04 05
    if not 8 <= len(number) <= 12 or is_list or (len(groups) == 2 and b"." in found.group()):
        return None
    if _FICTION.search(found.group()) or _FICTION_UK.match(number) or _OTHER_FORM.match(found.group()):
        return None
    if issn.is_valid(found.group().decode("utf-8", "replace")) or _OTHER_NUMBER.search(
        window, max(0, found.start() - 8), found.start()
    ):
        return None
    texts = [group.decode() for group in groups]
    return (found.start(), stop) if any(_has_exact_groups(texts, region) for region in regions) else None


def _match_balanced(window: bytes, at: int) -> re.Match[bytes] | None:
    """Return the match of a national form that starts with a parenthesis, if that is closed in it, or with a digit."""
    found = _NATIONAL.match(window, at - (window[max(0, at - 1) : at] == b"("))
    if found is not None and found.group().startswith(b"(") and b")" not in found.group():
        found = _NATIONAL.match(window, at)
    return found


def _find_end(window: bytes, stop: int) -> tuple[int | None, bool]:
    """Return the end of a number that stops here, with its extension, and whether that or a label after it is evidence; None if a
    letter, digit or joined part follows."""
    extension = _EXTENSION.match(window, stop)
    if extension is not None:
        return extension.end(), True
    has_label = _LABEL.match(window, stop) is not None
    return (stop if has_label or ends_here(window, stop) else None), has_label


def _has_country(number: bytes) -> bool:
    """Return whether the number starts with an assigned country code."""
    return any(int(number[:size]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE for size in (1, 2, 3))


def _is_valid(text: str, region: str | None) -> bool:
    """Return whether libphonenumber holds the number for valid in the region."""
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _is_national(number: bytes, region: str) -> bool:
    """Return whether the digits are a valid number in the region, with or without its trunk prefix."""
    plan, text = _compile_plan(region), number.decode()
    return plan.numbers.fullmatch(text.removeprefix(plan.prefix)) is not None and _is_valid(text, region)


def _has_exact_groups(groups: Sequence[str], region: str) -> bool:
    """Return whether the groups are a valid number of the region, grouped like one of its formats."""
    plan = _compile_plan(region)
    bare = [groups[0].removeprefix(plan.prefix), *groups[1:]]
    number = "".join(bare)
    if plan.numbers.fullmatch(number) is None:
        return False
    bare = bare if bare[0] else bare[1:]
    matches = (form.fullmatch(number) for leading, form in plan.formats if leading.match(number))
    return any(found is not None and list(found.groups()) == bare for found in matches) and _is_valid(number, region)


class _Plan(NamedTuple):
    """The numbering plan of a region: its trunk prefix, the numbers without it, and (first digits, groups) of their formats."""

    prefix: str
    numbers: re.Pattern[str]
    formats: list[tuple[re.Pattern[str], re.Pattern[str]]]


@cache
def _compile_plan(region: str) -> _Plan:
    """Return libphonenumber's numbering plan of a region, with the alternative formats of its country."""
    metadata = PhoneMetadata.metadata_for_region(region)
    numbers = metadata and metadata.general_desc and metadata.general_desc.national_number_pattern
    if metadata is None or not numbers:
        raise ValueError(f"no region of libphonenumber: {region!r}")
    forms = [*metadata.number_format, *_load_alternatives(metadata.country_code or 0)]
    formats = [
        (re.compile((form.leading_digits_pattern or [""])[-1]), re.compile(form.pattern or "")) for form in forms
    ]
    return _Plan(metadata.national_prefix or "", re.compile(numbers), formats)


def _load_alternatives(country_code: int) -> list[NumberFormat]:
    """Return the formats that people in a country also use, if libphonenumber lists any."""
    name = f"alt_format_{country_code}"
    if importlib.util.find_spec(f"phonenumbers.data.{name}") is None:
        return []
    return getattr(importlib.import_module(f"phonenumbers.data.{name}"), f"PHONE_{name.upper()}")
