"""Count in how many other documents each symbol is mentioned: what is mentioned often is what people ask about.

In: documents with titles and texts. Out: a number for each title. A mention is a dotted name (`numpy.sum`, `np.sum`, or the last
two parts, `DataFrame.head`, where at most `MAX_MEANINGS` titles end in them), or a call of a name without dots (`print(…)`).
Time: O(characters), 2 CPU-s for 40 MB. Memory: the titles.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from model.retrieval.names import MODULE_ALIASES

MAX_MEANINGS = 3
_MENTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|\b[a-z]\w*(?=\()")


def count_mentions(titles: Sequence[str], texts: Iterable[str]) -> Counter[str]:
    """Return the number of documents that mention each title, other than its own."""
    meanings = _list_meanings(titles)
    counts: Counter[str] = Counter()
    for title, text in zip(titles, texts, strict=True):
        names = set(_MENTION.findall(text))
        meant = {other for name in names & meanings.keys() for other in meanings[name]}
        meant.discard(title)
        counts.update(meant)
    return counts


def _list_meanings(titles: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what a name in a text means: a title, its alias, or the last two parts of a few titles."""
    tails: dict[str, list[str]] = defaultdict(list)
    aliases: dict[str, list[str]] = defaultdict(list)
    modules = {module: alias for alias, expanded in MODULE_ALIASES.items() for module in expanded}
    for title in dict.fromkeys(titles):
        parts = title.split(".")
        if len(parts) > 2:
            tails[".".join(parts[-2:])].append(title)
        for size in range(1, len(parts)):
            if alias := modules.get(".".join(parts[:size])):
                aliases[".".join([alias, *parts[size:]])].append(title)
    meanings = {tail: tuple(meant) for tail, meant in tails.items() if len(meant) <= MAX_MEANINGS}
    return meanings | {alias: tuple(meant) for alias, meant in aliases.items()} | {title: (title,) for title in titles}
