"""Find national identity numbers: those with check digits, or with a form that nothing else has.

In and out as in `pii_numbers`. Without a word that announces them: US social security (its hyphens and ranges), UK National
Insurance (its prefixes), Spain's DNI and NIE, Italy's codice fiscale, France's NIR, Brazil's CPF with its points, China's resident
identity number. Behind such a word only, because one number in ten or eleven would do: Germany's Steuer-ID, Poland's PESEL,
the Netherlands' BSN, India's Aadhaar, Brazil's CPF in one piece. The numbers of all other countries are not covered.

The patterns and words are ours; check digits, ranges and dates are verified by python-stdnum. Of a Chinese number only the check
digit is: stdnum also wants the county to have existed in the year of birth, which is not so where it is that of registration.
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

from pipeline.filter.pii.spans import Span, ends_here

_AS_DIGITS = str.maketrans("XYZ", "012")


class _Kind(NamedTuple):
    """Describe a kind of number: its form, its check, and the word before it without which it does not count."""

    form: re.Pattern[bytes]
    is_valid: Callable[[str], bool]
    cue: re.Pattern[bytes] | None = None


def find_id(window: bytes, at: int) -> Span | None:
    """Return the span of a number of one of the kinds above, where `at` is its first letter or digit."""
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
    """Return the span of `AB 12 34 56 C`, whose digits the scan has found."""
    if at < 0 or window[at + 2 : at + 3] != b" " or (at and window[at - 1 : at].isalnum()):
        return None
    found = _NINO.match(window, at)
    return found.span() if found is not None and ends_here(window, found.end()) else None


def _is_ssn(text: str) -> bool:
    return ssn.is_valid(text) and text != "123-45-6789"  # the stand-in of every manual


def _is_nino(text: str) -> bool:
    return text[:2] != "AA" or len(set(text[2:-1])) > 2


def _is_dni_or_nie(text: str) -> bool:
    """Return whether the check letter is right; a number of one or two digits, such as 00000001, is a stand-in."""
    return (dni.is_valid(text) or nie.is_valid(text)) and len(set(text[:-1].rstrip("-").translate(_AS_DIGITS))) > 2


def _is_cpf(text: str) -> bool:
    return cpf.is_valid(text) and len(set(cpf.compact(text))) > 1


def _is_resident(text: str) -> bool:
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
