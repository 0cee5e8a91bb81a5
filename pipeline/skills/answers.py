"""The forms of the assistant's answers: written here for training, read back here for scoring.

Closed forms, because a small model learns them exactly. An answer from documentation begins with the name that was
asked for: writing it again, the model compares it token by token with the names above the passages, and knows at its
end whether one of them is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

NOTHING_FOUND = "No passage found."  # what search_docs says then
_ABSTENTION = "the documentation I found does not say."
_REFUSAL = "can't help with"
_QUOTE = re.compile(r'(?P<asked>[^"]*): "(?P<sentence>.*)" \[(?P<title>[^\[\]]*)\]', re.DOTALL)


class Quote(NamedTuple):
    asked: str
    sentence: str
    title: str


def quote(asked: str, sentence: str, title: str) -> str:
    return f'{asked}: "{sentence}" [{title}]'


def parse_quote(text: str) -> Quote | None:
    match = _QUOTE.fullmatch(text.strip())
    return Quote(match["asked"], match["sentence"], match["title"]) if match else None


def abstention(asked: str = "") -> str:
    """Without a name where the question was in words."""
    return f"{asked}: {_ABSTENTION}" if asked else "T" + _ABSTENTION[1:]


def is_abstention(text: str, asked: str) -> bool:
    return _ABSTENTION[1:] in text and asked in text and parse_quote(text) is None


def is_refusal(text: str) -> bool:
    """All refusals in data/seed/chat hold these words, whatever reason or help follows."""
    return _REFUSAL in text


def result(expression: str, value: str) -> str:
    """Of the calculator; `value` may be its error."""
    if value.startswith("error: "):
        return f"I can't calculate that: {value.removeprefix('error: ')}."
    return f"{expression} = {value}"


def shown(titles_and_texts: Sequence[tuple[str, str]]) -> str:
    """Passages as search_docs gives them: a line each."""
    return "\n".join(f"[{title}] {text}" for title, text in titles_and_texts) or NOTHING_FOUND
