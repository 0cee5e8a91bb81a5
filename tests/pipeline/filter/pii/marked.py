"""Texts whose personal data is in braces: `call {415-555-2671} now`."""

from __future__ import annotations


def split_marked(marked: str, placeholder: str) -> tuple[str, str]:
    """Return the text without the braces, and what it is after redaction: a placeholder for each pair of braces."""
    parts = marked.replace("}", "{").split("{")
    return "".join(parts), "".join(placeholder if at % 2 else part for at, part in enumerate(parts))
