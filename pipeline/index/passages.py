"""Cut documents into passages, which `search_docs` returns and answers quote.

In: the columns of DOCS. Out: passages, each with a title that users ask about. A Python symbol gives one, `"Matrix or
vector norm." This function … — norm(x, ord=None)`: the first paragraphs, cut at the end of a sentence, then its last name with
its signature. Other text gives one passage for every few sentences, titled with the document's title and a number.

A passage starts with its first sentence verbatim and in quotation marks. Together with the title before it, this is token for
token what an answer quotes, so that quoting is copying, which a tiny model learns. Time and memory: O(characters).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from model.retrieval.cutting.sentences import extract_paragraphs, has_full_stop, split_sentences
from pipeline.text.passage import Passage

MAX_SIGNATURE_CHARS = 48
MAX_TITLE_CHARS = 64
UNFINISHED = " —"  # follows a sentence without a full stop, so that its end is visible
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class Doc(NamedTuple):
    """A row of DOCS without the URL."""

    id: str
    text: str
    source: str
    locator: str
    title: str
    license: str


def cut_passages(docs: Iterable[Doc], max_chars: int) -> Iterator[Passage]:
    """Yield the passages of documents in order, at most one per title: the first one."""
    seen: set[str] = set()
    for doc in docs:
        for passage in (
            _cut_symbol(doc, max_chars) if doc.source.startswith("python_docs/") else _cut_text(doc, max_chars)
        ):
            if passage.title not in seen:
                seen.add(passage.title)
                yield passage


def _cut_symbol(doc: Doc, max_chars: int) -> Iterator[Passage]:
    signature = " ".join(str(json.loads(doc.locator).get("signature", "")).split())
    head, _, body = doc.text.partition("\n\n")
    body = body if doc.title in head else doc.text
    if not body.strip() or not _NAME.fullmatch(doc.title):
        return
    prose = _collect_prose(body, max_chars) or split_sentences(" ".join(body.split())[: 2 * max_chars])
    space = "" if signature.startswith("(") or not signature else " "
    label = f" — {doc.title.rpartition('.')[2]}{space}{shorten(signature, MAX_SIGNATURE_CHARS)}"
    text = quote_first(prose, max_chars - len(label)) + label
    yield Passage(doc.id, doc.title, text, prose[0].removesuffix(UNFINISHED), doc.source, doc.license, True)


def _collect_prose(body: str, max_chars: int) -> list[str]:
    """Return the sentences of the first paragraphs, up to about `max_chars`."""
    prose: list[str] = []
    for paragraph in extract_paragraphs(body):
        *whole, last = split_sentences(paragraph[: 2 * max_chars])
        prose += [*whole, last if has_full_stop(last) else last + UNFINISHED]
        if sum(map(len, prose)) > max_chars:
            break
    return prose


def _cut_text(doc: Doc, max_chars: int) -> Iterator[Passage]:
    """Yield passages titled `title §3`; the first words replace a missing title."""
    parts = [
        last for block in doc.text.split("\n\n") for last in split_sentences(" ".join(block.split())[: 50 * max_chars])
    ]
    chunks = list(_group_sentences([part for part in parts if part], max_chars))
    title = shorten(" ".join(doc.title.split()) or " ".join(doc.text.split()[:6]), MAX_TITLE_CHARS).replace("]", ")")
    for number, chunk in enumerate(chunks, 1):
        name = title if len(chunks) == 1 else f"{title} §{number}"
        yield Passage(
            f"{doc.id}-{number}", name, quote_first(chunk, max_chars), chunk[0], doc.source, doc.license, False
        )


def _group_sentences(parts: Sequence[str], max_chars: int) -> Iterator[list[str]]:
    """Yield runs of sentences of at most `max_chars` together; a longer sentence is a run of its own."""
    chunk: list[str] = []
    for part in parts:
        if chunk and sum(map(len, chunk)) + len(part) > max_chars:
            yield chunk
            chunk = []
        chunk.append(part)
    if chunk:
        yield chunk


def quote_first(parts: Sequence[str], max_chars: int) -> str:
    """Return the sentences that fit, the first in quotation marks; a first sentence that had to be cut gets none."""
    text, first = join_fitting(parts, max_chars - 2), parts[0].removesuffix(UNFINISHED)
    return f'"{first}"{text[len(first) :]}' if text.startswith(first) else text


def join_fitting(parts: Sequence[str], max_chars: int) -> str:
    """Return as many whole sentences as fit into `max_chars`; the first one is shortened if it is too long by itself."""
    text = parts[0] if len(parts[0]) <= max_chars else shorten(parts[0], max_chars)
    for part in parts[1:]:
        if len(text) + 1 + len(part) > max_chars:
            break
        text = f"{text} {part}"
    return text.removesuffix(UNFINISHED)


def shorten(text: str, max_chars: int) -> str:
    """Return `text` cut to `max_chars` characters with an ellipsis, at a space if there is one in the second half."""
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars - 1]
    at = cut.rfind(" ")
    return (cut[:at] if at > len(cut) // 2 else cut).rstrip(" ,;:") + "…"
