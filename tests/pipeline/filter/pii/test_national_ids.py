"""Random and corrected numbers are found exactly if python-stdnum accepts their check digits."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn
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

from model.masking.national_ids import find_id
from model.masking.payment_numbers import find_card, find_iban
from pipeline.filter.pii.redact import redact
from tests.pipeline.filter.pii.marked import split_marked


def digits(n: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=n, max_size=n)


def catch_errors(is_valid: Callable[[str], object]) -> Callable[[str], bool]:
    """Return a check of the check digits alone; some of stdnum's validators also require valid dates and places."""

    def check(number: str) -> bool:
        try:
            return bool(is_valid(number))
        except ValueError:
            return False

    return check


def check_digits_equal(body: int, calculate: Callable[[str], str]) -> Callable[[str], bool]:
    return lambda number: calculate(number[:body]) == number[body:]


def with_letters(body: st.SearchStrategy[str], letters: str) -> st.SearchStrategy[str]:
    return body.flatmap(lambda text: st.sampled_from(letters).map(text.__add__))


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DATES = "(18|19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])"
CODICE = r"[A-Z]{6}[0-9]{2}[ABCDEHLMPRST](0[1-9]|1[0-9]|2[0-8])[A-Z][0-9]{3}"
# finder, cue word, numbers of this form, the check by python-stdnum's own functions
CASES = {
    "luhn": (find_card, "", digits(15).map("4{}".format), luhn.is_valid),
    "bsn": (find_id, "BSN ", digits(9), lambda number: bsn.checksum(number) == 0 and int(number) > 0),
    "pesel": (find_id, "PESEL ", digits(11), pesel.is_valid),
    "steuer": (find_id, "Steuer-ID ", digits(11), idnr.is_valid),
    "aadhaar": (find_id, "Aadhaar ", digits(12), aadhaar.is_valid),
    "cpf": (find_id, "CPF ", digits(11), lambda number: cpf.is_valid(number) and len(set(number)) > 1),
    "dni": (find_id, "", with_letters(digits(8), LETTERS), dni.is_valid),
    "nie": (find_id, "", with_letters(st.from_regex(r"[XYZ][0-9]{7}", fullmatch=True), LETTERS), nie.is_valid),
    "nir": (find_id, "", st.from_regex(r"[12][0-9]{2}(0[1-9]|1[0-2])[0-9]{10}", fullmatch=True),
            check_digits_equal(13, nir.calc_check_digits)),
    "resident": (find_id, "", with_letters(st.from_regex(rf"[1-8][0-9]{{5}}{DATES}[0-9]{{3}}", fullmatch=True), "0123456789X"),
                 check_digits_equal(17, lambda body: ric.calc_check_digit(body + "0"))),
    "codice": (find_id, "", with_letters(st.from_regex(CODICE, fullmatch=True), LETTERS),
               check_digits_equal(15, codicefiscale.calc_check_digit)),
    "iban": (find_iban, "", digits(20).map("DE{}".format), lambda number: iban.is_valid(number, check_country=False)),
}  # fmt: skip
CORRECT = {  # turns a random number into a valid one
    "luhn": lambda number: number[:-1] + luhn.calc_check_digit(number[:-1]),
    "nir": lambda number: number[:13] + nir.calc_check_digits(number[:13]),
    "cpf": lambda number: number[:9] + cpf._calc_check_digits(number[:9]),  # pyright: ignore[reportPrivateUsage]
    "dni": lambda number: number[:8] + dni.calc_check_digit(number[:8]),
    "nie": lambda number: number[:8] + nie.calc_check_digit(number[:8]),
    "resident": lambda number: number[:17] + ric.calc_check_digit(number[:17] + "0"),
    "codice": lambda number: number[:15] + codicefiscale.calc_check_digit(number[:15]),
    "iban": lambda number: "DE" + iban.calc_check_digits("DE00" + number[4:]) + number[4:],
}


def is_placeholder(name: str, number: str) -> bool:
    """Return whether we treat a number as a placeholder that stdnum accepts, such as DNI 0000001 or card 4000000000000002."""
    if name == "luhn":
        return len(set(number[1:])) < 3 or number.endswith("000000")
    return name in ("dni", "nie") and len(set(number[:8].translate(str.maketrans("XYZ", "012")))) < 3


@pytest.mark.parametrize("name", CASES)
def test_check_digits_equal_stdnums(name: str) -> None:
    find, cue, numbers, is_valid = CASES[name]
    last = name in ("bsn", "pesel", "steuer", "aadhaar")

    @given(numbers)
    @settings(max_examples=150)
    def check(number: str) -> None:
        # one of the ten last digits is valid
        for each in [number[:-1] + digit for digit in "0123456789"] if last else [number, CORRECT[name](number)]:
            if not is_placeholder(name, each):
                span = find(f"{cue}{each} ".encode(), len(cue))
                assert span == ((len(cue), len(cue) + len(each)) if catch_errors(is_valid)(each) else None), each

    check()


def test_a_form_that_the_country_does_not_use_and_an_invalid_date_are_kept() -> None:
    """Keep numbers with valid check digits: German account numbers have no letters, and no month has 39 days."""
    account = "DE" + iban.calc_check_digits("DE00ABCD12345678901234") + "ABCD12345678901234"
    code = "RSSMRA85T39A562" + codicefiscale.calc_check_digit("RSSMRA85T39A562")
    for text in (account, code):
        assert redact(pa.array([text])).texts.to_pylist() == [text]


def test_social_security_numbers_equal_stdnums() -> None:
    areas = ("001", "665", "666", "667", "899", "900", "000", "536")
    numbers = [
        f"{area}-{group}-{serial}"
        for area in areas
        for group in ("00", "01", "99")
        for serial in ("0000", "0001", "4399")
    ]
    numbers += ["078-05-1120", "219-09-9999", "457-55-5462"]
    got = redact(pa.array([f"SSN {number}" for number in numbers])).counts.column("pii_national_id").to_pylist()
    assert got == [int(ssn.is_valid(number)) for number in numbers]


@pytest.mark.parametrize(
    "text",
    [
        "SSN: {536-90-4399}.",
        "NI number {AB 12 34 56 C}, {JG103759A}",
        "DNI {54362315K} NIE {X2482300W} DNI {54362315-K}",
        "C.F. {RCCMNL83S18D969H}",
        "NIR {295109912611193} or {2 95 10 99 126 111 93}",
        "CPF {390.533.447-05}; CPF: {39053344705}",
        "身份证 {11010519491231002X}",
        "Steuer-ID: {36574261809}, IdNr. {36 574 261 809}",
        "PESEL {44051401359}",
        "BSN: {111222333}",
        "Aadhaar No. {2341 2341 2346}",
    ],
)
def test_each_form_is_replaced_exactly(text: str) -> None:
    plain, expected = split_marked(text, "<NATIONAL_ID>")
    assert redact(pa.array([plain])).texts.to_pylist() == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "36574261809",
        "44051401359 rows",
        "111222333",
        "2341 2341 2346",
        "39053344705",
        "AB123456E",
        "BG123456A",
        "QQ 12 34 56 C",
    ],
)
def test_numbers_that_need_a_cue_word_are_kept_without_it(text: str) -> None:
    assert redact(pa.array([text])).texts.to_pylist() == [text]
