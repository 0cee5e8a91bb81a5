"""Write common templates of wikis as the text that they stand for.

In: the name and the arguments of a template, already converted to text, and the language of the wiki. Out: its text; empty for
unknown templates (infoboxes, navigation, references). Numbers keep the digits of the arguments: nothing is computed, so the second
unit of `{{convert|30|m|ft}}`, ages and inflation are left out. Names are those of the English wiki and those that other large wikis
have for the same. Does not cover: templates that a wiki defines under another name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pipeline.download.pages.superscripts import END, SUB, SUP, mark_script
from pipeline.download.pages.wiki.template_dates import describe_as_of, describe_date
from pipeline.download.pages.wiki.template_names import (
    BLOCKS,
    CURRENCIES,
    DAY_FIRST,
    FIRST,
    JOINTS,
    LINKS,
    LISTS,
    RUPEES,
    SECOND,
    SHIPS,
    SIGNS,
    UNITS,
    YEAR_FIRST,
)


class Call(NamedTuple):
    """A template with its arguments, without spaces around them; `language` is that of the wiki, empty if unknown."""

    name: str
    values: Sequence[str]
    named: Mapping[str, str]
    language: str = ""

    def at(self, index: int) -> str:
        """Return one of the values without a name; empty if there are fewer."""
        return self.values[index] if index < len(self.values) else ""

    def get(self, *names: str) -> str:
        """Return the first named argument that is not empty."""
        return next((self.named[name] for name in names if self.named.get(name)), "")


Writer = Callable[[Call], str]

NUMBER = re.compile(r"[+\-−–]?[\d.,٫٬ /+⁄]+(?:e[+-]?\d+)?", re.IGNORECASE)
POWER = re.compile(r"(?<=[a-zA-Zμµ°])(-?[2-4])\Z")
RUSSIAN_LINKS = ("нп5", "iw", "не переведено 5")  # the second argument is the label
FRENCH_ORDINAL = re.compile(r"(?:\d{1,4}|[IVXLCDM]{1,9})(?:er|re|e)")  # `{{1er}}`, `{{XIXe}}`


@lru_cache(4_096)
def find_writer(name: str, language: str) -> Writer | None:
    """Return the function that writes a template of a wiki; `name` is as typed."""
    cleaned = clean_name(name)
    if writer := LOCAL.get(language, {}).get(cleaned) or WRITERS.get(cleaned):
        return writer
    if cleaned.startswith("lang-") or cleaned in GERMAN_LANGUAGES:
        return _write_first
    return _write_name if language == "fr" and FRENCH_ORDINAL.fullmatch(name.strip()) else None


def clean_name(name: str) -> str:
    """Return a name in lower case and with single spaces; of a parser function (`formatnum:5`) what precedes the colon."""
    name = " ".join(name.replace("_", " ").split()).lower()
    head, colon, _ = name.partition(":")
    return head if colon and head in PARSER_FUNCTIONS else name


def write_template(name: str, arguments: Sequence[tuple[str, str]], language: str = "") -> str:
    """Return the text of a template; arguments are pairs (name, or an empty string; value)."""
    writer = find_writer(name, language)
    if writer is None:
        return ""
    values: list[str] = []
    named: dict[str, str] = {}
    head, colon, rest = name.partition(":")
    if colon and head.strip().lower() in PARSER_FUNCTIONS:
        values.append(rest.strip())
    for key, value in arguments:
        key = key.strip()
        if not key:
            values.append(value.strip())
        elif key.isdecimal() and 0 < int(key[:3]) <= len(values) + 20:
            values += [""] * (int(key[:3]) - len(values))
            values[int(key[:3]) - 1] = value.strip()
        else:
            named[key.lower()] = value.strip()
    return writer(Call(" ".join(name.split()), values, named, language))


def _write_name(call: Call) -> str:
    return call.name


def _write_first(call: Call) -> str:
    return call.at(0) or call.get("text", "texte", "texto", "quote", "testo")


def _write_second(call: Call) -> str:
    return (
        call.at(1) or call.get("text", "texte", "texto") or ("" if call.name.lower().startswith("lang") else call.at(0))
    )


def _write_transliteration(call: Call) -> str:
    return next((value for value in reversed(call.values) if value), "")


def _write_link(call: Call) -> str:
    name = call.name.lower()
    shown = call.at(2) if name in ("tsl", "le") else call.at(1) if name in RUSSIAN_LINKS else ""
    return call.get("lt", "label", "текст", "trad", "texte", "display") or shown or call.at(0)


def _write_block(call: Call) -> str:
    return f"\n{_write_first(call)}\n"


def _write_convert(call: Call) -> str:
    """Write the given number with its unit, or a range, or compound units (5 ft 3 in)."""
    values = list(call.values)
    text, index = values[0] if values else "", 1
    while index + 1 < len(values) and values[index].lower() in JOINTS:
        text += JOINTS[values[index].lower()] + values[index + 1]
        index += 2
    unit = values[index] if index < len(values) else ""
    text = f"{text} {_write_unit(unit)}".rstrip()
    index += 1
    while index + 1 < len(values) and NUMBER.fullmatch(values[index]) and values[index + 1].isalpha():
        text += f" {values[index]} {_write_unit(values[index + 1])}"
        index += 2
    return text


def _write_unit(unit: str) -> str:
    return UNITS.get(
        unit.lower() if len(unit) > 1 else unit.lower() if unit in "CFK" else unit, POWER.sub(r"^\1", unit)
    )


def _write_quantity(call: Call) -> str:
    """Write `{{val|6.02|0.01|e=23|u=mol}}` and its relatives."""
    text = call.at(0)
    if (error := call.at(1)) and NUMBER.fullmatch(error.strip("()")):
        lower = call.at(2)
        is_split = error.startswith("+") and lower.startswith(("-", "−"))
        text += error if error.startswith("(") else f" ({error}/{lower})" if is_split else f"±{error}"
    if power := call.get("e", "e10"):
        text += f"×10^{power}"
    unit = _write_unit(call.get("u", "ul", "unit", "unité", "um"))
    per = _write_unit(call.get("up", "upl"))
    text = f"{call.get('p')}{text}{call.get('s')} {unit}{'/' * bool(per)}{per}"
    return text.strip()


def _write_values(call: Call) -> str:
    """Write a number and its unit: `{{unité|30|km|2}}` is 30 km^2."""
    parts = [value for value in call.values if value]
    text = " ".join(parts[:2])
    power = parts[2] if len(parts) > 2 and re.fullmatch(r"[-−]?\d", parts[2]) else ""
    return text + (f"^{power}" if power and len(parts) > 1 else " " + parts[2] if len(parts) > 2 else "")


def _write_fraction(call: Call) -> str:
    match [value for value in call.values if value]:
        case [below]:
            return f"1/{below}"
        case [above, below]:
            return f"{above}/{below}"
        case [whole, above, below, *_]:
            return f"{whole} {above}/{below}"
        case _:
            return ""


def _write_currency(call: Call) -> str:
    name = call.name.lower()
    amount, sign = call.at(0), CURRENCIES.get(name, "")
    if name == "currency":
        sign = CURRENCIES.get((call.at(1) or call.get("type")).lower(), call.at(1))
    return f"{sign}{amount}" if amount else sign.strip()


def _write_rupees(call: Call) -> str:
    return f"₹{call.at(0)} {RUPEES.get(call.at(1).lower(), '')}".strip()


def _write_ship(call: Call) -> str:
    is_general = call.name.lower() == "ship"
    values = call.values if is_general else (call.name.upper(), *call.values)
    prefix, name, number = (*values, "", "", "")[:3]
    number = "" if re.fullmatch(r"[12]\d{3}", number) else number  # a year tells ships apart; it is not shown
    return f"{prefix} {name}".strip() + (f" ({number})" if number else "")


def _write_chemistry(call: Call) -> str:
    parts = (f"{SUB}{value}{END}" if value[:1].isdigit() else value for value in call.values)
    return "".join(parts)


def _write_formula(call: Call) -> str:
    return re.sub(r"(?<=[A-Za-z)\]])(\d+)", rf"{SUB}\1{END}", call.at(0))


def _write_both(call: Call) -> str:
    """Write a superscript above a subscript."""
    above, below = call.get("p", "sup") or call.at(1), call.get("b", "sub") or call.at(2)
    base = call.at(0) if call.name.lower() == "subsup" else ""
    return base + (f"{SUB}{below}{END}" if below else "") + (f"{SUP}{above}{END}" if above else "")


def _write_power(call: Call) -> str:
    """Write `{{e|23}}`: a power of ten, or in French any exponent."""
    if call.language == "fr" and call.name.lower() != "x10^":
        return f"{SUP}{call.at(0)}{END}"
    return f"×10{SUP}{call.at(0)}{END}" if call.at(0) else ""


def _write_japanese(call: Call) -> str:
    name, *more = [value for value in call.values[:3] if value] or [""]
    return f"{name} ({', '.join(more)})" if more else name


def _write_reading(call: Call) -> str:
    return f"{call.at(0)}（{call.at(1)}）" if call.at(1) else call.at(0)


def _write_chinese(call: Call) -> str:
    names = ("c", "s", "t", "p", "w", "j", "hangul", "hanja", "rr", "mr", "kanji", "kana")
    shown = dict.fromkeys(call.named[name] for name in names if call.named.get(name))
    return ", ".join(shown) or call.at(0)


def _write_about(prefix: str) -> Writer:
    return lambda call: f"{prefix} {'–'.join(value for value in call.values[:2] if value)}"


def _write_class(call: Call) -> str:
    return f"{call.at(0)}-class {call.at(1)}".strip()


def _write_ordinal(call: Call) -> str:
    number = call.at(0)
    ending = {"1": "st", "2": "nd", "3": "rd"}.get(number[-1:], "th") if number[-2:-1] != "1" else "th"
    return number + ending if number.isdecimal() else number


def _write_century(call: Call) -> str:
    """Write `{{s|XIX|e}}`, a century in French."""
    text = f"{call.at(0).upper()}{call.at(1)}"
    return f"{text} siècle" if call.name.lower() in ("s", "s mini", "siècle") else text


def _follow(sign: str) -> Writer:
    """Return the writer of a sign; names and numbers may follow it, as in `{{Mlle|X}}` and `{{n°|5}}`."""
    return lambda call: f"{sign} {call.at(0)}" if sign[:1].isalpha() and call.at(0) else sign


def _raise(mark: str, before: str = "") -> Writer:
    return lambda call: before + mark_script(mark, call.at(0)) if call.at(0) else ""


def _wrap(before: str, after: str) -> Writer:
    return lambda call: f"{before}{call.at(0)}{after}" if call.at(0) else ""


def _join(separator: str) -> Writer:
    return lambda call: separator.join(value for value in call.values if value)


PARSER_FUNCTIONS = frozenset(("formatnum", "lc", "uc", "ucfirst", "lcfirst"))
GERMAN_LANGUAGES = frozenset(  # `{{enS|text}}`
    f"{code}s"
    for code in (
        "en",
        "fr",
        "la",
        "it",
        "es",
        "el",
        "ru",
        "nl",
        "pl",
        "pt",
        "ar",
        "he",
        "tr",
        "sv",
        "cs",
        "hu",
        "ja",
        "zh",
    )
)
WRITERS: dict[str, Writer] = {
    **dict.fromkeys(FIRST, _write_first),
    **dict.fromkeys(SECOND, _write_second),
    **dict.fromkeys(LINKS, _write_link),
    **dict.fromkeys(BLOCKS, _write_block),
    **dict.fromkeys(("transl", "translit", "transliteration"), _write_transliteration),
    **dict.fromkeys(LISTS, _join(", ")),
    **dict.fromkeys(("keypress", "key press"), _join("+")),
    **{name: _follow(sign) for name, sign in SIGNS.items()},
    **dict.fromkeys((*CURRENCIES, "currency"), _write_currency),
    **dict.fromkeys(("inrconvert", "indian rupee convert"), _write_rupees),
    **dict.fromkeys(("convert", "cvt", "convert/2", "höhe"), _write_convert),
    **dict.fromkeys(("val", "value"), _write_quantity),
    **dict.fromkeys(("unité", "unite", "unidad", "num", "nums", "nombre", "fmtn", "tmp"), _write_values),
    **dict.fromkeys(("frac", "sfrac", "fraction", "bruch", "fract", "tfrac"), _write_fraction),
    **dict.fromkeys(("e", "x10^"), _write_power),
    **dict.fromkeys(("chem", "simple chem"), _write_chemistry),
    **dict.fromkeys(("chem2", "chemie"), _write_formula),
    **dict.fromkeys(("su", "subsup"), _write_both),
    **dict.fromkeys(("nihongo", "nihongo2", "nihongo3"), _write_japanese),
    **dict.fromkeys(("読み仮名", "ruby", "読み仮名 ruby不使用"), _write_reading),
    **dict.fromkeys(("zh", "korean", "zh-full"), _write_chinese),
    **dict.fromkeys(("circa", "c.", "ca."), _write_about("c.")),
    **dict.fromkeys(("floruit", "fl."), _write_about("fl.")),
    **dict.fromkeys(("reign", "r."), _write_about("r.")),
    **dict.fromkeys(("ship", *SHIPS), _write_ship),
    **dict.fromkeys(("sclass", "sclass2"), _write_class),
    **dict.fromkeys(("ordinal", "nth", "ord"), _write_ordinal),
    **dict.fromkeys(("sup", "exposant", "smallsup"), _raise(SUP)),
    **dict.fromkeys(("sub", "indice"), _raise(SUB)),
    **dict.fromkeys(("sqrt", "radic"), _wrap("√", "")),
    **dict.fromkeys(("literal translation", "lit", "lit.", "literally"), _wrap("lit. '", "'")),
    "abs": _wrap("|", "|"),
    "10^": _raise(SUP, "10"),
    "gaps": _join(""),
    "p.": _wrap("p. ", ""),
    **dict.fromkeys(("oldstyledate", "dtlink"), _join(" ")),
    **dict.fromkeys(
        (*YEAR_FIRST, *DAY_FIRST), lambda call: describe_date(call.name, call.values, call.named, call.language)
    ),
    **dict.fromkeys(("as of", "asof"), lambda call: describe_as_of(call.values, call.named)),
    "formatnum": _write_first,
    "lc": lambda call: call.at(0).lower(),
    "uc": lambda call: call.at(0).upper(),
    "ucfirst": lambda call: call.at(0)[:1].upper() + call.at(0)[1:],
    "lcfirst": lambda call: call.at(0)[:1].lower() + call.at(0)[1:],
}
LOCAL: dict[str, dict[str, Writer]] = {  # names that mean something else in other wikis
    "fr": {
        **dict.fromkeys(("s", "s-", "s mini", "siècle"), _write_century),
        **dict.fromkeys(("citation", "guil"), _wrap("« ", " »")),
        "exp": _raise(SUP),
        "ind": _raise(SUB),
        "nb": _write_values,
        "2": lambda _: f"{SUP}2{END}",
        "3": lambda _: f"{SUP}3{END}",
    },
    "it": {"m": _write_quantity},
    "es": {"siglo": _wrap("siglo ", ""), "cita": _write_block, "e": _raise(SUP, "×10")},
    "pt": {"séc": _wrap("século ", ""), "século": _wrap("século ", "")},
    "ru": {"s": _write_first},
}
