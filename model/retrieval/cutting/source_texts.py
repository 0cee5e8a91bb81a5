"""Cut documents into sections with their exact place.

In: documents. Out: sections in order. The documentation of a Python symbol gives its main section, which has the name as title,
and its facets (`numpy.sum: parameters`). Prose gives sections of a few paragraphs each, titled with document and heading, or with
document and number; what a parser knows about headings and pages counts, else the text's own headings. Time: O(characters).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from model.retrieval.cutting.blocks import Span, group_blocks, trim
from model.retrieval.cutting.docstring_fields import DETAILS, FACETS, DocPart, find_parts
from model.retrieval.cutting.headings import Mark, find_headings
from model.retrieval.sections import FACET, Section, hash_text

MAX_TITLE_CHARS = 64
SYMBOL_KINDS = ("function", "class", "method", "module")
MAX_MAIN_CHARS = 1_500  # of a symbol's main section; further paragraphs are its facet `details`
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


class SourceText(NamedTuple):
    """A document to cut. `kind`: function, class or method (its parts are facets of one name), module (a name with prose), or
    another word for prose. `marks` are a parser's headings and pages; without any the text's own headings count."""

    id: str
    text: str
    source: str
    title: str
    url: str
    license: str
    kind: str = ""
    signature: str = ""
    marks: tuple[Mark, ...] = ()


class _Piece(NamedTuple):
    """A section to be: its title, path of headings, kind, range and page."""

    title: str
    heading: tuple[str, ...]
    kind: str
    start: int
    end: int
    page: int = 0


def cut_documents(docs: Iterable[SourceText], max_chars: int) -> Iterator[list[Section]]:
    """Yield the sections of each document that `make_titles_unique` keeps."""
    for doc in make_titles_unique(docs):
        yield cut_document(doc, max_chars)


def make_titles_unique(docs: Iterable[SourceText]) -> list[SourceText]:
    """Return the documents without symbols whose title came before; other documents with the same title get a number."""
    used: set[str] = set()
    kept: list[SourceText] = []
    for doc in docs:
        title = doc.title if is_symbol(doc) else make_title(doc)
        if is_symbol(doc) and title in used:
            continue
        name, number = title, 1
        while name in used:
            number += 1
            name = f"{title} ({number})"
        used.add(name)
        kept.append(doc._replace(title=name))
    return kept


def is_symbol(doc: SourceText) -> bool:
    """Return whether a document is about one Python name, so that its parts are facets."""
    return doc.kind in SYMBOL_KINDS and bool(_NAME.fullmatch(doc.title))


def make_title(doc: SourceText) -> str:
    """Return the title of prose on one line, without what a citation can't hold; the first words where it has none."""
    return _clean(_shorten(" ".join(doc.title.split()) or " ".join(doc.text[:400].split()[:6]), MAX_TITLE_CHARS))


def cut_document(doc: SourceText, max_chars: int) -> list[Section]:
    """Return the sections of one document in order; none if it has no text."""
    pieces = _cut_symbol(doc, max_chars) if is_symbol(doc) else _cut_prose(doc, max_chars)
    return list(_place(doc, list(pieces)))


def _cut_symbol(doc: SourceText, max_chars: int) -> Iterator[_Piece]:
    text = doc.text
    parts = _merge_opening(text, find_parts(text))
    main = trim(text, parts[0].start, parts[0].end)
    first = (
        next(iter(group_blocks(text, *main, MAX_MAIN_CHARS)), main) if main.end - main.start > MAX_MAIN_CHARS else main
    )
    if first.end <= first.start:
        return
    yield _Piece(doc.title, (), "symbol", first.start, first.end)
    rest = [DocPart(DETAILS, "", first.end, main.end)] if first.end < main.end else []
    used = {doc.title}
    for part in [*rest, *parts[1:]]:
        is_prose = doc.kind == "module" and part.name not in FACETS.values()
        is_prose = is_prose or (doc.kind == "module" and part.name == DETAILS)
        spans = (
            list(group_blocks(text, part.start, part.end, max_chars))
            if is_prose
            else [trim(text, part.start, part.end)]
        )
        for span in spans:
            if _has_body(text, span, part.heading):
                title = _shorten(part.heading, MAX_TITLE_CHARS) if is_prose and part.heading else part.name
                name = _count_up(f"{doc.title}: {_clean(title)}", used)
                yield _Piece(name, (part.heading or part.name,), "guide" if is_prose else FACET, span.start, span.end)


def _merge_opening(text: str, parts: list[DocPart]) -> list[DocPart]:
    """Return the parts with a description: where it is the signature alone, a title below it is no heading but its beginning."""
    if (
        len(parts) > 1
        and "\n\n" not in text[parts[0].start : parts[0].end].strip()
        and parts[1].name not in FACETS.values()
    ):
        return [DocPart("", "", parts[0].start, parts[1].end), *parts[2:]]
    return parts


def _has_body(text: str, span: Span, heading: str) -> bool:
    """Return whether a part has more than its heading and the line below it."""
    body = text[span.start : span.end].removeprefix(heading)
    return any(char.isalnum() for char in body)


def _cut_prose(doc: SourceText, max_chars: int) -> Iterator[_Piece]:
    text = doc.text
    marks = list(doc.marks) or find_headings(text)
    if not marks or marks[0].start > 0:
        marks = [Mark(0, ()), *marks]
    base = make_title(doc)
    used: set[str] = set()
    ends = [mark.start for mark in marks[1:]] + [len(text)]
    spans = [
        (mark, span)
        for mark, end in zip(marks, ends, strict=True)
        for span in group_blocks(text, mark.start, end, max_chars)
        if _has_body(text, span, mark.heading[-1] if mark.heading else doc.title)
    ]
    headings = [_clean(_shorten(mark.heading[-1], MAX_TITLE_CHARS)) if mark.heading else "" for mark, _ in spans]
    n_untitled, number = sum(heading in ("", base) for heading in headings), 0
    for (mark, span), heading in zip(spans, headings, strict=True):
        if heading not in ("", base):
            title = _count_up(f"{base}: {heading}", used)
        else:
            number += 1
            title = _count_up(base, used, 0 if n_untitled == 1 else number)
        kind = "guide" if mark.heading else "text"
        yield _Piece(title, mark.heading, kind, span.start, span.end, mark.page)


def _count_up(title: str, used: set[str], number: int = 0) -> str:
    """Return a title that is new in the document, with a number where needed."""
    name = f"{title} §{number}" if number else title
    while name in used:
        number = max(number, 1) + 1
        name = f"{title} §{number}"
    used.add(name)
    return name


def _place(doc: SourceText, pieces: Sequence[_Piece]) -> Iterator[Section]:
    """Yield sections, with lines and paragraphs counted in one pass over the text."""
    at, line, paragraph = 0, 1, 1
    for number, piece in enumerate(pieces):
        line += doc.text.count("\n", at, piece.start)
        paragraph += sum(1 for _ in _BLANK.finditer(doc.text, at, piece.start))
        at = piece.start
        text = doc.text[piece.start : piece.end]
        yield Section(
            id=f"{doc.id}-{number}",
            doc_id=doc.id,
            title=piece.title,
            heading=piece.heading,
            kind=piece.kind,
            text=text,
            start=piece.start,
            end=piece.end,
            page=piece.page,
            paragraph=paragraph,
            line_start=line,
            line_end=line + text.count("\n"),
            url=doc.url,
            source=doc.source,
            license=doc.license,
            sha256=hash_text(text),
            signature=doc.signature if piece.kind == "symbol" else "",
            n_mentions=0,
        )


def _clean(title: str) -> str:
    """Return a title that can be cited: without brackets, quotation marks and line breaks."""
    return " ".join(title.replace("[", "(").replace("]", ")").replace('"', "'").split())


def _shorten(text: str, max_chars: int) -> str:
    """Return `text` cut to `max_chars` characters with an ellipsis, at a space if there is one in the second half."""
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars - 1]
    at = cut.rfind(" ")
    return (cut[:at] if at > len(cut) // 2 else cut).rstrip(" ,;:") + "…"
