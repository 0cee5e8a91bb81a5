"""Tell by its form what a message wants of the memory: remember, correct, recall, or nothing.

In: a message as typed. Out: a `Request`, or None. Pure functions of the text; time: O(characters).

Covers: `remember that …`, also with an end (`remember for 3 days that …`, `until 2026-05-01`); corrections (`no, my name is …`,
`actually, I live in …`); questions about what was told (`what's my name?`, `what did I tell you about …?`). Does not cover: facts
in passing, which are not remembered: nothing is stored without being asked for. English only; /remember works in any language.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

_REMEMBER = re.compile(
    r"\s*(?:please[,\s]+)?(?:(?:can|could)\s+you\s+(?:please\s+)?)?(?:remember|keep\s+in\s+mind|(?:do\s+not|don['’]t)\s+forget)\b[\s,:]*"
    r"(?P<end>(?:for\s+\d+\s+\w+|until\s+\d{4}-\d\d-\d\d)\b)?[\s,:]*(?:that\b[\s,:]*)?(?P<text>\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_ASKED_TO = re.compile(r"\s*(?:please[,\s]+)?(?:can|could)\s+you\s+(?:please\s+)?remember\s+that\b", re.IGNORECASE)
_NOT_A_FACT = re.compile(r"(?:when|what|how|who|where|why|me|to|anything|everything|something)\b", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\s*(?:no|nope|actually|correction|sorry|wrong|that['’]s\s+wrong)[\s,.:;!]+(?:actually[\s,]+)?(?P<text>(?:my|our|i|we|i['’]m)\b.*)",
    re.IGNORECASE | re.DOTALL,
)
_ALL = re.compile(
    r"\W*what\s+(?:do|did)\s+you\s+(?:remember|know)(?:\s+about\s+(?:me|us))?\W*|\W*what\s+have\s+i\s+told\s+you\W*",
    re.IGNORECASE,
)
_TOLD = re.compile(
    r"\W*(?:what\s+did\s+i\s+(?:tell|say\s+to)\s+you\s+about|what\s+have\s+i\s+told\s+you\s+about|what\s+do\s+you\s+(?:remember|know)\s+about|"
    r"do\s+you\s+remember|remember\s+what\s+i\s+said\s+about)\s+(?P<topic>.+)",
    re.IGNORECASE | re.DOTALL,
)
_OWN = re.compile(
    r"\W*(?:and\s+)?(?:(?:what|who|where|when|which|whose)(?:['’]s|['’]re|\s+is|\s+are|\s+was|\s+were)?\s+(?P<name>(?:my|our)\s+[^?]+)|"
    r"(?P<who>who\s+am\s+i)|(?P<doing>(?:what|where|when|which|how\s+old|how\s+many|how\s+much)\b[^?]*?\b(?:do|did|am|have|are|was)\s+(?:i|we)\b[^?]*))\W*",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"\s*(?P<subject>(?:my|our)\s+(?:\w+\s+){0,4}?\w+)\s+(?:is|are|was|were)(?:\s+called)?\s+(?P<value>\S.*)",
    re.IGNORECASE,
)
_SYNONYMS = ((re.compile(r"\s*i(?:['’]m|\s+am)\s+called\s+", re.IGNORECASE), "my name is "),)
UNITS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400, "year": 365 * 86_400}
MAX_SECONDS = 100 * 365 * 86_400


class Request(NamedTuple):
    """What a message wants. `text` is the sentence to remember, or the topic to recall (empty: everything); `is_sure`: it is about
    the memory even if nothing is remembered about it."""

    kind: Literal["remember", "correct", "recall"]
    text: str
    expires: datetime | None = None
    is_sure: bool = True


def read_request(message: str, now: datetime) -> Request | None:
    """Return what a message wants of the memory; None if nothing."""
    is_question = message.rstrip().endswith("?")
    if (
        (match := _REMEMBER.fullmatch(message.rstrip("? ") if _ASKED_TO.match(message) else message))
        and not (is_question and not _ASKED_TO.match(message))
        and not _NOT_A_FACT.match(match["text"])
    ):
        return Request("remember", match["text"].strip(), read_expiry(match["end"] or "", now))
    if (match := _CORRECTION.fullmatch(message)) and not is_question:
        return Request("correct", match["text"].strip())
    if _ALL.fullmatch(message):
        return Request("recall", "")
    if match := _TOLD.fullmatch(message):
        return Request("recall", match["topic"].strip(" ?.!"))
    if match := _OWN.fullmatch(message):
        topic = "my name" if match["who"] else (match["name"] or match["doing"]).strip(" ?.!")
        return Request("recall", topic, is_sure=topic.casefold() == "my name")
    return None


def read_expiry(words: str, now: datetime) -> datetime | None:
    """Return the time that `for 3 days` or `until 2026-05-01` names; None if there is none.

    Raises: ValueError for an unknown unit, an impossible date or one that has passed.
    """
    if not words:
        return None
    parts = words.casefold().split()
    if parts[0] == "until":
        expires = datetime.fromisoformat(parts[1]).replace(tzinfo=now.tzinfo or UTC) + timedelta(days=1)
    else:
        seconds = int(parts[1][:12]) * UNITS.get(parts[2].removesuffix("s"), 0)
        if not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"an expiry is a number of {', '.join(UNITS)}s; found {words[:60]!r}; say: for 3 days.")
        expires = now + timedelta(seconds=seconds)
    if expires <= now:
        raise ValueError(f"an expiry is in the future; found {words[:60]!r}; name a later day.")
    return expires


def find_subject(sentence: str) -> str:
    """Return what a sentence gives a value, such as `my name`; empty if its form does not say."""
    for pattern, replacement in _SYNONYMS:
        sentence = pattern.sub(replacement, sentence)
    match = _SUBJECT.fullmatch(sentence)
    return " ".join(match["subject"].casefold().split()) if match else ""


def find_name(sentence: str) -> str:
    """Return the name of the user if the sentence says it, else an empty string."""
    for pattern, replacement in _SYNONYMS:
        sentence = pattern.sub(replacement, sentence)
    match = _SUBJECT.fullmatch(sentence)
    return match["value"].strip(" .!") if match and find_subject(sentence) == "my name" else ""
