"""Convert an amount between units: text in, one sentence out, or `error: …`.

In: `12.5 mile -> kilometer`, `20 celsius -> fahrenheit`, `60 mile/hour -> meter/second`, `5 foot 7 inch -> centimeter`.
Out: `12.5 mile = 20.1168 kilometer`, `20 celsius = 68 fahrenheit`, … : the argument's own names, and an exact result rounded
once to 8 significant digits (integers in full).

Definitions are Pint's, in exact fractions. Pint is imported by the first conversion (0.6 CPU-s), so that a chat that
converts nothing does not pay for it; further ones take a millisecond.

Covers: plurals, abbreviations, spellings of either side of the Atlantic, upper case, compound units (`kilometers per hour`,
`sq ft`, `m2`, `l/100km`), temperatures with their offset, reciprocals (`30 mpg -> l/100km`). Pint sees single names only: the
expression is split here, into at most eight factors with exponents of one digit, so a hostile one costs nothing.
Does not cover: currencies, and conversions that depend on the substance (`cup of flour -> gram`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from typing import Any, cast

from assistant.tools.arithmetic import format_number

MAX_CHARS = 120
MAX_FACTORS = 8
DIGITS = 8

_ARROWS = (  # the last one counts: `10 in in cm`
    re.compile(r"(?P<source>.+?)\s*(?:->|→|=>|=)\s*(?P<target>[^>→=]+)"),
    re.compile(r"(?P<source>.+)\s(?:to|into|in|as)\s(?P<target>.+)"),
)
_AMOUNT = re.compile(
    r"(?P<number>[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?)(?:\s*/\s*(?P<divisor>\d{1,9}))?"
    r"\s*(?P<unit>(?:[^\d\s,]|(?<=[^\d\s])[23]\b|(?<=[\^*/-])\d+|[ ](?!\d))+)(?:\s*(?:,|and)?\s*)",
    re.ASCII,
)
_FEET = re.compile(r"(?P<feet>\d{1,9})\s*['′]\s*(?:(?P<inches>\d{1,9})\s*(?:\"|″|'')?)?", re.ASCII)
_OPERATOR = re.compile(r"\s*(?:(?<!\*)(\*)(?!\*)|(/)|\b(per)\b|·|⋅)\s*")
_FACTOR = re.compile(
    r"(?P<number>\d{1,4})?\s*(?P<name>[^\d*/^]+?)\s*(?:(?:\^|\*\*)\s*(?P<power>-?[1-9])|(?P<digit>[23]))?", re.ASCII
)
_NAME = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+){0,3}")
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_NAMES = {  # what Pint does not know, or reads as something rarer (kilos: kiloseconds); exact case first, then lower case
    "kilo": "kilogram", "kilos": "kilogram", "kmh": "kph", "kmph": "kph",
    "fl oz": "fluid_ounce", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte", "Mb": "megabit",
    "Gb": "gigabit", "mbps": "megabit/second", "gbps": "gigabit/second", "btu": "BTU", "kwh": "kWh", "AU": "astronomical_unit",
    "sqft": "foot**2", "sqm": "meter**2", "mpg": "mile/gallon", "light years": "light_year",
}  # fmt: skip
_TEMPERATURE = re.compile(
    r"(?:°|deg(?:ree)?s?)? ?(?:(c)(?:elsius|entigrade)?|(f)(?:ahrenheit)?|(k)(?:elvins?)?)", re.IGNORECASE
)


class _RefusedError(ValueError):
    """The conversion is refused; the message is the reason."""


def convert_units(conversion: str) -> str:
    """Convert units, as in `12.5 mile -> kilometer`. Return the conversion as a sentence, or `error: ` and the reason.

    Never raises.
    """
    try:
        return _convert(conversion)
    except ZeroDivisionError:
        return "error: division by zero"
    except TypeError:  # pint.OffsetUnitCalculusError
        return "error: temperatures can't be added or multiplied"
    except ValueError as error:
        return f"error: {error}"


def _convert(conversion: str) -> str:
    source, target = _split(conversion)
    amounts = _split_amounts(source)
    goal_name = target
    if all(
        _TEMPERATURE.fullmatch(name) for name in (target, *(unit for _, unit in amounts))
    ):  # else C is coulomb, F farad
        amounts = [(number, _name_temperature(unit)) for number, unit in amounts]
        goal_name = _name_temperature(target)
    goal = _resolve(goal_name, Fraction(1))
    total = _resolve(amounts[0][1], amounts[0][0])
    for number, unit in amounts[1:]:
        total = total + _resolve(unit, number)
    dimensions = dict(total.dimensionality)
    if dimensions != dict(goal.dimensionality):
        if {name: -power for name, power in dimensions.items()} != dict(goal.dimensionality):
            raise _RefusedError(f"{source} can't be converted to {target}: they measure different things")
        total = 1 / total  # a consumption: distance per volume, or volume per distance
    result = Fraction(total.to(goal.units).magnitude) / Fraction(goal.magnitude)
    return f"{source} = {format_number(result, DIGITS)} {target}"


def _name_temperature(name: str) -> str:
    match = _TEMPERATURE.fullmatch(name)
    return ("degC", "degF", "kelvin")[(match.lastindex or 1) - 1] if match else name


def _split(conversion: str) -> tuple[str, str]:
    text = " ".join(conversion.split())
    if len(text) > MAX_CHARS:
        raise _RefusedError(f"the conversion is longer than {MAX_CHARS} characters")
    match = next(filter(None, (arrow.fullmatch(text) for arrow in _ARROWS)), None)
    if match is None:
        raise _RefusedError("write a conversion as in 12.5 mile -> kilometer")
    return match["source"], match["target"]


def _split_amounts(source: str) -> list[tuple[Fraction, str]]:
    """Return the amounts of `5 foot 7 inch`; a unit without a number counts once."""
    if feet := _FEET.fullmatch(source):
        return [(Fraction(feet["feet"]), "foot"), (Fraction(feet["inches"] or 0), "inch")]
    if not re.match(r"[-+]?[\d.]", source, re.ASCII):
        return [(Fraction(1), re.sub(r"^(?:an?|one)\s+", "", source))]
    text = re.sub(r"^([-+]?)\.", r"\g<1>0.", source)
    amounts: list[tuple[Fraction, str]] = []
    position = 0
    while position < len(text):
        match = _AMOUNT.match(text, position)
        if match is None:
            raise _RefusedError(f"{text[position:][:40]!r} is not an amount with a unit; write 12.5 mile -> kilometer")
        number = Fraction(match["number"].replace(",", "")) / Fraction(match["divisor"] or 1)
        amounts.append((number, match["unit"].removesuffix(" and").strip()))
        position = match.end()
    return amounts


def _resolve(text: str, number: Fraction) -> Any:
    """Return the quantity `number` × the unit `text`, a product of factors such as `kilogram*meter/second^2`."""
    registry = _load_registry()
    numbers, units = _split_factors(text)
    for factor, power in numbers:
        number = number * factor**power
    if [power for _, power in units] == [1]:  # a temperature has an offset: it can't be multiplied
        return registry.Quantity(number, units[0][0])
    product = registry.Quantity(number)
    for unit, power in units:
        product = product * registry.Quantity(Fraction(1), unit) ** power
    return product


def _split_factors(text: str) -> tuple[list[tuple[Fraction, int]], list[tuple[Any, int]]]:
    """Return the numbers (the 100 of `l/100km`) and the units of a product, each with its exponent."""
    numbers: list[tuple[Fraction, int]] = []
    units: list[tuple[Any, int]] = []
    sign = 1
    text = text.replace("²", "^2").replace("³", "^3").replace("°", "degree ").replace("_", " ").strip()
    for part in (piece for piece in _OPERATOR.split(text) if piece):
        if part in ("*", "/", "per"):
            sign = 1 if part == "*" else -1
            continue
        match = _FACTOR.fullmatch(part)
        if match is None or len(units) == MAX_FACTORS:
            raise _RefusedError(f"there is no unit {part[:40]!r}")
        words = match["name"].split()
        power = sign * int(match["power"] or match["digit"] or 1)
        for word in words:
            power *= _POWERS.get(word.lower(), 1)
        if match["number"]:
            numbers.append((Fraction(match["number"]), sign))
        units += [(unit, power) for unit in _find_units(" ".join(w for w in words if w.lower() not in _POWERS))]
        sign = 1
    return numbers, units


def _find_units(name: str) -> list[Any]:
    """Return the unit of this name: an alias, as written, in lower case, as one word; or else the units of its words.

    Raises: _RefusedError if there is none.
    """
    registry = _load_registry()
    words = name.replace("-", " ").split()
    if _NAME.fullmatch(name):
        joined = "_".join(words)
        for spelling in (_NAMES.get(name), joined, _NAMES.get(name.lower()), joined.lower()):
            if spelling and (spelling != joined or spelling in registry):
                try:
                    return [registry.Unit(spelling)]
                except AttributeError:  # pint.UndefinedUnitError, also for names of the registry's own methods
                    continue
        if len(words) > 1:
            return [unit for word in words for unit in _find_units(word)]
    raise _RefusedError(f"there is no unit {name[:40]!r}")


@cache
def _load_registry() -> Any:
    import pint  # takes 0.5 s, which only a conversion should cost

    return pint.UnitRegistry(non_int_type=cast("Any", Fraction))  # it takes any type of number
