"""Parse Word documents (.docx) with mammoth, which writes HTML by the styles of the paragraphs, and the HTML's parser.

In: the bytes of the file. Out: headings, paragraphs, list items, table rows, notes; no pages, because Word lays them out when it
opens the file. Pictures are left out. Covers: members that would unpack to far more than a text does, files that are encrypted,
broken, or of the older format; mammoth reads no file beside the document.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any
from xml.parsers.expat import ExpatError

import mammoth

from assistant.knowledge.parsers.html_blocks import parse_html
from assistant.knowledge.parsers.layout import MAX_DOCUMENT_BYTES, ParsedDocument, ParseError

OLD_FORMAT = b"\xd0\xcf\x11\xe0"  # a compound file: Word before 2007, or a .docx with a password
PART = "word/document.xml"


def parse_docx(data: bytes) -> ParsedDocument:
    """Return the blocks of a Word document. Raise `ParseError` if it can't be read or has no text."""
    if data.startswith(OLD_FORMAT):
        raise ParseError(
            "encrypted", "it has a password, or is of Word before 2007: save it as .docx without a password"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            n_bytes = sum(info.file_size for info in archive.infolist() if info.filename.endswith((".xml", ".rels")))
            if n_bytes > MAX_DOCUMENT_BYTES:
                raise ParseError("decompression_bomb", f"{len(data)} bytes unpack to {n_bytes} bytes of XML")
            if PART not in archive.namelist():
                raise ParseError("unreadable", f"it has no {PART}")
        converted: Any = mammoth.convert_to_html(io.BytesIO(data), convert_image=_leave_out, style_map=TITLES)
    except (
        zipfile.BadZipFile,
        zlib.error,
        ExpatError,
        KeyError,
        ValueError,
        IndexError,
        AttributeError,
        OSError,
    ) as error:
        if isinstance(error, ParseError):
            raise
        raise ParseError("unreadable", f"{type(error).__name__}: {error}") from error
    return parse_html(f"<html><body>{converted.value}</body></html>")


TITLES = "\n".join(  # the title of the document is above its headings
    ["p[style-name='Title'] => h1:fresh", *(f"p[style-name='heading {n}'] => h{n + 1}:fresh" for n in range(1, 6))]
)


def _leave_out(_image: Any) -> list[Any]:
    return []
