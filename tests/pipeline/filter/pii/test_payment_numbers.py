"""Card numbers of all issuers and IBANs in every spelling are replaced; numbers that only look like them are not."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from stdnum import iban, luhn

from pipeline.filter.pii.redact import redact


def redact_one(text: str) -> str:
    return redact(pa.array([text]), ["iban", "card"]).texts[0].as_py()


def make_card(rng: random.Random, prefix: str, size: int) -> str:
    body = prefix + "".join(rng.choices("0123456789", k=size - 1 - len(prefix)))
    return body + luhn.calc_check_digit(body)


PREFIXES = (
    *(("4", 13), ("4", 16), ("4", 19), ("51", 16), ("2720", 16), ("34", 15), ("6011", 16), ("65", 16), ("62", 17)),
    *(("3530", 16), ("3501", 16), ("3599", 16), ("1800", 15), ("2131", 15), ("300", 14), ("36", 14), ("38", 14)),
    *(("5018", 12), ("5893", 14), ("6304", 12), ("6759", 12), ("6761", 16), ("0604", 12), ("6390", 13)),
)


@pytest.mark.parametrize(("prefix", "size"), PREFIXES)
def test_cards_of_all_issuers_are_found_after_a_cue_word(prefix: str, size: int) -> None:
    rng = random.Random(5)
    for cue in ("card number", "my credit card is", "for cc", "Kreditkarte", "carte bancaire", "tarjeta:"):
        assert redact_one(f"{cue} {make_card(rng, prefix, size)}, please") == f"{cue} <CARD>, please"


@pytest.mark.parametrize("form", ["{}{}{}{}", "{} {} {} {}", "{}-{}-{}-{}", "{}.{}.{}.{}"])
def test_cards_in_groups(form: str) -> None:
    number = make_card(random.Random(6), "4539", 16)
    assert redact_one("n. " + form.format(*(number[at : at + 4] for at in range(0, 16, 4)))) == "n. <CARD>"


BANKS = {"DE": "", "GB": "NWBK", "NL": "ABNA", "FR": "", "CH": "", "NO": "", "BE": "", "ES": "", "PL": "", "MT": "MALT"}
SIZES = {"DE": 22, "GB": 22, "NL": 18, "FR": 27, "CH": 21, "NO": 15, "BE": 16, "ES": 24, "PL": 28, "MT": 31}


def group(number: str, sizes: list[int], joint: str = " ") -> str:
    ends = [sum(sizes[:at]) for at in range(len(sizes) + 1)]
    return joint.join(
        number[first:last] for first, last in zip(ends, [*ends[1:], len(number)], strict=True) if number[first:last]
    )


@pytest.mark.parametrize("country", SIZES)
def test_ibans_of_every_spelling_are_found(country: str) -> None:
    rng = random.Random(country)
    account = BANKS[country] + "".join(rng.choices("0123456789", k=SIZES[country] - 4 - len(BANKS[country])))
    number = country + iban.calc_check_digits(f"{country}00{account}") + account
    spelled = [
        number,
        group(number, [4] * 7),
        group(number, [4] * 7, "-"),
        group(number, [4, 4]),
        group(number, [4, 3, 5]),
    ]
    for each in [*spelled, *(each.lower() for each in spelled), *(each.title() for each in spelled)]:
        for text in ("IBAN {}.", "({})", "my iban is {} thanks a lot", "{},BIC"):
            assert redact_one(text.format(each)) == text.format("<IBAN>")


def test_ibans_of_a_wrong_length_need_a_cue_word() -> None:
    number = "GB" + iban.calc_check_digits("GB00VRZN5343786100003") + "VRZN5343786100003"
    assert (
        redact_one(f"IBAN: {number}, my account {group(number, [4] * 5).lower()}.")
        == "IBAN: <IBAN>, my account <IBAN>."
    )
    for text in (f"IBAN {number[:-1]}4", f"item {number}"):
        assert redact_one(text) == text


def test_numbers_that_are_neither_are_kept() -> None:
    for text in (
        "GB82WEST12345698765433 gb82 west 1234 5698 7654 33 DE00 1234 5678 AB12 CD34 EF56",
        "sh01 the quick brown fox jumps, de44 and more of it, be12 3456, ab12cdef3456789012",
        "card 1234 5678 9012 3456, cards 123456789013, card 4111 1111 1111 1112 and then, much later in the line, 630427373398",
    ):
        assert redact_one(text) == text
