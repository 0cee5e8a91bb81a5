"""Check digits against python-stdnum's, on numbers at random and on numbers made right."""

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

from pipeline.text import pii_ids, pii_numbers
from pipeline.text.pii import redact


def digits(n: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=n, max_size=n)


def valid(is_right: Callable[[str], object]) -> Callable[[str], bool]:
    """As the check digits alone are concerned: some of stdnum's validators also ask for dates and places."""

    def check(number: str) -> bool:
        try:
            return bool(is_right(number))
        except ValueError:
            return False

    return check


def checked(body: int, calculate: Callable[[str], str]) -> Callable[[str], bool]:
    return lambda number: calculate(number[:body]) == number[body:]


CODICE_LETTERS = st.from_regex(r"[A-Z]{6}[0-9]{2}[ABCDEHLMPRST](0[1-9]|1[0-9]|2[0-8])[A-Z][0-9]{3}", fullmatch=True)
CASES = {
    "luhn": (digits(16), pii_numbers.is_luhn, luhn.is_valid),
    "bsn": (digits(9), pii_ids.is_bsn, lambda number: bsn.checksum(number) == 0 and int(number) > 0),
    "pesel": (digits(11), pii_ids.is_pesel, pesel.is_valid),
    "steuer": (digits(11), pii_ids.is_steuer_id, idnr.is_valid),
    "aadhaar": (digits(12), pii_ids.is_aadhaar, aadhaar.is_valid),
    "cpf": (digits(11), pii_ids.is_cpf, lambda number: cpf.is_valid(number) and len(set(number)) > 1),
    "dni": (st.from_regex(r"[0-9]{8}[A-Z]", fullmatch=True), pii_ids.is_dni, dni.is_valid),
    "nie": (st.from_regex(r"[XYZ][0-9]{7}[A-Z]", fullmatch=True), pii_ids.is_dni, nie.is_valid),
    "nir": (digits(15), pii_ids.is_nir, checked(13, nir.calc_check_digits)),
    "resident": (digits(17).flatmap(lambda body: st.sampled_from("0123456789X").map(body.__add__)), pii_ids.is_resident,
                 checked(17, lambda body: ric.calc_check_digit(body + "0"))),
    "codice": (CODICE_LETTERS.flatmap(lambda body: st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ").map(body.__add__)),
               pii_ids.is_codice, checked(15, codicefiscale.calc_check_digit)),
    "iban": (digits(20).map("DE{}".format), pii_numbers.is_iban, lambda number: iban.is_valid(number, check_country=False)),
}  # fmt: skip
RIGHT_ONES = {  # makes a right number of a random one
    "luhn": lambda number: number[:-1] + luhn.calc_check_digit(number[:-1]),
    "nir": lambda number: number[:13] + nir.calc_check_digits(number[:13]),
    "cpf": lambda number: number[:9] + cpf._calc_check_digits(number[:9]),
    "dni": lambda number: number[:8] + dni.calc_check_digit(number[:8]),
    "nie": lambda number: number[:8] + nie.calc_check_digit(number[:8]),
    "resident": lambda number: number[:17] + ric.calc_check_digit(number[:17] + "0"),
    "codice": lambda number: number[:15] + codicefiscale.calc_check_digit(number[:15]),
    "iban": lambda number: "DE" + iban.calc_check_digits("DE00" + number[4:]) + number[4:],
}


@pytest.mark.parametrize("name", CASES)
def test_check_digits_equal_stdnums(name: str) -> None:
    numbers, ours, theirs = CASES[name]
    last = name in ("bsn", "pesel", "steuer", "aadhaar")

    @given(numbers)
    @settings(max_examples=150)
    def check(number: str) -> None:
        # of the ten last digits one is right
        for each in [number[:-1] + digit for digit in "0123456789"] if last else [number, RIGHT_ONES[name](number)]:
            # 0000001 too is a DNI to stdnum; to us it is a stand-in
            if name in ("dni", "nie") and len(set(each[:8].translate(str.maketrans("XYZ", "012")))) < 3:
                continue
            assert ours(each.encode()) == valid(theirs)(each), each

    check()


def test_social_security_numbers_equal_stdnums() -> None:
    areas = ("001", "665", "666", "667", "899", "900", "000", "536")
    numbers = [
        f"{area}-{group}-{serial}"
        for area in areas
        for group in ("00", "01", "99")
        for serial in ("0000", "0001", "4399")
    ]
    numbers += ["078-05-1120", "219-09-9999"]
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
def test_each_form_is_found_and_no_more(text: str) -> None:
    plain = text.replace("{", "").replace("}", "")
    expected = "".join(
        part if i % 2 == 0 else "<NATIONAL_ID>" for i, part in enumerate(text.replace("}", "{").split("{"))
    )
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
def test_what_needs_a_word_before_it_stays_without(text: str) -> None:
    assert redact(pa.array([text])).texts.to_pylist() == [text]
