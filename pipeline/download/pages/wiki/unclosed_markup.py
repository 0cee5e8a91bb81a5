"""Count the unclosed markup of a wikitext page, which determines the parsing time.

In: wikitext. Out: the number of openings (`[[ {{ {| [x <tag <!--`) without a matching closing in the right order. The parser
searches for the end of each of them up to the end of the page, so its time grows with their number times the length: measured, up
to 0.25 µs per character and opening. Real pages have a few; 1,000 in 4 kB take it half a second, in 1 MB minutes.
An estimate: markup inside `<nowiki>` is counted too. Time: O(n), 10 ms per MB of real pages.
"""

from __future__ import annotations

import re

LOOK_BACK = 64  # a closing can only match one of this many preceding openings
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CLOSED = (  # markup without inner markup, innermost kinds first: most of a page, and cheap to remove
    re.compile(r"\[\[[^][{}<]*\]\]"),
    re.compile(r"\{\{[^][{}<]*\}\}"),
    re.compile(r"\[[^][{}<]*\]"),
    re.compile(r"<ref[^<>/]*>[^][{}<]*</ref>"),
)
MARKUP = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}(?!\})|\[(?=[A-Za-z/])|\]|<!--|<(?P<slash>/?)(?P<name>[A-Za-z]+)[^<>]*(?P<end>>?)"
)
OPENING = {"]]": "[[", "}}": "{{", "|}": "{|", "]": "["}
SINGLE_TAGS = frozenset(("br", "hr", "wbr", "li", "dt", "dd", "td", "th", "tr", "img", "link", "meta"))


def count_unclosed(text: str) -> int:
    """Return the number of unclosed openings."""
    end = text.rfind("-->") + 3  # no search past the last comment end, or each unclosed comment would cost a scan
    text = COMMENT.sub(" ", text[:end]) + text[end:]
    for pattern in CLOSED:
        text = pattern.sub("", text)
    openings: list[str] = []
    n_crossed = 0
    for match in MARKUP.finditer(text):
        token, name = match[0], match["name"]
        if name and match["slash"]:
            closed = name.lower()
        elif name:
            closed, token = "", name.lower() if match["end"] else "<!--"
            if token in SINGLE_TAGS or match[0].endswith("/>"):
                continue
        else:
            closed = OPENING.get(token, "")
        if not closed:
            openings.append(token)
        elif closed in (recent := openings[-LOOK_BACK:]):
            n_later = recent[::-1].index(closed)  # later openings remain unclosed
            n_crossed += n_later
            del openings[len(openings) - 1 - n_later :]
    return n_crossed + len(openings)
