"""Find national identity numbers that have check digits or a distinctive form.

In: a window of bytes and the position of the first character. Out: the span of the number, or None. Found without a cue word before
it: US social security (its hyphens and ranges), UK National Insurance (its prefixes), Spain's DNI and NIE, Italy's codice fiscale,
France's NIR, Brazil's CPF with punctuation, China's resident identity number. Found only after a cue word, because 1 in 10 or 11
numbers passes the check: Germany's Steuer-ID, Poland's PESEL, the Netherlands' BSN, India's Aadhaar, Brazil's CPF without
punctuation. Does not cover: all other countries.

The patterns and cue words are ours; check digits, ranges and dates are verified by python-stdnum. For Chinese numbers only the
check digit is verified: stdnum also requires that the county existed in the year of birth, but it may be that of registration.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

from model.masking.spans import Span, ends_here

_AS_DIGITS = str.maketrans("XYZ", "012")


class _Kind(NamedTuple):
    """A kind of number: its form, its check, and the cue word that must precede it, if any."""

    form: re.Pattern[bytes]
    is_valid: Callable[[str], bool]
    cue: re.Pattern[bytes] | None = None


def find_id(window: bytes, at: int) -> Span | None:
    """Return the span of a number of one of the kinds above, where `at` is its first character."""
    for kind in _KINDS:
        found = kind.form.match(window, at)
        if (
            found is not None
            and ends_here(window, found.end())
            and (kind.cue is None or kind.cue.search(window, max(0, at - 40), at))
            and kind.is_valid(found.group().decode())
        ):
            return found.span()
    return _find_nino(window, at - 3)


def _find_nino(window: bytes, at: int) -> Span | None:
    """Return the span of `AB 12 34 56 C`, of which the scan has found the digits."""
    if at < 0 or window[at + 2 : at + 3] != b" " or (at and window[at - 1 : at].isalnum()):
        return None
    found = _NINO.match(window, at)
    return found.span() if found is not None and ends_here(window, found.end()) else None


def _is_ssn(text: str) -> bool:
    """Return whether the social security number is valid and not the usual placeholder."""
    return ssn.is_valid(text) and text != "123-45-6789"


def _is_nino(text: str) -> bool:
    """Return whether the National Insurance number is no placeholder such as AA111111A."""
    return text[:2] != "AA" or len(set(text[2:-1])) > 2


def _is_dni_or_nie(text: str) -> bool:
    """Return whether the check letter is valid; a number with at most two distinct digits, such as 00000001, is a placeholder."""
    return (dni.is_valid(text) or nie.is_valid(text)) and len(set(text[:-1].rstrip("-").translate(_AS_DIGITS))) > 2


def _is_cpf(text: str) -> bool:
    """Return whether the check digits are valid and the digits not all equal."""
    return cpf.is_valid(text) and len(set(cpf.compact(text))) > 1


def _is_resident(text: str) -> bool:
    """Return whether the check digit of a Chinese resident identity number is valid."""
    return ric.calc_check_digit(text) == text[-1]


_NINO = re.compile(rb"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]")
_KINDS = (
    _Kind(re.compile(rb"\d{3}-\d\d-\d{4}"), _is_ssn),
    _Kind(_NINO, _is_nino),
    _Kind(re.compile(rb"(?:\d{8}|[XYZ]\d{7})-?[A-Z]"), _is_dni_or_nie),
    _Kind(
        re.compile(rb"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]"), codicefiscale.is_valid
    ),
    _Kind(  # Corsica's 2A and 2B are not covered
        re.compile(rb"[12]( ?)\d\d\1(?:0[1-9]|1[0-2]|[2-9]\d)\1\d\d\1\d{3}\1\d{3}\1\d\d"), nir.is_valid
    ),
    _Kind(re.compile(rb"\d{3}\.\d{3}\.\d{3}-\d\d"), _is_cpf),
    _Kind(re.compile(rb"[1-8]\d{5}(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dX]"), _is_resident),
    _Kind(
        re.compile(rb"\d{11}|\d\d \d{3} \d{3} \d{3}"),
        idnr.is_valid,
        re.compile(rb"(?i)(?<![<\w])(?:steuer\S{0,30}|idnr\.?|tin)\W"),
    ),
    _Kind(re.compile(rb"\d{11}"), pesel.is_valid, re.compile(rb"(?i)(?<![<\w])pesel\W")),
    _Kind(
        re.compile(rb"\d{9}"),
        bsn.is_valid,
        re.compile(rb"(?i)(?<![<\w])(?:bsn|burgerservice\w{0,10}|sofi\w{0,10})\W"),
    ),
    _Kind(
        re.compile(rb"\d{4} ?\d{4} ?\d{4}"), aadhaar.is_valid, re.compile(rb"(?i)(?<![<\w])(?:aadhaa?r|uid(?:ai)?)\W")
    ),
    _Kind(re.compile(rb"\d{11}"), _is_cpf, re.compile(rb"(?i)(?<![<\w])cpf\W")),
)
