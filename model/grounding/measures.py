"""List the calls of convert_units and calculate_date that a message allows: amounts, units and dates as the user typed them.

In: a message. Out: candidate arguments in the forms that models are trained on: `12.5 miles -> km`, `5 ft 11 in -> cm`;
`March 1, 2024 + 45 days`, `26 March 2021 - 2020-01-01` (the later date first), `weekday 26.8.2028`, `today - 3 weeks`. Likely ones
first. Needs the standard library only. Time: O(characters); a longer message is cut at `MAX_CHARS`.

Covers: common units by name, abbreviation and plural, compound ones, in any order (`how many km is 26.2 miles`); between `to`, `in`
or `->`, any word as a unit, so that the tool can name one that does not exist. Does not cover: units in other languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_CHARS = 1_000
MAX_CANDIDATES = 6
_NUMBER = r"[-−]?(?<![\d.,])(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?(?:e[+-]?\d{1,2})?(?:/\d{1,4})?"
_PREFIXES = "(?:kilo|centi|milli|mega|giga|tera|micro|nano|kibi|mebi|gibi|tebi)?"
_WORDS = (
    rf"{_PREFIXES}(?:met(?:er|re)s?|grams?|grammes?|lit(?:er|re)s?|seconds?|bytes?|bits?|watts?|joules?|volts?|amperes?|ohms?|"
    r"hertz|pascals?|newtons?|calories?)|miles?|feet|foot|inch(?:es)?|yards?|nautical miles?|light[ -]?years?|parsecs?|"
    r"furlongs?|fathoms?|pounds?|ounces?|stones?|tonnes?|(?:metric |short |long )?tons?|carats?|kilos?|gallons?|pints?|quarts?|"
    r"cups?|tablespoons?|teaspoons?|fluid ounces?|fl\.? oz|barrels?|acres?|hectares?|minutes?|hours?|days?|weeks?|months?|"
    r"years?|decades?|centur(?:y|ies)|fortnights?|degrees?(?: (?:celsius|fahrenheit|kelvin|[CFK]\b))?|celsius|centigrade|"
    r"fahrenheit|kelvins?|radians?|turns?|knots?|horsepower|atmospheres?|bars?|electron ?volts?|british thermal units?"
)
_SHORT = (
    "km/h|kmh|kph|mph|m/s|ft/s|mpg|l/100 ?km|km/l|kWh|Wh|kcal|cal|kJ|MJ|kPa|hPa|MPa|psi|atm|mmHg|kHz|MHz|GHz|Hz|kW|MW|hp|"
    "KiB|MiB|GiB|TiB|KB|kB|MB|GB|TB|PB|Mbps|Gbps|Mb|Gb|km2|cm2|mm2|m2|m3|cm3|ft2|ft3|km²|m²|cm²|m³|km|cm|mm|nm|µm|kg|mg|lbs?|oz|st|"
    "ft|yd|mi|nmi|ml|mL|cl|dl|dL|hrs?|mins?|secs?|ms|ns|yrs?|sqft|sq ft|sq m|sqm|tbsp|tsp|gal|qt|pt|ha|eV|deg|rad|BTU|rpm|"
    "°C|°F|° ?[CFK]"
)
_LETTERS = "[CFKcfkmglLshtJWVNB]"  # a unit right after a number, or as the target
_ONE = rf"(?:(?:square|cubic|sq|cu) )?(?:{_WORDS}|{_SHORT})(?: squared| cubed)?"
_UNIT = rf"(?:{_ONE})(?:(?: per |/)(?:{_ONE}|h|s))?(?!\w)"
_AFTER_NUMBER = rf"(?:{_UNIT}|in(?=\s+(?:to|in|into|as)\b|\s*(?:->|=)|\s*$)|(?:{_LETTERS})(?![\w'’]))"
_AMOUNT = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>{_AFTER_NUMBER})", re.IGNORECASE)
_TARGET = re.compile(
    r"(?:\b(?:to|in|into|as|many|much|en|viele|cuántos|combien de|quanti)\b|->|→|=>|=\s*\??)\s*(?:the )?"
    rf"(?P<unit>{_UNIT}|inches|(?:{_LETTERS})(?![\w'’]))",
    re.IGNORECASE,
)
_MARKED_TARGET = re.compile(
    r"(?:\b(?:to|in|into|as|how many|en|viele|cuántos|combien de|quanti)\b|->|→|=>|=)\s*(?:the )?"
    rf"(?:{_UNIT}|inches|(?:{_LETTERS})(?![\w'’]))",
    re.IGNORECASE,
)
_ANY_UNIT = re.compile(rf"(?<![\w.]){_UNIT}", re.IGNORECASE)
_PLAIN = re.compile(
    rf"(?P<amount>{_NUMBER}\s*[A-Za-z°][\w²³/°^ ]{{0,30}}?)\s*(?:\b(?:to|into|in|as)\b|->|→)\s*"
    r"(?P<target>[A-Za-z°][\w²³/°^]{0,30})",
    re.IGNORECASE,
)
_FEET = re.compile(r"\d{1,2}\s*['′]\s*\d{1,2}\s*(?:\"|″|'')?")

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(
    r"(?<![\w.])(?:(?P<y1>\d{4})[-/.](?P<m1>\d{1,2})[-/.](?P<d1>\d{1,2})|(?P<a2>\d{1,2})[-/.](?P<b2>\d{1,2})[-/.](?P<y2>\d{4})|"
    rf"(?P<d3>\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of)? (?P<n3>{_MONTH}),? (?P<y3>\d{{4}})|"
    rf"(?P<n4>{_MONTH}) (?P<d4>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y4>\d{{4}}))(?!\w)",
    re.IGNORECASE,
)
_COUNT_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_COUNTS = {word: str(value) for value, word in enumerate(_COUNT_WORDS)} | {"a": "1", "an": "1"}
_FOREIGN = {
    "tag": "days",
    "woche": "weeks",
    "monat": "months",
    "jahr": "years",
    "jour": "days",
    "semaine": "weeks",
    "mois": "months",
}
_STEP = re.compile(
    rf"(?<![\w.])(?P<count>\d{{1,7}}|{'|'.join(_COUNTS)}) ?"
    rf"(?P<unit>(?:day|week|month|year)s?|(?P<foreign>{'|'.join(_FOREIGN)})(?:e|en|n|s)?)\b",
    re.IGNORECASE,
)
_BACK = re.compile(
    r"\b(?:before|ago|earlier|minus|subtract(?:ed)?|back|prior|ahead of|less|vor|avant|antes)\b|(?<=\s)[-−–](?=\s*\d)",
    re.IGNORECASE,
)
_WEEKDAY_WORDS = re.compile(
    r"\b(?:weekday|week day|day of (?:the )?week|(?:which|what) day|wochentag|jour|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b",
    re.IGNORECASE,
)
_ASKS_FOR_DATE = re.compile(
    r"\b(?:what|which) (?:date|day)\b.*\b(?:today|now|ago|in)\b|"
    r"^\W*(?:today|\d+ (?:day|week|month|year)s? (?:ago|from (?:now|today)))\b",
    re.IGNORECASE,
)
_SAYS_TODAY = re.compile(
    r"\b(?:today|now|ago|in (?:\d+|an?|two|three|four|five|six) (?:day|week|month|year)s?)\b", re.IGNORECASE
)
# How far a date is from today: `how many days until 2027-01-01`, `how long since 3 May 2020`.
_UNTIL = re.compile(r"\bhow (?:many|long|much time|far)\b.*\b(?:until|till|to go|left|before|to|away)\b", re.IGNORECASE)
_SINCE = re.compile(r"\bhow (?:many|long|much time)\b.*\b(?:since|ago|passed|after)\b", re.IGNORECASE)


def list_conversions(message: str) -> list[str]:
    """Return candidate arguments of convert_units, likely ones first."""
    text = " ".join(message[:MAX_CHARS].split())
    amounts = list(_AMOUNT.finditer(text))
    spans = [(match.start(), match.end()) for match in amounts]
    source = _join_amounts(text, amounts)
    if feet := _FEET.search(text):
        source, spans = feet[0].strip(), [feet.span()]
    candidates = [f"{source} -> {target}" for target in _list_targets(text, spans)] if source else []
    candidates += [f"{match['amount'].strip()} -> {match['target']}" for match in _PLAIN.finditer(text)]
    return list(dict.fromkeys(candidates))[:MAX_CANDIDATES]


def is_conversion(message: str) -> bool:
    """Return whether a message has one amount with a unit and, after `to`, `in`, `how many` or an arrow, the unit to convert to."""
    text = " ".join(message[:MAX_CHARS].split())
    amounts = list(_AMOUNT.finditer(text))
    rest = _AMOUNT.sub(" ; ", text)
    return bool(amounts) and _join_amounts(text, amounts[:1]) != "" and bool(_MARKED_TARGET.search(rest))


def is_date_question(message: str) -> bool:
    """Return whether a message has two dates, a date with a step, or one with a word for its weekday; or a step from today."""
    text = " ".join(message[:MAX_CHARS].split())
    dates = list(_DATE.finditer(text))
    rest = _DATE.sub(" ; ", text)
    if len(dates) == 1:
        return any(pattern.search(rest) for pattern in (_STEP, _WEEKDAY_WORDS, _SINCE, _UNTIL))
    return len(dates) == 2 or bool(not dates and _STEP.search(rest) and _ASKS_FOR_DATE.search(rest))


def _join_amounts(text: str, amounts: list[re.Match[str]]) -> str:
    """Return the first amount with those directly after it: `5 ft 11 in`."""
    if not amounts:
        return ""
    parts = [amounts[0]]
    for match in amounts[1:]:
        if text[parts[-1].end() : match.start()].strip(" ,") not in ("", "and"):
            break
        parts.append(match)
    return " ".join(f"{match['number'].replace('−', '-')} {match['unit']}" for match in parts)


def _list_targets(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    """Yield the units outside the amounts: those after `to`, `in`, `how many` first."""

    def is_free(match: re.Match[str], group: str | int) -> bool:
        return not any(start < match.end(group) and match.start(group) < end for start, end in spans)

    yield from (match["unit"] for match in _TARGET.finditer(text) if is_free(match, "unit"))
    yield from (match[0] for match in _ANY_UNIT.finditer(text) if is_free(match, 0))


def list_date_expressions(message: str) -> list[str]:
    """Return candidate arguments of calculate_date, likely ones first."""
    text = " ".join(message[:MAX_CHARS].split())
    dates = list(_DATE.finditer(text))
    rest = _DATE.sub(" ", text)
    steps = [_format_step(match) for match in _STEP.finditer(rest)]
    if len(dates) >= 2:
        first, second = sorted(dates[:2], key=_read_key, reverse=True)
        return [f"{first[0]} - {second[0]}", f"{dates[0][0]} - {dates[1][0]}"][: 1 + (dates[0] is not first)]
    if steps and (dates or _SAYS_TODAY.search(text)):
        start = dates[0][0] if dates else "today"
        signs = "-+" if _BACK.search(rest) else "+-"
        return [start + "".join(f" {sign} {step}" for step in steps) for sign in signs] + (
            [f"weekday {start}"] if dates else []
        )
    if dates and (_SINCE.search(rest) or _UNTIL.search(rest)):
        date = dates[0][0]
        return [f"today - {date}", f"{date} - today"][:: 1 if _SINCE.search(rest) else -1]
    return [f"weekday {dates[0][0]}"] if dates else []


def remove_dates(message: str) -> str:
    """Return a message without its dates, whose hyphens are no subtractions."""
    return _DATE.sub(" ; ", message[:MAX_CHARS])


def _format_step(match: re.Match[str]) -> str:
    count, foreign = match["count"].lower(), match["foreign"]
    return f"{_COUNTS.get(count, count)} {_FOREIGN[foreign.lower()] if foreign else match['unit']}"


def _read_key(match: re.Match[str]) -> tuple[int, int, int]:
    """Return (year, month, day) of a date, to order two of them; day first where both are possible."""
    year = int(match["y1"] or match["y2"] or match["y3"] or match["y4"])
    if name := match["n3"] or match["n4"]:
        return year, _MONTHS.index(name[:3].lower()), int(match["d3"] or match["d4"])
    if match["y1"]:
        return year, int(match["m1"]) - 1, int(match["d1"])
    day, month = int(match["a2"]), int(match["b2"])
    return (year, month - 1, day) if month <= 12 else (year, day - 1, month)
