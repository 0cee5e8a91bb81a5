"""Files in the formats of office software, made by the tests themselves: PDF with PDFium, DOCX as the zip that it is."""

from __future__ import annotations

import ctypes
import io
import zipfile
from collections.abc import Sequence
from typing import Any

import pypdfium2
from pypdfium2 import raw

PdfLine = tuple[str, float]  # text and font size

ENCRYPTED_PDF = (
    b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1>>\nendobj\n"
    b"3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>\nendobj\n"
    b"4 0 obj\n<</Filter/Standard/V 1/R 2/P -44/O<" + b"ab" * 32 + b">/U<" + b"cd" * 32 + b">>>\nendobj\n"
    b"trailer\n<</Root 1 0 R/Encrypt 4 0 R/ID[<00><00>]/Size 5>>\n%%EOF\n"
)


def make_pdf(pages: Sequence[Sequence[PdfLine]]) -> bytes:
    """Return a PDF with the given lines on each page; an empty text leaves a gap."""
    pdf: Any = pypdfium2.PdfDocument.new()
    for lines in pages:
        page = pdf.new_page(595, 842)
        height = 780.0
        for text, size in lines:
            if text:
                item = raw.FPDFPageObj_NewTextObj(pdf.raw, b"Helvetica", ctypes.c_float(size))
                encoded = (text + "\0").encode("utf-16-le")
                raw.FPDFText_SetText(item, ctypes.cast(ctypes.c_char_p(encoded), ctypes.POINTER(ctypes.c_ushort)))
                raw.FPDFPageObj_Transform(item, 1, 0, 0, 1, 72, height)
                raw.FPDFPage_InsertObject(page.raw, item)
            height -= size * 1.2
        page.gen_content()
        page.close()
    target = io.BytesIO()
    pdf.save(target)
    pdf.close()
    return target.getvalue()


def make_docx(body: str) -> bytes:
    """Return a Word document with this XML inside its body; styles are named as Word names them."""
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{name.replace(" ", "")}"><w:name w:val="{name}"/></w:style>'
        for name in ("Title", "heading 1", "heading 2", "List Bullet")
    )
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    rels = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{kind}.document.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{rels}"><Relationship Id="r1" Type="{office}/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{rels}"><Relationship Id="r1" Type="{office}/styles" '
        'Target="styles.xml"/></Relationships>',
        "word/styles.xml": f"<w:styles {w}>{styles}</w:styles>",
        "word/document.xml": f"<w:document {w}><w:body>{body}</w:body></w:document>",
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return target.getvalue()


def make_paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of a Word document."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"
