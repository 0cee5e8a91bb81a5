"""Write the dates of templates: births, deaths, beginnings, `as of`.

In: the arguments of a template and the language of the wiki. Out: the date in words for English, with the signs of East Asian
languages, in the order day month year where the arguments name the month, else as `1820-01-02`. Ages are left out, as they depend
on today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.download.pages.wiki.template_names import DAY_FIRST

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
EAST_ASIAN = {"ja": "年月日", "zh": "年月日", "ko": "년월일"}


def describe_date(name: str, values: Sequence[str], named: Mapping[str, str], language: str) -> str:
    """Return the first date of the arguments; a template with one argument (`{{birth-date|2 May 1820}}`) has it in words."""
    parts = [value for value in values[:3] if value] or [
        named[part] for part in ("year", "month", "day") if named.get(part)
    ]
    if not parts or not all(part.lstrip("0").isdecimal() or part.isalpha() for part in parts):
        return parts[0] if parts else ""
    is_day_first = " ".join(name.replace("_", " ").lower().split()) in DAY_FIRST or (
        len(parts[0]) < 3 and len(parts) == 3
    )
    if language in ("fr", "es", "pt", "ru", "uk", "it") and not parts[0].isdecimal():
        return " ".join(parts)
    year, month, day = _order(parts, is_day_first)
    if not month or (month.isdecimal() and int(month[:3]) > 12):  # `{{death year and age|1900|1820}}`
        return year
    if month.isalpha():
        return " ".join(part for part in (day, month, year) if part)
    return _write_date(
        year, int(month), day.lstrip("0"), language, is_day_first or named.get("df", "")[:1].lower() in ("y", "1", "t")
    )


def _order(parts: Sequence[str], is_day_first: bool) -> tuple[str, str, str]:
    if len(parts) == 3:
        return (parts[2], parts[1], parts[0]) if is_day_first else (parts[0], parts[1], parts[2])
    return (parts[0], parts[1] if len(parts) > 1 else "", "")


def _write_date(year: str, month: int, day: str, language: str, is_day_first: bool) -> str:
    if signs := EAST_ASIAN.get(language):
        gap = " " if language == "ko" else ""
        return gap.join(f"{part}{sign}" for part, sign in zip((year, str(month), day), signs, strict=True) if part)
    if language not in ("", "en", "simple") or not month:
        return f"{year}-{month:02}" + (f"-{int(day):02}" if day else "")
    name = MONTHS[month - 1]
    if not day:
        return f"{name} {year}"
    return f"{day} {name} {year}" if is_day_first else f"{name} {day}, {year}"


def describe_as_of(values: Sequence[str], named: Mapping[str, str]) -> str:
    """Return `As of May 2020`."""
    if named.get("alt"):
        return named["alt"]
    date = describe_date("", [value for value in values[:3] if value], {"df": "yes"}, "")
    words = "since" if named.get("since") else "as of"
    is_lower = named.get("lc", "")[:1].lower() in ("y", "1", "t")
    return f"{words if is_lower else words.capitalize()} {date}".strip()
