"""National identity numbers: those with check digits or a form that nothing else has.

In and out as in `pii_numbers`. Without a word that announces them: US social security (its hyphens and ranges), UK National
Insurance (its prefixes), Spain's DNI and NIE, Italy's codice fiscale, France's NIR, Brazil's CPF with its points, China's resident
identity number. Behind such a word only, because one number in ten or eleven would do: Germany's Steuer-ID, Poland's PESEL,
the Netherlands' BSN, India's Aadhaar, Brazil's CPF in one piece. All other countries' are not covered.
"""

from __future__ import annotations

import re
from datetime import date

from pipeline.text.pii_numbers import Span, digits_of, ends_here

_SSN = re.compile(rb"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}")
_SSN_NEVER = (b"078-05-1120", b"219-09-9999", b"123-45-6789")  # printed on sample cards and in every manual: nobody's
_NINO = re.compile(rb"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]")
_DNI = re.compile(rb"(?:\d{8}|[XYZ]\d{7})-?([A-Z])")
_CODICE = re.compile(rb"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]")
_NIR = re.compile(
    rb"[12]( ?)\d\d\1(?:0[1-9]|1[0-2]|[2-9]\d)\1\d\d\1\d{3}\1\d{3}\1(?P<key>\d\d)"
)  # Corsica's 2A and 2B are not covered
_CPF = re.compile(rb"\d{3}\.\d{3}\.\d{3}-\d\d")
_RESIDENT = re.compile(rb"[1-8]\d{5}(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dX]")


def find_id(window: bytes, at: int) -> Span | None:
    """A number of one of the kinds above, where `at` is its first letter or digit."""
    for pattern, is_right in _FORMS:
        found = pattern.match(window, at)
        if found is not None and ends_here(window, found.end()) and is_right(found.group()):
            return found.span()
    if window[max(0, at - 1) : at] == b" " and window[max(0, at - 3) : at - 1].isupper():
        found = _NINO.match(window, at - 3)
        if found is not None and not window[max(0, at - 4) : at - 3].isalnum() and ends_here(window, found.end()):
            return found.span()
    return _announced(window, at)


def _announced(window: bytes, at: int) -> Span | None:
    for cue, pattern, is_right in _ANNOUNCED:
        found = pattern.match(window, at)
        if (
            found is not None
            and ends_here(window, found.end())
            and cue.search(window, max(0, at - 40), at)
            and is_right(digits_of(found.group()))
        ):
            return found.span()
    return None


def is_ssn(text: bytes) -> bool:
    return text not in _SSN_NEVER


def is_nino(text: bytes) -> bool:
    return text[:2] != b"AA" or len(set(text[2:-1])) > 2


def is_dni(text: bytes) -> bool:
    """The letter is the number modulo 23, X, Y and Z counting as 0, 1 and 2."""
    number = text[:-1].rstrip(b"-").translate(bytes.maketrans(b"XYZ", b"012"))
    return b"TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1] and len(set(number)) > 2


_CODICE_ODD = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def is_codice(text: bytes) -> bool:
    """Decree of 23 December 1976, article 7: odd places by a table, even ones by their rank, modulo 26."""
    letters = text.decode()
    total = sum(_CODICE_ODD[letter] for letter in letters[:15:2])
    total += sum(int(letter) if letter.isdigit() else ord(letter) - 65 for letter in letters[1:15:2])
    return chr(65 + total % 26) == letters[15]


def is_nir(text: bytes) -> bool:
    """The last two digits are 97 less the number modulo 97."""
    number = digits_of(text)
    return int(number[13:]) == 97 - int(number[:13]) % 97


def is_cpf(text: bytes) -> bool:
    number = [byte - 48 for byte in digits_of(text)]
    if len(set(number)) == 1:
        return False
    first = sum(digit * (10 - i) for i, digit in enumerate(number[:9])) * 10 % 11 % 10
    second = sum(digit * (11 - i) for i, digit in enumerate(number[:10])) * 10 % 11 % 10
    return number[9:] == [first, second]


def is_resident(text: bytes) -> bool:
    """GB 11643-1999: ISO 7064 mod 11-2."""
    total = sum((byte - 48) * pow(2, 17 - i, 11) for i, byte in enumerate(text[:17]))
    return b"10X98765432"[total % 11] == text[17]


def is_steuer_id(number: bytes) -> bool:
    """ISO 7064 mod 11,10; of the first ten digits exactly one occurs twice or three times."""
    counts = sorted(number[:10].count(digit) for digit in set(number[:10]))
    if number[:1] == b"0" or counts[-1] not in (2, 3) or counts[-2:-1] != [1]:
        return False
    product = 10
    for byte in number[:10]:
        product = ((byte - 48 + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == number[10] - 48


def is_pesel(number: bytes) -> bool:
    """A date of birth, with the century in the month, and weights 1, 3, 7, 9 modulo 10."""
    values = [byte - 48 for byte in number]
    month = values[2] * 10 + values[3]
    year = (1900, 2000, 2100, 2200, 1800)[month // 20] + values[0] * 10 + values[1]
    try:
        date(year, month % 20, values[4] * 10 + values[5])
    except ValueError:
        return False
    return (
        sum(value * weight for value, weight in zip(values, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True)) % 10 == 0
    )


def is_bsn(number: bytes) -> bool:
    values = [byte - 48 for byte in number]
    weighted = sum(value * (9 - i) for i, value in enumerate(values[:8])) - values[8]
    return weighted % 11 == 0 and any(values)


_VERHOEFF_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def is_aadhaar(number: bytes) -> bool:
    """Verhoeff's check in the dihedral group of order ten; first digit 2 to 9, no palindrome."""
    total = 0
    for place, byte in enumerate(reversed(number)):
        value = byte - 48
        for _ in range(place % 8):
            value = _VERHOEFF_STEP[value]
        total = _turned(total, value)
    return total == 0 and number[:1] not in (b"0", b"1") and number != number[::-1]


def _turned(a: int, b: int) -> int:
    """The product of two symmetries of a pentagon: 0 to 4 turns, 5 to 9 reflections."""
    if a < 5:
        return (a + b) % 5 if b < 5 else (a + b - 5) % 5 + 5
    return (a - 5 - b) % 5 + 5 if b < 5 else (a - b) % 5


_FORMS = (
    (_SSN, is_ssn),
    (_NINO, is_nino),
    (_DNI, is_dni),
    (_CODICE, is_codice),
    (_NIR, is_nir),
    (_CPF, is_cpf),
    (_RESIDENT, is_resident),
)
_ANNOUNCED = (
    (
        re.compile(rb"(?i)(?<![<\w])(?:steuer\S{0,30}|idnr\.?|tin)\W"),
        re.compile(rb"\d{11}|\d\d \d{3} \d{3} \d{3}"),
        is_steuer_id,
    ),
    (re.compile(rb"(?i)(?<![<\w])pesel\W"), re.compile(rb"\d{11}"), is_pesel),
    (re.compile(rb"(?i)(?<![<\w])(?:bsn|burgerservice\w{0,10}|sofi\w{0,10})\W"), re.compile(rb"\d{9}"), is_bsn),
    (re.compile(rb"(?i)(?<![<\w])(?:aadhaa?r|uid(?:ai)?)\W"), re.compile(rb"\d{4} ?\d{4} ?\d{4}"), is_aadhaar),
    (re.compile(rb"(?i)(?<![<\w])cpf\W"), re.compile(rb"\d{11}"), is_cpf),
)
