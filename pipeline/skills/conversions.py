"""Skills: convert units, and calculate dates, with the right argument to the character.

In: a random generator. Out: a question in many wordings → a call → the tool's result, which is the answer. The argument copies what
was typed: `12.5 miles -> km`, `2024-03-01 + 45 days`, `2024-03-01 - 2023-12-25`, `weekday 2024-03-01`. Results are computed
here by the rules of the tools (factors as exact fractions, eight significant digits; the Gregorian calendar); a test compares
them with the tools. Some units and wordings (NEW …) are reserved for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from random import Random
from typing import NamedTuple

from model.tokenizer.chat import Message, ToolCall, call_to_json
from pipeline.skills.calculator import draw_number
from pipeline.skills.skill import Example, Item, Maker, Material, Skill, cut_before_result, has_expected_call

SIGNIFICANT_DIGITS = 8


class Unit(NamedTuple):
    """A unit as people type it, and how many base units it has."""

    names: tuple[str, ...]
    factor: Fraction


def _unit(names: str, factor: str | Fraction) -> Unit:
    return Unit(tuple(names.split("|")), Fraction(factor))


# fmt: off
KINDS: tuple[tuple[Unit, ...], ...] = (
    (_unit("kilometers|km|kilometer|kilometres", "1000"), _unit("miles|mile", "1609.344"), _unit("meters|m|meter|metres", "1"),
     _unit("feet|foot|ft", "0.3048"), _unit("inches|inch|in", "0.0254"), _unit("cm|centimeters|centimeter", "0.01"),
     _unit("yards|yard", "0.9144"), _unit("mm|millimeters", "0.001")),
    (_unit("kg|kilograms|kilogram|kilos", "1"), _unit("pounds|lbs|pound|lb", "0.45359237"), _unit("grams|g|gram", "0.001"),
     _unit("ounces|oz|ounce", Fraction("0.45359237") / 16), _unit("mg|milligrams", "0.000001"),
     _unit("stone", Fraction("0.45359237") * 14)),
    (_unit("hours|hour|hrs|h", "3600"), _unit("minutes|minute|mins|min", "60"), _unit("seconds|second|s", "1"),
     _unit("days|day", "86400"), _unit("weeks|week", "604800"), _unit("ms|milliseconds", "0.001")),
    (_unit("liters|liter|l|litres", "1"), _unit("gallons|gallon", "3.785411784"), _unit("ml|milliliters", "0.001"),
     _unit("pints|pint", "0.473176473"), _unit("cups|cup", "0.2365882365"), _unit("quarts|quart", "0.946352946")),
    (_unit("MB|megabytes|megabyte", "1000000"), _unit("GB|gigabytes|gigabyte", "1000000000"), _unit("KB|kilobytes", "1000"),
     _unit("bytes|byte", "1"), _unit("TB|terabytes", "1000000000000")),
    (_unit("km/h|kilometers per hour|kph", Fraction(1000, 3600)), _unit("mph|miles per hour", Fraction("1609.344") / 3600),
     _unit("m/s|meters per second", "1")),
)
TEMPERATURES = ("celsius|degrees Celsius|C|Celsius|degrees C|°C", "fahrenheit|degrees Fahrenheit|F|Fahrenheit|degrees F|°F",
                "kelvin|K|Kelvin")
NEW_UNITS: tuple[tuple[Unit, ...], ...] = (
    (_unit("nautical miles|nautical mile", "1852"), _unit("km|kilometers", "1000")),
    (_unit("tonnes|tonne", "1000"), _unit("kg|kilograms", "1")),
    (_unit("hectares|hectare", "10000"), _unit("square meters", "1"), _unit("square kilometers", "1000000")),
)
WORDINGS = (
    "Convert {a} {u} to {v}.", "convert {a} {u} to {v}", "How many {v} are {a} {u}?", "how many {v} in {a} {u}",
    "How many {v} are in {a} {u}?", "What is {a} {u} in {v}?", "what is {a} {u} in {v}", "What's {a} {u} in {v}?",
    "{a} {u} in {v}", "{a} {u} to {v}", "{a}{u} to {v}", "{a}{u} in {v}", "{a} {u} in {v}?", "How much is {a} {u} in {v}?",
    "Please convert {a} {u} into {v}.", "Can you convert {a} {u} to {v}?", "I have {a} {u}, how many {v} is that?",
    "Express {a} {u} in {v}.", "change {a} {u} to {v}", "{a} {u} = ? {v}", "{a} {u} is how many {v}?",
    "turn {a} {u} into {v}", "my recipe says {a} {u}, what is that in {v}?", "{a} {u} as {v}", "And {a} {u} in {v}?",
    "and in {v}, {a} {u}?", "Wie viele {v} sind {a} {u}?", "Rechne {a} {u} in {v} um.", "Convertis {a} {u} en {v}.",
    "¿Cuántos {v} son {a} {u}?",
)
NEW_WORDINGS = (
    "Could you tell me how many {v} {a} {u} are?", "I need {a} {u} in {v}.", "{a} {u} expressed in {v}",
    "how long is {a} {u} in {v}",
)
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
SHIFTS = {
    "+": ("What date is {n} after {d}?", "what is the date {n} after {d}", "{d} plus {n}", "{d} + {n}", "{n} after {d}",
          "What day is {n} after {d}?", "Which date is {n} from {d}?", "Add {n} to {d}.", "add {n} to {d}",
          "When is {n} after {d}?", "If I start on {d}, when are {n} over?", "A deadline is {n} after {d}. When is that?",
          "{n} later than {d}", "What is {d} plus {n}?", "Welches Datum ist {n} nach {d}?", "Quelle date est {n} après {d} ?"),
    "-": ("What date is {n} before {d}?", "what is the date {n} before {d}", "{d} minus {n}", "{d} - {n}", "{n} before {d}",
          "Subtract {n} from {d}.", "Which date was {n} before {d}?", "What day was {n} before {d}?", "When was {n} before {d}?",
          "{n} earlier than {d}", "What is {d} minus {n}?", "go back {n} from {d}"),
}
NEW_SHIFTS = {"+": ("Count {n} from {d}.", "{n} on from {d}, which date?"), "-": ("Which date do I get {n} ahead of {d}?",)}
FROM_TODAY = {"+": ("What date is in {n}?", "which date is {n} from now", "{n} from today", "What is the date in {n}?",
                    "today plus {n}", "Which day is it in {n}?", "What day will it be in {n}?", "{n} from now?"),
              "-": ("What date was {n} ago?", "{n} ago", "What was the date {n} ago?", "which day was it {n} ago",
                    "today minus {n}")}
DIFFERENCES = (  # a: the earlier date
    "How many days are between {a} and {b}?", "how many days between {a} and {b}", "days from {a} to {b}",
    "Days between {a} and {b}", "How long is it from {a} to {b}?", "How many days from {a} until {b}?",
    "What is the difference between {a} and {b}?", "{b} - {a}", "{b} minus {a}", "How much time lies between {a} and {b}?",
    "From {a} to {b}, how many days is that?", "How many days passed from {a} to {b}?", "number of days from {a} to {b}",
    "Wie viele Tage liegen zwischen {a} und {b}?",
)
NEW_DIFFERENCES = ("Count the days from {a} to {b}.", "How far apart are {a} and {b}?")
WEEKDAYS = (
    "What weekday was {d}?", "what weekday is {d}", "Which day of the week is {d}?", "What day of the week was {d}?",
    "which weekday is {d}", "Is {d} a Sunday?", "On which weekday does {d} fall?", "weekday of {d}", "What day is {d}?",
    "what day was {d}", "{d} is what day of the week?", "Was {d} a Monday?", "weekday {d}",
    "Welcher Wochentag ist der {d}?", "Quel jour était le {d} ?", "I was born on {d}. Which weekday was that?",
)
NEW_WEEKDAYS = ("Does {d} fall on a Friday?", "Tell me the weekday of {d}.")
# fmt: on


def make_unit_examples(n: int, material: Material, rng: Random) -> list[Example]:
    """Return `n` conversions of units; no passage is needed."""
    return [_make_conversation(_make_conversion, "units", "convert_units", material, rng) for _ in range(n)]


def make_date_examples(n: int, material: Material, rng: Random) -> list[Example]:
    """Return `n` calculations of dates; no passage is needed."""
    return [_make_conversation(_make_date_question, "dates", "calculate_date", material, rng) for _ in range(n)]


class _Solved(NamedTuple):
    question: str
    argument: str
    result: str


def _make_conversation(
    make: Callable[[Random, bool], _Solved], kind: str, tool: str, material: Material, rng: Random
) -> Example:
    is_new = material.is_heldout and rng.random() < material.new_wording_frac
    solved = make(rng, is_new)
    call = ToolCall.of(tool, solved.argument)
    messages = [
        Message.of("user", solved.question),
        Message.calling(call),
        Message.result(solved.result),
        Message.of("assistant", solved.result),
    ]
    return Example(kind, messages, {"call": call_to_json(call)})


def _make_conversion(rng: Random, is_new: bool) -> _Solved:
    wording = rng.choice(NEW_WORDINGS if is_new else WORDINGS)
    if rng.random() < 0.2 and not is_new:
        source, target = rng.sample(range(len(TEMPERATURES)), 2)
        amount = str(rng.randint(-40, 300)) if rng.random() < 0.8 else f"{rng.randint(0, 99)}.{rng.randint(1, 9)}"
        u, v = rng.choice(TEMPERATURES[source].split("|")), rng.choice(TEMPERATURES[target].split("|"))
        value = _convert_temperature(Fraction(amount), source, target)
    else:
        units = rng.choice(NEW_UNITS if is_new else KINDS)
        source, target = rng.sample(range(len(units)), 2)
        amount = draw_number(rng)
        u, v = (rng.choice(units[index].names[: 1 if rng.random() < 0.5 else None]) for index in (source, target))
        value = Fraction(amount) * units[source].factor / units[target].factor
    question = wording.format(a=amount, u=u, v=v)
    return _Solved(question, f"{amount} {u} -> {v}", f"{amount} {u} = {format_amount(value)} {v}")


def _convert_temperature(value: Fraction, source: int, target: int) -> Fraction:
    """Convert between degrees Celsius, Fahrenheit and kelvin (0, 1, 2)."""
    kelvin = Fraction("273.15")
    celsius = (value, (value - 32) * 5 / 9, value - kelvin)[source]
    return (celsius, celsius * 9 / 5 + 32, celsius + kelvin)[target]


def format_amount(value: Fraction) -> str:
    """Return a number as convert_units formats it: whole numbers in full, others with eight significant digits."""
    if value.denominator == 1:
        return str(value.numerator)
    n_whole = len(str(abs(int(value))))
    context = Context(prec=max(SIGNIFICANT_DIGITS, n_whole + SIGNIFICANT_DIGITS // 2))
    rounded = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    if rounded.adjusted() < -12:
        return str(rounded.normalize(context)).replace("E", "e")
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _make_date_question(rng: Random, is_new: bool) -> _Solved:
    chance = rng.random()
    if chance < 0.25:
        day = _draw_date(rng)
        typed = type_date(day, rng)
        question = rng.choice(NEW_WEEKDAYS if is_new else WEEKDAYS).format(d=typed)
        return _Solved(question, f"weekday {typed}", f"{typed} is a {day:%A}")
    if chance < 0.55:
        first, second = sorted((_draw_date(rng), _draw_date(rng)))
        a, b = type_date(first, rng), type_date(second, rng)
        question = rng.choice(NEW_DIFFERENCES if is_new else DIFFERENCES).format(a=a, b=b)
        n_days = (second - first).days
        return _Solved(question, f"{b} - {a}", f"{b} - {a} = {n_days} day{'' if n_days == 1 else 's'}")
    sign, is_today = rng.choice("++-"), not is_new and rng.random() < 0.25
    amount, unit = (
        rng.choice((rng.randint(1, 31), rng.randint(1, 400))),
        rng.choice(("day", "day", "week", "month", "year")),
    )
    amount = min(amount, 60) if unit != "day" else amount
    day, typed = _draw_date(rng), "today"
    if not is_today:
        typed = type_date(day, rng)
    wordings = (FROM_TODAY if is_today else NEW_SHIFTS if is_new else SHIFTS)[sign]
    steps = f"{amount} {unit}{'' if amount == 1 else 's'}"
    shifted = shift_date(day, amount if sign == "+" else -amount, unit)
    argument = f"{typed} {sign} {steps}"
    return _Solved(rng.choice(wordings).format(d=typed, n=steps), argument, f"{argument} = {shifted} ({shifted:%A})")


def _draw_date(rng: Random) -> date:
    return date(1950, 1, 1) + timedelta(
        days=rng.randrange(100 * 365) if rng.random() < 0.3 else 25_000 + rng.randrange(3_000)
    )


def type_date(day: date, rng: Random) -> str:
    """Return a date as people type it: mostly 2024-03-01."""
    month = MONTHS[day.month - 1]
    forms = (f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}", f"{day.day}.{day.month}.{day.year}")
    return day.isoformat() if rng.random() < 0.5 else rng.choice(forms)


def shift_date(day: date, amount: int, unit: str) -> date:
    """Return the date that many units later; a day that the month does not have becomes the month's last one."""
    if unit in ("day", "week"):
        return day + timedelta(days=amount * (7 if unit == "week" else 1))
    months = day.year * 12 + day.month - 1 + amount * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return date(year, month + 1, min(day.day, (following - timedelta(days=1)).day))


def _is_for(kind: str) -> Callable[[Item], bool]:
    return lambda item: item.kind == kind


UNITS = Skill(
    name="units_exact",
    title="Units converted",
    meaning="amount and both units are exact to the character",
    max_drop=0.06,
    applies=_is_for("units"),
    is_right=has_expected_call,
    makers=(Maker("units", "units", make_unit_examples, cut_before_result),),
)
DATES = Skill(
    name="dates_exact",
    title="Dates calculated",
    meaning="dates, steps and weekdays are exact to the character",
    max_drop=0.06,
    applies=_is_for("dates"),
    is_right=has_expected_call,
    makers=(Maker("dates", "dates", make_date_examples, cut_before_result),),
)
