"""Write superscripts and subscripts as plain text: `10^23`, `H_2O`, `x^(n+1)`.

In: HTML or wikitext whose `<sup>` and `<sub>` have become control characters (`mark_scripts`, or the fold of wikitext), and the
text extracted from it. Out: the text, with `^` and `_` as in TeX, which is how formulas are written here too; Unicode's
superscripts lack most letters, and NFKC, which compares documents and evaluation sets, would turn 10² into 102. The rule, in order:
- references vanish: `[1]`, `[citation needed]`, links to a place in a page, classes such as `reference`;
- what is no exponent is joined as it is read: ordinals (4th, XIXe, Mme, nº), signs (™ ® * † °), fractions (3 1/2);
- a remark of several words is put in parentheses: `2011 (15 years ago)`;
- everything else follows `^` or `_`, in parentheses where it is more than a number, a name or a sign, or would run into what
  follows.
Does not cover: footnote numbers without a link or a class (`word^1`). Time: O(n), nested scripts once per level.
"""

from __future__ import annotations

import re

# Control characters; no text contains them, and `remove_marks` drops those that have no counterpart.
SUP, SUB, END, REFERENCE = "\x04", "\x05", "\x06", "\x07"
MARKS = re.compile("[\x04-\x07]")
MAX_LEVELS = 8
LOOK_BACK = 12  # characters before a script that tell what it is
LOOK_AROUND = 300  # bytes of HTML around a tag, for its link

SCRIPT = re.compile("([\x04\x05\x07])([^\x04-\x07]*)\x06")
FRACTION = re.compile(
    "(\\d|(?<![\\w)\\]}]))\x04\\s*([0-9]{1,5})\\s*\x06\\s*(?:[/\u2044\u2215]\\s*\x05\\s*([0-9]{1,5})\\s*\x06|\u2044\\s*([0-9]{1,5}))"
)
QUOTES = re.compile("'{2,}")
BRACKETS = re.compile(r"(?:\s*\[[^\[\]]*\]\s*[,;]?)+")
SEPARATORS = re.compile(r"[\s,;.]*")
SIGNS = re.compile(r"[®©™℠*∗†‡§¶°ºª'′″]+")
SPELLED_SIGNS = {"tm": "™", "sm": "℠", "r": "®"}
WORDS = re.compile(r"[^\W\d_]{2,}[.,]?\s+(?:\S+\s+)*[^\W\d_]{2,}")
SIMPLE = re.compile(r"[+\-−–±∓]?[^\W_]+(?:\.\d+)?[+\-−*′']*|[+\-−–±∓]+|\([^()]*\)")
NUMBER = re.compile(r"[+\-−–±∓]?\d+(?:\.\d+)?")
ORDINALS = frozenset(
    (
        *("st", "nd", "rd", "th"),  # English
        *("er", "ers", "re", "res", "e", "es", "è", "ère", "ème", "eme", "ième", "nd", "nde"),  # French
        *("os", "as", "ma", "mo", "do", "va", "vo", "ste", "de", "te"),  # Portuguese, Spanish, Dutch
    )
)
NUMERAL = re.compile(r"(?:\d\.?|\b[IVXLCDM]+|\b[ivxlcdm]{2,})\Z")
ABBREVIATIONS = {
    "M": {"me", "mes", "lle", "lles", "gr", "rs", "c"},
    "S": {"t", "te", "r"},
    "D": {"r", "ra"},
    "C": {"ie", "o"},
    "n": {"o", "os"},
    "N": {"o", "os"},
}

TAG = re.compile(rb"<(/?)[sS][uU]([bBpP])((?:\s[^<>]{0,2000})?)>")
STARTS = (b"<sup", b"<sub>", b"<sub ", b"<SU")
REFERENCE_ATTRIBUTE = re.compile(rb"reference|footnote|fnref|cite|citation|noteref|noprint|endnote", re.IGNORECASE)
LINK_TO_PLACE = rb"<a\s[^<>]*?href\s*=\s*[\"']?[^\"'\s<>]*#[^<>]*>"
LINK_AFTER = re.compile(rb"\s*(?:<span[^<>]*>\s*)?" + LINK_TO_PLACE, re.IGNORECASE)
LINK_BEFORE = re.compile(LINK_TO_PLACE + rb"\s*", re.IGNORECASE)


def mark_scripts(page: bytes) -> bytes:
    """Replace the tags `<sup>` and `<sub>` of a page with control characters."""
    return TAG.sub(_mark, page) if any(start in page for start in STARTS) else page


def _mark(tag: re.Match[bytes]) -> bytes:
    if tag[1]:
        return END.encode()
    if tag[2] in b"bB":
        return SUB.encode()
    page, start, end = tag.string, tag.start(), tag.end()
    opened = page.rfind(b"<", max(start - LOOK_AROUND, 0), start)
    is_reference = (
        REFERENCE_ATTRIBUTE.search(tag[3])
        or LINK_AFTER.match(page, end, end + LOOK_AROUND)
        or (opened >= 0 and LINK_BEFORE.fullmatch(page, opened, start))
    )
    return (REFERENCE if is_reference else SUP).encode()


def has_reference_attribute(attributes: str) -> bool:
    """Return whether the attributes of a `<sup>` are those of a reference."""
    return bool(REFERENCE_ATTRIBUTE.search(attributes.encode("utf-8", "replace")))


def mark_script(mark: str, inside: str) -> str:
    """Return the text of wikitext's `<sup>` or `<sub>` between control characters, without quotes for bold and italic."""
    return f"{mark}{QUOTES.sub('', inside)}{END}"


def render_scripts(text: str) -> str:
    """Return the text with `^` and `_` in the place of control characters."""
    if not any(mark in text for mark in (SUP, SUB, END, REFERENCE)):  # faster than a search for a class of characters
        return text
    for _ in range(MAX_LEVELS):  # inner scripts first
        text = FRACTION.sub(_render_fraction, text)
        text, n_changed = SCRIPT.subn(_render, text)
        if not n_changed:
            break
    return remove_marks(text)


def remove_marks(text: str) -> str:
    """Return the text without the control characters of scripts."""
    return MARKS.sub("", text)


def _render_fraction(match: re.Match[str]) -> str:
    return f"{match[1]}{' ' * bool(match[1])}{match[2]}/{match[3] or match[4]}"


def _render(match: re.Match[str]) -> str:
    kind, inside = match[1], " ".join(match[2].split())
    before = MARKS.sub("", match.string[max(match.start() - LOOK_BACK, 0) : match.start()])
    if kind == REFERENCE or SEPARATORS.fullmatch(inside) or BRACKETS.fullmatch(inside):
        return ""
    if kind == SUP and (joined := _join(before, inside)):
        return joined
    is_attached = bool(before) and not before[-1].isspace()
    if WORDS.search(inside):
        return f" ({inside})" if is_attached else inside
    after = match.string[match.end() : match.end() + 1]
    runs_on = after.isalnum() and inside[-1].isalnum() and not (NUMBER.fullmatch(inside) and after.isalpha())
    sign = "^" if kind == SUP else "_"
    if SIMPLE.fullmatch(inside) and not runs_on:
        return f"{sign}{inside}"
    return f"{sign}({inside})"


def _join(before: str, inside: str) -> str:
    """Return how a superscript is read that is no exponent; empty if it may be one."""
    lower, word = inside.lower(), re.split(r"[\W\d_]", before)[-1]
    if SIGNS.fullmatch(inside):
        return inside
    if lower in SPELLED_SIGNS and len(word) > 1 and (inside.isupper() or lower == "tm"):
        return SPELLED_SIGNS[lower]
    is_numbered = bool(NUMERAL.search(before))
    if lower == "o" and (is_numbered or word in ("n", "N")):
        return "º"
    if lower in ("a", "as") and before[-1:] == ".":
        return "ª" if lower == "a" else inside
    is_ordinal = (is_numbered and lower in ORDINALS) or (len(word) == 1 and lower == "th")
    return inside if is_ordinal or inside in ABBREVIATIONS.get(word, ()) else ""
