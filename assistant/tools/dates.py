"""Calculate with dates: text in, one sentence out, or `error: …`.

In: `2024-03-01 + 45 days`, `2024-03-01 - 2023-12-25`, `weekday 2024-03-01`, `1 March 2024 + 2 months - 3 days`.
Out: `2024-03-01 + 45 days = 2024-04-15 (Monday)`, `2024-03-01 - 2023-12-25 = 67 days`, `2024-03-01 is a Friday`.

Calendar: proleptic Gregorian, years 1 to 9999. Months and years keep the day of the month, or take the month's last day where
it has no such day (2024-01-31 + 1 month is 2024-02-29), as SQL and java.time do; steps are applied from left to right.

Covers: days, weeks, months and years; dates as 2024-03-01, 2024/3/1, 1 March 2024, March 1, 2024, 31.12.2024, `today`.
A day and month that could be either (03/04/2024) are refused by name. Does not cover: times of day, time zones, holidays.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

MAX_CHARS = 120
MAX_STEPS = 10
MAX_AMOUNT = 4_000_000  # days in the calendar, rounded up
FORMS = "2024-03-01 + 45 days, 2024-03-01 - 2023-12-25 or weekday 2024-03-01"

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTH = r"(?P<{0}>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{{0,6}}\.?"
_DATES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{1,4})(?P<sep>[-/.])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})",
        r"(?P<first>\d{1,2})(?P<sep>[/.-])(?P<second>\d{1,2})(?P=sep)(?P<year>\d{4})",
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH.format('name')},? (?P<year>\d{{1,4}})",
        rf"{_MONTH.format('name')} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{1,4}})",
        r"(?P<today>today)",
    )
)
_STEP = re.compile(r" ?([-+]) ?(\d{1,7}) ?(day|week|month|year)s?", re.ASCII | re.IGNORECASE)
_WEEKDAY = re.compile(r"(?:weekday|day of (?:the )?week)(?: of| on)? (.+)", re.IGNORECASE)


class _RefusedError(ValueError):
    """The calculation is refused; the message is the reason."""


def calculate_date(expression: str) -> str:
    """Calculate with dates, as in `2024-03-01 + 45 days` or `weekday 2024-03-01`. Return a sentence, or `error: ` and the reason.

    Never raises.
    """
    try:
        return _calculate(" ".join(expression.split()), date.today())
    except _RefusedError as error:
        return f"error: {error}"
    except OverflowError:
        return "error: the result is outside the years 1 to 9999"


def _calculate(text: str, today: date) -> str:
    if len(text) > MAX_CHARS:
        raise _RefusedError(f"the expression is longer than {MAX_CHARS} characters")
    if match := _WEEKDAY.fullmatch(text):
        day, rest = _read_date(match[1], today)
        return f"{match[1]} is a {_name_weekday(_apply_steps(day, rest))}"
    day, rest = _read_date(text, today)
    if rest.lstrip().startswith(("-", "–")) and not _STEP.match(rest):
        other, left_over = _read_date(rest.lstrip(" -–"), today)
        if left_over:
            raise _RefusedError(f"{left_over.strip()[:40]!r} can't be read here; write {FORMS}")
        return f"{text} = {_count('day', (day - other).days)}"
    result = _apply_steps(day, rest)
    return f"{text} = {result} ({_name_weekday(result)})"


def _read_date(text: str, today: date) -> tuple[date, str]:
    """Return the date at the beginning of a text and what follows it."""
    for pattern in _DATES:
        match = pattern.match(text)
        if match and not text[match.end() :][:1].isalnum():
            return _make_date(match, today), text[match.end() :]
    raise _RefusedError(f"{text[:40]!r} does not start with a date; write {FORMS}")


def _make_date(match: re.Match[str], today: date) -> date:
    parts = match.groupdict()
    if "today" in parts:
        return today
    if "name" in parts:
        parts["month"] = str(_MONTHS[parts["name"][:3].lower()])
    elif "first" in parts:
        first, second = int(parts["first"]), int(parts["second"])
        if parts["sep"] != "." and first <= 12 and second <= 12 and first != second:
            raise _RefusedError(f"{match[0]} can be read in two ways; write it as in 2024-03-01")
        is_day_first = parts["sep"] == "." or first > 12
        parts["day"], parts["month"] = (str(first), str(second)) if is_day_first else (str(second), str(first))
    try:
        return date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
    except ValueError:
        raise _RefusedError(f"there is no date {match[0]}") from None


def _apply_steps(day: date, text: str) -> date:
    """Add and subtract the steps of ` + 2 months - 3 days` from left to right."""
    position = 0
    for _ in range(MAX_STEPS):
        if position == len(text):
            return day
        match = _STEP.match(text, position)
        if match is None or text[match.end() :][:1].isalnum() or int(match[2]) > MAX_AMOUNT:
            break
        amount, unit = int(match[1] + match[2]), match[3].lower()
        if unit in ("day", "week"):
            day += timedelta(days=amount * (7 if unit == "week" else 1))
        else:
            day = _add_months(day, amount * (12 if unit == "year" else 1))
        position = match.end()
    if position == len(text):
        return day
    raise _RefusedError(f"{text[position:].strip()[:40]!r} can't be read here; write {FORMS}")


def _add_months(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise OverflowError
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _name_weekday(day: date) -> str:
    return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[day.weekday()]


def _count(unit: str, number: int) -> str:
    return f"{number} {unit}" if abs(number) == 1 else f"{number} {unit}s"
