"""Split prose into paragraphs and sentences.

In: the text of a document (docstrings, plain text). Out: paragraphs of prose on one line each, sentences verbatim. Code,
lists, headings and field lists are not prose. Time and memory: O(characters).

Covers: English punctuation, common abbreviations, initials, names with dots in them; full stops of Arabic, Hindi, Chinese and
Japanese. Does not cover: Thai, which has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLANK = re.compile(r"\n\s*\n")
_UNDERLINE = re.compile(r"[-=~^*#\"'.`]{3,}")
_HEADING = re.compile(
    r"(args?|arguments|parameters|params|returns?|raises|yields|examples?|notes?|see also|attributes|references|methods|"
    r"usage|warnings?|keyword arguments|other parameters|todo)\s*:{0,2}",
    re.IGNORECASE,
)
_NO_PROSE = re.compile(r">>>|\.\. |\.{3} |:\w+[^:`]*:(\s|$)|@\w|[-*+•] |\d+[.)] |\||[{}\[\]<>#$%=+]|```|\\\w")
_END = re.compile(r"[.!?]+[\"'”’)\]`]*(?=\s)|[。！？]+[”’」』）]*|[؟۔।]+(?=\s)")
_SPACE = re.compile(r"\s*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|resp|incl|fig|figs|eq|eqs|sec|no|dr|mr|mrs|ms|prof|st|al|ca|max|min|def|w\.r\.t|a\.k\.a|"
    r"viz|vol|pp?|ch|ed|jr|sr)|\b[A-Za-z])\.[)\]\"']*$",
    re.IGNORECASE,
)
_STARTS_LOWER = re.compile(r"[a-z]")


def extract_paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of prose before the first heading; a title at the very start counts as prose."""
    for number, block in enumerate(_BLANK.split(text.strip())):
        lines = [line.strip() for line in block.strip().split("\n")]
        is_underlined = len(lines) > 1 and _UNDERLINE.fullmatch(lines[1])
        if _HEADING.fullmatch(lines[0]) or (is_underlined and number > 0):
            return
        if is_underlined:
            yield lines[0]
            lines = lines[2:]
        kept: list[str] = []
        for line in lines:
            if _NO_PROSE.match(line) or _HEADING.fullmatch(line) or _UNDERLINE.fullmatch(line):
                break
            kept.append(line)
        if any(kept):
            yield " ".join(" ".join(kept).split())


def split_sentences(paragraph: str) -> list[str]:
    """Return the sentences of one paragraph verbatim; joined by single spaces they are the paragraph."""
    return [paragraph[start:end] for start, end in locate_sentences(paragraph)]


def locate_sentences(text: str) -> list[tuple[int, int]]:
    """Return start and end of each sentence of a paragraph, which may have several lines; between them is white space only."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        after = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        if text[match.start()] == "." and _ABBREVIATION.search(text, max(start, end - 24), end):
            continue
        if _STARTS_LOWER.match(text, after) and not text[after : after + 40].partition(" ")[0].strip(".").count("."):
            continue  # "file.py. and so on": the full stop is inside a sentence
        spans.append((start, end))
        start = after
    if text[start:]:
        spans.append((start, len(text)))
    return spans


def has_full_stop(sentence: str) -> bool:
    """Return whether the end of a sentence is visible by its punctuation."""
    return sentence.rstrip("\"'”’)]`").endswith((".", "!", "?", ":", "…"))
