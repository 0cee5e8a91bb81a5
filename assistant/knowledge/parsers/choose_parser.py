"""Parse a document by the ending of its name."""

from __future__ import annotations

from collections.abc import Callable

from assistant.knowledge.parsers.layout import MAX_DOCUMENT_BYTES, ParsedDocument, ParseError
from assistant.knowledge.parsers.markdown_blocks import parse_markdown
from assistant.knowledge.parsers.plain_blocks import parse_plain
from assistant.knowledge.pipeline_door import decode_text

MARKDOWN, RST, HTML = (".md", ".markdown"), (".rst", ".rest"), (".html", ".htm", ".xhtml")
PLAIN_TEXT, PDF, DOCX = (".txt", ".text"), (".pdf",), (".docx",)


def _parse_markdown(data: bytes) -> ParsedDocument:
    return parse_markdown(normalize_lines(decode_text(data)))


def _parse_plain(data: bytes) -> ParsedDocument:
    return parse_plain(normalize_lines(decode_text(data)))


def _parse_rst(data: bytes) -> ParsedDocument:
    from assistant.knowledge.parsers.rst_blocks import parse_rst

    return parse_rst(normalize_lines(decode_text(data)))


def _parse_html(data: bytes) -> ParsedDocument:
    from assistant.knowledge.parsers.html_blocks import parse_html

    return parse_html(decode_text(data, is_page=True))


def _parse_pdf(data: bytes) -> ParsedDocument:
    from assistant.knowledge.parsers.pdf_blocks import parse_pdf

    return parse_pdf(data)


def _parse_docx(data: bytes) -> ParsedDocument:
    from assistant.knowledge.parsers.docx_blocks import parse_docx

    return parse_docx(data)


FORMATS: dict[
    str, Callable[[bytes], ParsedDocument]
] = {  # the heavy parsers are imported with the first document of their kind
    **dict.fromkeys(MARKDOWN, _parse_markdown),
    **dict.fromkeys(RST, _parse_rst),
    **dict.fromkeys(HTML, _parse_html),
    **dict.fromkeys(PLAIN_TEXT, _parse_plain),
    **dict.fromkeys(PDF, _parse_pdf),
    **dict.fromkeys(DOCX, _parse_docx),
}


def list_endings() -> str:
    """Return the endings of all formats as one text."""
    return " ".join(FORMATS)


def parse_bytes(kind: str, data: bytes) -> ParsedDocument:
    """Parse a document of the given ending. Raise `ParseError` with the reason if it can't be read or has no text."""
    if not data.strip():
        raise ParseError("empty", "it has no bytes but white space")
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ParseError("too_large", f"more than {MAX_DOCUMENT_BYTES:,} bytes: split it")
    try:
        return FORMATS[kind](data)
    except ParseError:
        raise
    except (
        RecursionError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:  # a parser's own mistake on hostile input
        raise ParseError("unreadable", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def read_source_text(kind: str, data: bytes, extracted: str) -> str:
    """Return the text by which copies of a document are recognized: the source of a text file, as the pipeline reads it, else what
    was extracted."""
    is_text = kind in (*MARKDOWN, *RST, *PLAIN_TEXT)
    return normalize_lines(decode_text(data)).strip("\n") if is_text else extracted


def normalize_lines(text: str) -> str:
    """Return the text with Unix line breaks, so that line numbers are those of an editor."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
