"""Count the markup of a page's wikitext that is opened and never closed: what the parsing time depends on.

In: wikitext. Out: the number of openings (`[[ {{ {| [x <tag <!--`) that no closing in the right order belongs to. The parser
looks for the end of each of them up to the end of the page, so that its time grows with their number times the length:
measured, up to 0.25 µs per character and opening. Real pages have a few; 1,000 in 4 kB take it half a second, in 1 MB minutes.
An estimate: what is inside `<nowiki>` is counted too. Time: O(n), 10 ms per MB of real pages.
"""

from __future__ import annotations

import re

LOOK_BACK = 64  # a closing belongs to one of the last so many openings, or to none
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CLOSED = (  # what holds no other markup, innermost kinds first: most of a page, and removed at little cost
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
    """Return the number of openings without an end."""
    end = text.rfind("-->") + 3  # behind the last end of a comment none is searched again for each that never ends
    text = COMMENT.sub(" ", text[:end]) + text[end:]
    for pattern in CLOSED:
        text = pattern.sub("", text)
    open_marks: list[str] = []
    n_crossed = 0
    for found in MARKUP.finditer(text):
        mark, name = found[0], found["name"]
        if name and found["slash"]:
            closed = name.lower()
        elif name:
            closed, mark = "", name.lower() if found["end"] else "<!--"
            if mark in SINGLE_TAGS or found[0].endswith("/>"):
                continue
        else:
            closed = OPENING.get(mark, "")
        if not closed:
            open_marks.append(mark)
        elif closed in (recent := open_marks[-LOOK_BACK:]):
            n_later = recent[::-1].index(closed)  # what was opened later stays open for good
            n_crossed += n_later
            del open_marks[len(open_marks) - 1 - n_later :]
    return n_crossed + len(open_marks)
