"""Count how often other documents mention each symbol: what is mentioned often is what people ask about.

In: texts. Out: a number for each title. A mention is a dotted name (`numpy.sum`, `np.sum`, or the last two parts, `DataFrame.head`,
where at most `MAX_MEANINGS` titles end in them), or a call of a name without dots (`print(…)`); each spelling counts once a
document. Time: O(characters), 2 CPU-s for 40 MB. Memory: the distinct names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from model.retrieval.naming.names import MODULE_ALIASES

MAX_MEANINGS = 3
_MENTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|\b[a-z]\w*(?=\()")


def count_names(titles: Iterable[str], texts: Iterable[str]) -> Counter[str]:
    """Return in how many documents each name is spelled, other than the document of that title."""
    counts: Counter[str] = Counter()
    for title, text in zip(titles, texts, strict=True):
        words = " ".join({word for word in text.split() if "." in word or "(" in word})  # a tenth of the text
        names = set(_MENTION.findall(words))
        names.discard(title)
        counts.update(names)
    return counts


def resolve_mentions(counts: Mapping[str, int], titles: Sequence[str]) -> dict[str, int]:
    """Return the number of mentions of each title that has any."""
    mentions: Counter[str] = Counter()
    for name, meant in _list_meanings(titles).items():
        if name in counts:
            for title in meant:
                mentions[title] += counts[name]
    return dict(mentions)


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
