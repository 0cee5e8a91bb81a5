"""Documents → passages: what `search_docs` finds and what answers quote.

In: the columns of DOCS. Out: passages, each with a title that people ask for. A Python symbol gives one, `"Matrix or
vector norm." This function … — norm(x, ord=None)`: the first paragraphs, cut at the end of a sentence, then its last name with its
signature. Other text gives one passage for every few sentences, titled by the document and a number.

The first sentence comes first and in quotation marks, word for word: behind the title it stands exactly as an answer quotes it,
token for token, so that quoting is copying, which a tiny model learns. Time and memory: O(characters).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.index.sentences import has_full_stop, paragraphs, sentences
from pipeline.text.passage import Passage

MAX_SIGNATURE_CHARS = 48
MAX_TITLE_CHARS = 64
UNFINISHED = " —"  # stands after a sentence without a full stop, so that its end can be seen
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class Doc(NamedTuple):
    """A row of DOCS without its url."""

    id: str
    text: str
    source: str
    locator: str
    title: str
    license: str


def cut_passages(docs: Iterable[Doc], max_chars: int) -> Iterator[Passage]:
    """Yield the passages of documents in order, at most one per title: that of the first document."""
    seen: set[str] = set()
    for doc in docs:
        for passage in (
            _of_symbol(doc, max_chars) if doc.source.startswith("python_docs/") else _of_text(doc, max_chars)
        ):
            if passage.title not in seen:
                seen.add(passage.title)
                yield passage


def _of_symbol(doc: Doc, max_chars: int) -> Iterator[Passage]:
    signature = " ".join(str(json.loads(doc.locator).get("signature", "")).split())
    head, _, body = doc.text.partition("\n\n")
    body = body if doc.title in head else doc.text
    if not body.strip() or not _NAME.fullmatch(doc.title):
        return
    prose = _prose(body, max_chars) or sentences(" ".join(body.split())[: 2 * max_chars])
    space = "" if signature.startswith("(") or not signature else " "
    label = f" — {doc.title.rpartition('.')[2]}{space}{shorten(signature, MAX_SIGNATURE_CHARS)}"
    text = quote_first(prose, max_chars - len(label)) + label
    yield Passage(doc.id, doc.title, text, prose[0].removesuffix(UNFINISHED), doc.source, doc.license, True)


def _prose(body: str, max_chars: int) -> list[str]:
    """The sentences of the first paragraphs, no more of them than can be used."""
    found: list[str] = []
    for paragraph in paragraphs(body):
        *whole, last = sentences(paragraph[: 2 * max_chars])
        found += [*whole, last if has_full_stop(last) else last + UNFINISHED]
        if sum(map(len, found)) > max_chars:
            break
    return found


def _of_text(doc: Doc, max_chars: int) -> Iterator[Passage]:
    """`title §3`; a document without a title is named by its first words."""
    parts = [last for block in doc.text.split("\n\n") for last in sentences(" ".join(block.split())[: 50 * max_chars])]
    chunks = list(_chunks([part for part in parts if part], max_chars))
    title = shorten(" ".join(doc.title.split()) or " ".join(doc.text.split()[:6]), MAX_TITLE_CHARS).replace("]", ")")
    for number, chunk in enumerate(chunks, 1):
        name = title if len(chunks) == 1 else f"{title} §{number}"
        yield Passage(
            f"{doc.id}-{number}", name, quote_first(chunk, max_chars), chunk[0], doc.source, doc.license, False
        )


def _chunks(parts: Sequence[str], max_chars: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for part in parts:
        if chunk and sum(map(len, chunk)) + len(part) > max_chars:
            yield chunk
            chunk = []
        chunk.append(part)
    if chunk:
        yield chunk


def quote_first(parts: Sequence[str], max_chars: int) -> str:
    """What fits, its first sentence in quotation marks; a sentence that had to be cut is no quotation and gets none."""
    text, first = fill(parts, max_chars - 2), parts[0].removesuffix(UNFINISHED)
    return f'"{first}"{text[len(first) :]}' if text.startswith(first) else text


def fill(parts: Sequence[str], max_chars: int) -> str:
    """As many whole sentences as fit, at least the first, which is cut if it alone is too long."""
    text = parts[0] if len(parts[0]) <= max_chars else shorten(parts[0], max_chars)
    for part in parts[1:]:
        if len(text) + 1 + len(part) > max_chars:
            break
        text = f"{text} {part}"
    return text.removesuffix(UNFINISHED)


def shorten(text: str, max_chars: int) -> str:
    """Cut at a space where there is one near, with an ellipsis."""
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars - 1]
    at = cut.rfind(" ")
    return (cut[:at] if at > len(cut) // 2 else cut).rstrip(" ,;:") + "…"
