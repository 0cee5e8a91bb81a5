"""Find payment card numbers and IBANs.

In: a window of bytes and the position of the first character. Out: the span of the number, or None.
"""

from __future__ import annotations

import re
from functools import cache

from stdnum import iban, luhn, numdb
from stdnum.iso7064 import mod_97_10

from model.masking.spans import Span, ends_here, extract_digits

_CARD = re.compile(rb"\d{4}([ .-])(?:\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{6}\1\d{4,5})|\d{12,19}")
_CARD_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:cards?|cc|visa|master ?card|amex|american express|discover|maestro|jcb|diners(?: club)?|debit|credit"
    rb"|charged?|pay|paid|payments?|billed|billing|atm"
    rb"|(?:kredit)?karten?|kartennummer|carte|tarjeta|carta|cart\xc3\xa3o|kaart|karta)\W"
)


_CALL = re.compile(rb"\w\(\Z")


def find_card(window: bytes, at: int) -> Span | None:
    """Return the span of 12 to 19 digits with an issuer's prefix and length (ISO/IEC 7812) and a valid Luhn check digit.

    Without separators (1 in 10 identifiers passes the Luhn check) only 15 and 16 digits match, not after `=` or `/`, not as an
    argument, and not if nearly all digits are equal, unless a word like "card" precedes; after such a word a valid check digit is
    enough for any issuer.
    """
    found = _CARD.match(window, at)
    if found is None or not ends_here(window, found.end()):
        return None
    number = extract_digits(found.group())
    has_cue = _CARD_CUE.search(window, max(0, at - 40), at) is not None
    if not luhn.is_valid(number.decode()) or not (_has_issuer(number) or (has_cue and len(set(number)) > 3)):
        return None
    if number.endswith(b"000000000"):
        return None
    if found.group(1) is None and not has_cue:
        if len(number) not in (15, 16) or window[max(0, at - 1) : at] in (b"=", b"/", b"+", b"."):
            return None
        if len(set(number[1:])) < 3 or number.endswith(b"000000") or _CALL.search(window, 0, at):
            return None
    return found.span()


def _has_issuer(number: bytes) -> bool:
    """Return whether an issuer uses this prefix and length."""
    size, two, three, four = len(number), int(number[:2]), int(number[:3]), int(number[:4])
    return (
        (number[:1] == b"4" and size in (13, 16, 19))  # Visa
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and size == 16)  # Mastercard
        or (two in (34, 37) and size == 15)  # American Express
        or ((four == 6011 or 644 <= three <= 649 or two == 65) and 16 <= size <= 19)  # Discover
        or ((two == 35 and size == 16) or (3528 <= four <= 3589 and size <= 19))  # JCB
        or (four in (1800, 2131) and size == 15)  # JCB's older form
        or ((300 <= three <= 305 or two in (36, 38, 39)) and 14 <= size <= 19)  # Diners Club
        or (two == 62 and 16 <= size <= 19)  # UnionPay
        or ((two in (50, 56, 57, 58) or four in (6304, 6759, 6761, 6762, 6763)) and 12 <= size <= 19)  # Maestro
    )


_IBAN_CUE = re.compile(rb"(?i)(?<![<\w])(?:iban|accounts?|konto|kontonummer|compte|cuenta|conto|rekening)\W")
_ODD_IBAN = re.compile(rb"(?i)[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)")
_IBAN = re.compile(rb"(?i)[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?:([ -])[A-Z0-9]{1,30}(?:\1[A-Z0-9]{1,30}){0,8}))")


def find_iban(window: bytes, at: int) -> Span | None:
    """Return the span of an IBAN (ISO 13616), plain or in groups, in either case: length and form by country, mod 97."""
    found = _IBAN.match(window, at)
    size = _get_iban_size(found.group()[:2].decode().upper()) if found is not None else 0
    if found is None or not size:
        return None
    stop = found.end()
    if found.group(1):  # words that follow may have been matched as a part of it
        n, stop = 0, at
        while n < size and stop < found.end():
            n += window[stop : stop + 1].isalnum()
            stop += 1
    number = window[at:stop].translate(None, b" -").decode().upper()
    is_whole = len(number) == size and not window[stop : stop + 1].isalnum()
    return (at, stop) if is_whole and iban.is_valid(number, check_country=False) else None


def find_odd_iban(window: bytes, at: int) -> Span | None:
    """Return the span of 15 to 34 letters and digits with valid check digits after a word like "IBAN", whatever their country."""
    found = _ODD_IBAN.match(window, at)
    if found is None or not ends_here(window, found.end()) or not _IBAN_CUE.search(window, max(0, at - 40), at):
        return None
    number = found.group().replace(b" ", b"").decode().upper()
    return found.span() if 15 <= len(number) <= 34 and mod_97_10.is_valid(number[4:] + number[:4]) else None


@cache
def _get_iban_size(country: str) -> int:
    """Return the length of a country's IBANs in SWIFT's registry, or 0 for a country without IBANs."""
    [(_, entry)] = numdb.get("iban").info(country)
    return 4 + sum(map(int, re.findall(r"\d+", entry["bban"]))) if entry else 0
