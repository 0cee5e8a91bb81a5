"""Find the headings of prose: Markdown's `#` and titles underlined as reStructuredText has them.

In: a text. Out: marks: where a heading is, and the path of headings that it begins. In fenced code `#` is a comment, not a heading.
Time: O(characters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_CANDIDATE = re.compile(
    r"^(?:(?P<fence>```|~~~).*"
    r"|(?P<hashes>#{1,6}) +(?P<title>[^\n]*[^\s#])[ #]*"
    r"|(?:(?P<over>[-=~^*#\"'.`_+])(?P=over){2,}[ ]*\n)?"
    r"[ ]?(?P<line>[^\s\n][^\n]*)\n(?P<under>[-=~^*#\"'.`_+])(?P=under){2,}[ ]*)$",
    re.MULTILINE,
)
_WORD = re.compile(r"[^\W_]")
MAX_TITLE_CHARS = 200


class Mark(NamedTuple):
    """A position where a section begins: the path of its headings, and its page (0: the document has none)."""

    start: int
    heading: tuple[str, ...]
    page: int = 0


def find_headings(text: str, start: int = 0) -> list[Mark]:
    """Return the headings from `start` on, in order."""
    marks: list[Mark] = []
    path: list[tuple[int, str]] = []
    for at, level, title in _find_titles(text, start):
        while path and path[-1][0] >= level:
            path.pop()
        path.append((level, title))
        marks.append(Mark(at, tuple(title for _, title in path)))
    return marks


def _find_titles(text: str, start: int) -> Iterator[tuple[int, int, str]]:
    """Yield position, level and title of each heading. The level of an underline is the order in which it first appears."""
    fence, styles = "", dict[str, int]()
    for match in _CANDIDATE.finditer(text, start):
        if match["fence"]:
            fence = "" if fence == match["fence"] else fence or match["fence"]
        elif fence:
            continue
        elif match["hashes"]:
            yield match.start(), len(match["hashes"]), _clean_title(match["title"])
        elif _is_title(match["line"]) and (match["over"] is None or match["over"] == match["under"]):
            style = f"{match['over'] or ''}{match['under']}"
            yield match.start(), styles.setdefault(style, len(styles) + 1), _clean_title(match["line"])


def _is_title(line: str) -> bool:
    return len(line) <= MAX_TITLE_CHARS and bool(_WORD.search(line)) and not line.startswith(("|", ">>>"))


def _clean_title(title: str) -> str:
    return " ".join(title.split())[:MAX_TITLE_CHARS]
