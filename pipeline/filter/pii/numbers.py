"""Email and IP addresses, telephone, card and bank account numbers: is one written at this place?

In: a window of bytes and the place in it where `pii_scan` saw something. Out: where it starts and stops, or None. The patterns
have no nested repetition and the windows are a few hundred bytes, so that no text can make them slow.

What each of them takes, and what it leaves on purpose, is in the docstrings; `pii` sums it up.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from typing import TypeAlias

from stdnum import iban, luhn, numdb

Span: TypeAlias = tuple[int, int]

_NOT_DIGITS = bytes(range(48)) + bytes(range(58, 256))
_LOCAL = re.compile(rb"[A-Za-z0-9._%+'\-\x80-\xff]{1,64}\Z")
_DOMAIN = re.compile(
    rb"@((?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,8})([A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,40})(?![A-Za-z0-9@]|[-_]\w)"
)
_URL_USER = re.compile(rb"://[^\s/@?#]*\Z")
# RFC 2606 and 6761: names for documentation, and names that leave no network
_RESERVED_DOMAIN = re.compile(
    rb"(?:\A|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|local|localdomain)\Z", re.IGNORECASE
)
# What ends like a domain but is the name of a file or of a unit: logo@2x.png, getty@tty1.service
_FILE_ENDINGS = frozenset(
    b"png jpg jpeg gif svg webp ico css js ts jsx tsx mjs json map html htm xml txt md rst py pyc rb rs go java class"
    b" service socket target timer mount slice scope device zip gz tgz bz2 xz tar so dll exe pdf yml yaml toml sh".split()
)


def digits_of(text: bytes) -> bytes:
    return text.translate(None, _NOT_DIGITS)


def ends_here(window: bytes, stop: int) -> bool:
    """No letter, digit or joined part follows: what stops here is whole."""
    rest = window[stop : stop + 2]
    if not rest:
        return True
    if rest[:1].isalnum() or rest[:1] in b"_@%+=":
        return False
    return not (rest[:1] in b"-./:," and rest[1:].isalnum() and (rest[1:].isdigit() or rest[:1] in b"-/"))


def find_email(window: bytes, at: int) -> Span | None:
    """`name@domain.tld` (RFC 5321 without quoted names and address literals), where `at` is the `@`.

    Left: example.com/.net/.org, .example, .test, .invalid, .localhost, .local; a user in a URL (`ssh://git@host`); the logins
    `git@`, `hg@`, `svn@`; what ends like a file (`logo@2x.png`) or is called (`a@b.dot(c)`).
    """
    local, domain = _LOCAL.search(window, max(0, at - 64), at), _DOMAIN.match(window, at)
    if local is None or domain is None:
        return None
    name = _own_letters(local.group()).lstrip(b".%+-'")
    last = domain.group(2).lower()
    if not name or name.endswith(b".") or name in (b"git", b"hg", b"svn") or last in _FILE_ENDINGS:
        return None
    if window[domain.end() : domain.end() + 1] in (b"(", b"[", b"=") or _RESERVED_DOMAIN.search(domain.group()[1:]):
        return None
    start = at - len(name)
    if _URL_USER.search(window, max(0, start - 64), start):
        return None
    return start, domain.end()


def _own_letters(local: bytes) -> bytes:
    """The end of `local` that is one name: letters of alphabets without case (Han, Thai, …) are the text around it."""
    text = local.decode("utf-8", "ignore")
    first = len(text)
    while first and (text[first - 1].isascii() or text[first - 1].lower() != text[first - 1].upper()):
        first -= 1
    return text[first:].encode()


_IPV4 = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}")
_IPV6 = re.compile(rb"[0-9A-Fa-f:]{6,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?")
_VERSION_CUE = re.compile(
    rb"(?i)(?:(?<![\w\x80-\xff])(?:v|ver|version|release[sd]?|rev|revision|build|firmware|driver|section|sec|chapter|clause|table|fig|figure"
    rb"|rule|oid)\b\W{0,3}|==|>=|<=|~=|\xc2\xa7 ?)\Z"
)
_IP_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:ips?|ipv4|address|addresses|hosts?|server|dns|ping|gateway|router|peer|subnet)\W|://\S{0,40}\Z"
)


def find_ipv4(window: bytes, at: int) -> Span | None:
    """A public address (`ipaddress.is_global`): private, loopback, reserved and documentation ones (RFC 5737) tell nobody.

    Left: what a word like "version" or "section" announces; parts all below 64 (one address in 256, but nearly every
    version number) unless a word like "host" stands shortly before or a port behind.
    """
    found = _IPV4.match(window, at)
    if found is None or not _is_global(found.group()):
        return None
    stop, rest = found.end(), window[found.end() : found.end() + 2]
    joined = rest[:1].isalnum() or rest[:1] == b"_" or (rest[:1] in (b".", b"-") and rest[1:].isalnum())
    if joined or window[max(0, at - 1) : at] == b"+" or _VERSION_CUE.search(window, max(0, at - 16), at):
        return None
    has_port = rest[:1] == b":" and rest[1:].isdigit()
    is_low = all(int(part) < 64 for part in found.group().split(b"."))
    return None if is_low and not has_port and not _IP_CUE.search(window, max(0, at - 40), at) else (at, stop)


def find_ipv6(window: bytes, at: int) -> Span | None:
    """A public address (2000::/3 without 2001:db8::/32) of at least three groups; no prefix (`2001:4860::`), no time, no slice."""
    found = _IPV6.match(window, at)
    if found is None:
        return None
    text = found.group().rstrip(b":")
    stop = at + len(text)
    groups = [group for group in text.split(b":") if group]
    if len(groups) < 3 or window[stop : stop + 1].isalnum() or re.match(rb":[\w:]", window[stop : stop + 2]):
        return None
    return (at, stop) if _is_global(text) else None


def _is_global(text: bytes) -> bool:
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


_CARD = re.compile(rb"\d{4}([ -])(?:\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{6}\1\d{4,5})|\d{12,19}")
_CARD_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:cards?|visa|master ?card|amex|american express|discover|maestro|debit|credit)\W"
)


_CALL = re.compile(rb"\w\(\Z")


def find_card(window: bytes, at: int) -> Span | None:
    """13 to 19 digits that an issuer uses (ISO/IEC 7812 prefix and length), whose Luhn sum comes out.

    In one piece (an identifier may look like it: one in ten has a right sum) only 15 and 16 digits are taken, not behind `=`
    or `/` or as an argument, and none that is one digit over and over, unless a word like "card" stands shortly before.
    """
    found = _CARD.match(window, at)
    if found is None or not ends_here(window, found.end()):
        return None
    number = digits_of(found.group())
    if not _has_issuer(number) or not luhn.is_valid(number.decode()):
        return None
    if found.group(1) is None and not _CARD_CUE.search(window, max(0, at - 40), at):
        if len(number) not in (15, 16) or window[max(0, at - 1) : at] in (b"=", b"/", b"+", b"."):
            return None
        if len(set(number[1:])) < 3 or number.endswith(b"000000") or _CALL.search(window, 0, at):
            return None
    return found.span()


def _has_issuer(number: bytes) -> bool:
    size, two, three, four = len(number), int(number[:2]), int(number[:3]), int(number[:4])
    return (
        (number[:1] == b"4" and size in (13, 16, 19))  # Visa
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and size == 16)  # Mastercard
        or (two in (34, 37) and size == 15)  # American Express
        or ((four == 6011 or 644 <= three <= 649 or two == 65) and 16 <= size <= 19)  # Discover
        or (3528 <= four <= 3589 and 16 <= size <= 19)  # JCB
        or ((300 <= three <= 305 or two in (36, 38, 39)) and 14 <= size <= 19)  # Diners Club
        or (two == 62 and 16 <= size <= 19)  # UnionPay
        or (two in (50, 56, 57, 58) and 12 <= size <= 19)  # Maestro
    )


_IBAN = re.compile(rb"[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)")


def find_iban(window: bytes, at: int) -> Span | None:
    """Return the span of an IBAN (ISO 13616) in one piece or in fours: length and form by country, check digits mod 97."""
    found = _IBAN.match(window, at)
    size = _iban_size(found.group()[:2].decode()) if found is not None else 0
    if found is None or not size:
        return None
    text, stop = found.group(), found.end()
    if b" " in text:  # what follows in capitals may have been taken for a part of it
        text = text[: size + (size - 1) // 4]
        stop = at + len(text)
    number = text.replace(b" ", b"").decode()
    is_whole = len(number) == size and not text.endswith(b" ") and not window[stop : stop + 1].isalnum()
    return (at, stop) if is_whole and iban.is_valid(number, check_country=False) else None


@cache
def _iban_size(country: str) -> int:
    """Return the length of a country's IBANs by SWIFT's registry, or 0 for a country that has none."""
    [(_, entry)] = numdb.get("iban").info(country)
    return 4 + sum(map(int, re.findall(r"\d+", entry["bban"]))) if entry else 0


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


def find_phone(window: bytes, at: int) -> Span | None:
    """A telephone number, where `at` is its first digit.

    `+` and 8 to 15 digits (E.164), in groups or from 10 digits on in one piece; the North American form 555-234-5678,
    555.234.5678 or (555) 234-5678 by its own rule for area and exchange; other national forms of 7 to 15 digits only behind a
    word like "phone" or "fax". Left: numbers kept for fiction (555-0100 to 555-0199), area 555, unassigned countries, dates,
    decimals, spaced groups without that word.
    """
    has_cue = _PHONE_CUE.search(window, max(0, at - 40), at - (window[max(0, at - 1) : at] in (b"+", b"("))) is not None
    if window[max(0, at - 1) : at] == b"+":
        return _international(window, at - 1, has_cue)
    return _north_american(window, at, has_cue) or (_national(window, at) if has_cue else None)


def _international(window: bytes, at: int, has_cue: bool) -> Span | None:
    before = window[max(0, at - 1) : at]
    if before.isalnum() or (before and before in b"_)]=+.*/^" and not has_cue):
        return None
    found = _INTERNATIONAL.match(window, at)
    while found is not None:
        number, groups = digits_of(found.group()), re.findall(rb"\d+", found.group())
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


def _north_american(window: bytes, at: int, has_cue: bool) -> Span | None:
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


def _national(window: bytes, at: int) -> Span | None:
    found = _NATIONAL.match(window, at - (window[max(0, at - 1) : at] == b"("))
    if found is not None and found.group().startswith(b"(") and b")" not in found.group():
        found = _NATIONAL.match(window, at)
    if found is None or _DATE.match(window, at) or not ends_here(window, found.end()):
        return None
    number, groups = digits_of(found.group()), re.findall(rb"\d+", found.group())
    is_decimal = len(groups) == 2 and b"." in found.group()
    if not 7 <= len(number) <= 15 or is_decimal or _FICTION.search(found.group()) or len(set(number)) < 3:
        return None
    return found.span()
