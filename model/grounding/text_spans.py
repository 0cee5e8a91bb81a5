"""Find the spans of a text that a question may ask for: dates, times, addresses, amounts, numbers, names, places, other phrases.

In: a text and the name of a slot, as people call it (`due date`, `customers`, `order number`). Out: the type of the slot, and
candidate spans in the order of the text. What has a form of its own (a date, an address) is found by that form; names are runs
of capitalized words. Needs the standard library only. Time: O(characters).

Covers: English texts. Does not cover: names in lower case, dates in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from model.grounding.arguments import STOP_WORDS

MAX_SPANS = 60
MAX_PHRASE_WORDS = 4
MIN_PHONE_DIGITS = 6
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_NUMBER = r"\d+(?:[.,]\d+)*"
_CURRENCY = r"(?:euros?|dollars?|pounds?|cents?|francs?|yen|EUR|USD|GBP|CHF)"
_DATE = (
    rf"\b\d{{4}}-\d{{1,2}}-\d{{1,2}}\b|\b\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}\b|"
    rf"(?:{_DAY},? )?(?:\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? \d{{4}})?\b|"
    rf"\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?)|"
    rf"\b{_MONTH} \d{{4}}\b|\b(?:next |last |this )?{_DAY}\b|\b(?:tomorrow|yesterday|tonight)\b"
)
_TIME = r"\b\d{1,2}[:.]\d{2}(?: ?[aApP]\.?[mM]\b)?|\b\d{1,2} ?[aApP]\.?[mM]\b|\b(?:noon|midnight)\b|\b\d{1,2} o'clock\b"
# Forms, by the type of slot; of two at one place the longer one counts.
FORMS: dict[str, re.Pattern[str]] = {
    "date": re.compile(_DATE),
    "time": re.compile(_TIME, re.IGNORECASE),
    "moment": re.compile(rf"(?:{_DATE})(?:,? (?:at )?(?:{_TIME}))?|(?:{_TIME})(?:,? (?:on )?(?:the )?(?:{_DATE}))?"),
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"\bhttps?://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]|\bwww\.[\w-]+(?:\.[\w-]+)+(?:/[\w./-]*\w)?"),
    "phone": re.compile(r"(?<![\w.])\+?\(?\d{1,4}\)?(?:[ /-]\(?\d{2,8}\)?){1,5}(?![\w.]\d)"),
    "amount": re.compile(rf"[$€£¥] ?{_NUMBER}(?: ?(?:million|billion|k)\b)?|\b{_NUMBER} ?(?:[$€£¥]|{_CURRENCY}\b)"),
    "percent": re.compile(rf"(?<![\w.]){_NUMBER} ?(?:%|percent\b|per cent\b)"),
    "code": re.compile(r"#?\b(?=[\w/-]*\d)(?:[A-Z]{1,6}[-/]?\d[\w/-]*|\d+[-/][A-Z\d][\w/-]*|\d{4,})\b|#\d+|"
        r"\bv?\d+(?:\.\d+){1,3}\b"),
    "number": re.compile(rf"(?<![\w.,]){_NUMBER}(?![\w%]|[.,]\d)|"
        r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty)\b"),
    "hashtag": re.compile(r"(?<!\w)#[A-Za-z]\w*"),
}  # fmt: skip
_HIDING = {
    "number": ("date", "time", "email", "url", "phone", "code"),
    "code": ("date", "time", "email", "url", "amount", "percent", "phone"),
    "phone": ("date", "email", "url"),
    "time": ("date", "amount", "percent"),
}
# What a slot is called, by its last word or by two words.
_SLOTS = {
    "date": "date dates deadline deadlines day days birthday weekday",
    "moment": "when",
    "time": "time times hour",
    "email": "email emails e-mail e-mails mail mails",
    "url": "url urls link links website websites webpage site homepage",
    "phone": "phone phones telephone mobile fax",
    "amount": "price prices cost costs amount amounts total fee fees budget salary rent fine",
    "percent": "percentage percentages percent discount rate",
    "code": "id ids code codes reference version versions invoice ticket",
    "number": "number numbers figures quantity age",
    "hashtag": "hashtag hashtags tag tags",
    "person": "name names person persons people customer customers client clients sender recipient author authors speaker "
    "employee manager "
    " attendee attendees participant participants who whom contact patient teacher owner winner buyer seller guest guests doctor",
    "place": "city cities place places location locations country countries town towns where venue destination hotel",
    "company": "company companies organization organizations organisation employer firm supplier brand shop",
}
_TYPES = {word: kind for kind, words in _SLOTS.items() for word in words.split()}
_TWO_WORDS = {
    "phone number": "phone", "phone numbers": "phone", "telephone number": "phone", "mobile number": "phone",
    "order number": "code", "invoice number": "code", "ticket number": "code", "tracking number": "code",
    "reference number": "code", "serial number": "code",
    "order numbers": "code", "room number": "code", "flight number": "code", "customer number": "code", "web address": "url",
    "web addresses": "url", "email address": "email", "email addresses": "email", "e-mail address": "email",
    "mail address": "email",
    "customer name": "person", "company name": "company", "product name": "phrase", "file name": "phrase", "file names": "phrase",
    "how much": "amount", "order id": "code", "start date": "date", "end date": "date", "e-mail addresses": "email",
}  # fmt: skip
_CAPITALIZED = re.compile(
    r"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?[A-ZÀ-Þ][\w'’-]*[a-zß-ÿ](?:[ -](?:(?:von|van|de|del|da) )?[A-ZÀ-Þ][\w'’-]*[a-zß-ÿ])*"
)
_NO_NAME = frozenset(re.findall(
    r"\w+",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June July August September October "
    "November December Please Dear Best Regards Sincerely Order Invoice Meeting Note Ticket Subject From Our Yesterday "
    "Tomorrow Today Tonight Everyone Both After Before During Since Until Next Last Call Email Contact Send Send Pay Due Total",
))  # fmt: skip
_AT_PLACE = re.compile(
    r"\b(?:in|at|from|to|near|of|around|outside|via|visit(?:ed|ing)?|reached|leaves?|left)(?: the)? $", re.IGNORECASE
)
_FIRM = re.compile(
    r"\b(?:Inc|Ltd|GmbH|Corp|AG|LLC|Co|Labs?|Systems?|Bank|Group|Software|Motors|Foods|Press|University|Institute)\b\.?"
)
_AFTER_NAME = re.compile(  # what follows on a name at the beginning of a sentence, rather than on another word
    r"['’]s\b|,|\s(?:is|was|has|had|will|can|does|did|and|from|said|paid|went|met|wrote|sent|took|gave|came|bought|got|\w{2,}ed|\w{2,}s)\b"
)
_PIECE = re.compile(r"[^\s,;:.!?()\"“”]+(?:[.,:][^\s,;:.!?()\"“”]+)*")


def classify_slot(name: str) -> str:
    """Return the type of a slot by its name; `phrase` if the name says nothing of its form."""
    words = re.findall(r"[\w-]+", name.lower().replace("_", " "))
    pair = " ".join(words[-2:])
    if pair in _TWO_WORDS:
        return _TWO_WORDS[pair]
    known = [_TYPES[word] for word in reversed(words) if word in _TYPES]
    return known[0] if known else "phrase"


def find_spans(text: str, kind: str) -> list[str]:
    """Return the spans of a text that have this type, without repetitions, in the order of the text."""
    if kind in FORMS:
        found = _find_forms(text, kind)
    elif kind == "phrase":
        found = _find_phrases(text)
    else:
        found = _find_names(text, kind)
    return list(dict.fromkeys(found))[:MAX_SPANS]


def _find_forms(text: str, kind: str) -> Iterator[str]:
    """Yield the spans with a form, but for those inside one of another type: the digits of a date are no numbers."""
    for other in _HIDING.get(kind, ()):
        text = FORMS[other].sub(lambda match: _hide(match[0], kind), text)
    for match in FORMS[kind].finditer(text):
        if kind != "phone" or sum(map(str.isdigit, match[0])) >= MIN_PHONE_DIGITS:
            yield match[0].strip()


def _hide(found: str, kind: str) -> str:
    """Return spaces in the place of a span, unless it may have the type itself: only digits, an order number with a hyphen."""
    is_number = kind == "number" and re.fullmatch(r"\d+(?:[.,]\d+)*", found) is not None
    is_code = kind == "code" and re.fullmatch(r"\d+[-/]\d+", found) is not None
    return found if is_number or is_code else " " * len(found)


def _find_names(text: str, kind: str) -> list[str]:
    """Return runs of capitalized words; of places those after a preposition, of persons the others, if there are any."""
    named: list[tuple[str, bool, bool]] = []
    text = FORMS["date"].sub(lambda match: " " * len(match[0]), text)
    for match in _CAPITALIZED.finditer(text):
        is_first = _starts_sentence(text, match.start())
        name, start = _trim_name(match[0], is_first)
        if not name or (is_first and not start and " " not in name and not _AFTER_NAME.match(text[match.end() :])):
            continue
        before = text[: match.start() + start]
        is_firm = bool(_FIRM.search(text[match.start() : match.end() + 6]))
        named.append((name, bool(_AT_PLACE.search(before[-20:])), is_firm))
    if kind == "company":
        firms = [name for name, _, is_firm in named if is_firm]
        return firms or [name for name, _, _ in named]
    wanted = [name for name, is_place, is_firm in named if is_place == (kind == "place") and not is_firm]
    return wanted or [name for name, _, is_firm in named if not is_firm]


def _trim_name(name: str, starts_sentence: bool) -> tuple[str, int]:
    """Return a name without words that only begin a sentence, and where it starts; empty if nothing is left."""
    words, start = name.split(" "), 0
    while words and (
        words[0] in _NO_NAME or (starts_sentence and words[0].lower().strip("'’") in STOP_WORDS) or words[0] == "I"
    ):
        start += len(words[0]) + 1
        words.pop(0)
        starts_sentence = False
    while words and words[-1] in _NO_NAME:
        words.pop()
    text = " ".join(words)
    return (text.removesuffix("'s").removesuffix("’s"), start) if text else ("", 0)


def _starts_sentence(text: str, position: int) -> bool:
    before = text[:position].rstrip(" \"“'")
    return not before or before[-1] in ".!?:\n-•"


def _find_phrases(text: str) -> Iterator[str]:
    """Yield phrases of up to four words between stop words and punctuation, the longest first."""
    runs: list[list[re.Match[str]]] = [[]]
    last = 0
    for match in _PIECE.finditer(text):
        if text[last : match.start()].strip() or match[0].lower() in STOP_WORDS:
            runs.append([])
        if match[0].lower() not in STOP_WORDS:
            runs[-1].append(match)
        last = match.end()
    for run in runs:
        for size in range(min(len(run), MAX_PHRASE_WORDS), 0, -1):
            for start in range(len(run) - size + 1):
                yield text[run[start].start() : run[start + size - 1].end()]
