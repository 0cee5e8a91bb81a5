"""Conversions are exact, invert, and refuse what they can't read; Pint loads with the first of them."""

from __future__ import annotations

import subprocess
import sys
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.tools.arithmetic import format_number
from assistant.tools.units import DIGITS, convert_units

# Exact by definition: the international yard and pound (1959), the liter, the calorie, the light-year.
FACTORS = {
    ("mile", "kilometer"): Fraction("1.609344"),
    ("inch", "centimeter"): Fraction("2.54"),
    ("pound", "kilogram"): Fraction("0.45359237"),
    ("hour", "second"): Fraction(3600),
    ("gallon", "liter"): Fraction("3.785411784"),
    ("kWh", "joule"): Fraction(3_600_000),
    ("gibibyte", "byte"): Fraction(2**30),
    ("mile/hour", "meter/second"): Fraction("0.44704"),
}


@given(st.sampled_from(sorted(FACTORS)), st.decimals(0, 10**6, places=3), st.booleans())
def test_conversions_are_exact_in_both_directions(pair: tuple[str, str], amount: object, is_reversed: bool) -> None:
    factor = FACTORS[pair]
    source, target = reversed(pair) if is_reversed else pair
    expected = Fraction(str(amount)) / factor if is_reversed else Fraction(str(amount)) * factor
    assert (
        convert_units(f"{amount} {source} -> {target}")
        == f"{amount} {source} = {format_number(expected, DIGITS)} {target}"
    )


@given(st.integers(-1_000, 1_000))
def test_temperatures_have_their_offset(degrees: int) -> None:
    expected = format_number(Fraction(degrees) * 9 / 5 + 32, DIGITS)
    for source, target in (
        ("celsius", "fahrenheit"),
        ("C", "F"),
        ("°C", "F"),
        ("c", "Fahrenheit"),
        ("degrees C", "degrees Fahrenheit"),
    ):
        assert convert_units(f"{degrees} {source} -> {target}") == f"{degrees} {source} = {expected} {target}"


@pytest.mark.parametrize(
    ("conversion", "answer"),
    [
        ("12.5 mile -> kilometer", "12.5 mile = 20.1168 kilometer"),
        ("5 foot 7 inch -> centimeter", "5 foot 7 inch = 170.18 centimeter"),
        ("5 ft 7 in to cm", "5 ft 7 in = 170.18 cm"),
        ("5'11\" -> cm", "5'11\" = 180.34 cm"),
        ("10 in in cm", "10 in = 25.4 cm"),
        ("a mile -> km", "a mile = 1.609344 km"),
        ("1,500 Meters -> KILOMETERS", "1,500 Meters = 1.5 KILOMETERS"),
        ("1/2 cup -> ml", "1/2 cup = 118.29412 ml"),
        ("250 sq ft -> m2", "250 sq ft = 23.22576 m2"),
        ("2 cubic feet → litres", "2 cubic feet = 56.633693 litres"),
        ("10 kilometers per hour -> m/s", "10 kilometers per hour = 2.7777778 m/s"),
        ("1 kg*m/s^2 -> newton", "1 kg*m/s^2 = 1 newton"),
        ("30 mpg -> l/100km", "30 mpg = 7.8404861 l/100km"),
        ("500 KB -> MB", "500 KB = 0.5 MB"),
        ("2 Gb -> MB", "2 Gb = 250 MB"),
        ("3 kilos -> lbs", "3 kilos = 6.6138679 lbs"),
        ("1 light year -> km", "1 light year = 9460730472580.8 km"),
    ],
)
def test_what_people_type(conversion: str, answer: str) -> None:
    assert convert_units(conversion) == answer


@pytest.mark.parametrize(
    ("conversion", "part"),
    [
        ("1 kilogram -> mile", "measure different things"),
        ("100 C -> m", "measure different things"),
        ("5 parsnips -> kg", "there is no unit 'parsnips'"),
        ("5 dollar -> euro", "there is no unit 'euro'"),
        ("1 convert -> m", "there is no unit"),
        ("1 Quantity -> m", "there is no unit"),
        ("1 __class__ -> m", "there is no unit"),
        ("1 m**99 -> m", "there is no unit"),
        ("1 m^9^9 -> m", "there is no unit"),
        ("1 " + "*".join("m" * 20) + " -> m", "there is no unit"),
        ("5 celsius 3 celsius -> kelvin", "temperatures can't be"),
        ("1 celsius*meter -> kelvin*meter", "temperatures can't be"),
        ("1/0 m -> km", "division by zero"),
        ("0 mpg -> l/100km", "division by zero"),
        ("1e99 lightyear -> nanometer", "more than 100 digits"),
        ("5 -> 3", "is not an amount with a unit"),
        ("5 m", "write a conversion as in"),
        ("m " * 10_000 + "-> km", "longer than"),
        ("", "write a conversion as in"),
    ],
)
def test_refusals_name_the_reason(conversion: str, part: str) -> None:
    answer = convert_units(conversion)
    assert answer.startswith("error: ")
    assert part in answer


@given(st.text(max_size=80) | st.text("0123456789.,/*^ ->'mkgincs²°CFperto", max_size=40).map("{} -> m".format))
def test_any_text_gives_one_line_quickly(text: str) -> None:
    started_at = time.perf_counter()
    answer = convert_units(text)
    assert time.perf_counter() - started_at < 1.5  # the first one loads Pint
    assert len(answer) < 400
    assert "\n" not in answer


def test_a_chat_that_converts_nothing_does_not_import_pint() -> None:
    code = "import sys; import assistant.tools.toolbox; sys.exit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
