"""Readers of raw text, one file per kind of input: the settings of a source in, documents and rejects out.

`open_source` looks a reader up by the source's `kind`, checks that the source exists and gives its size and its batches.
To add a kind: a section in `params.py`, a module in `readers/` with `open_source(params, setting)`, a line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.download.python import python_docs
from pipeline.download.readers import http, huggingface, text, warc, wikipedia
from pipeline.download.readers.document import Reading

READERS: dict[str, Callable[[Any, str], Reading]] = {
    "http": http.open_source,
    "huggingface": huggingface.open_source,
    "python_docs": python_docs.open_source,
    "text": text.open_source,
    "warc": warc.open_source,
    "wikipedia": wikipedia.open_source,
}


def open_source(params: Any, setting: str) -> Reading:
    """`setting` is the dotted name of the source in params.yaml, for messages. Raises `UserError` if it can't be found."""
    return READERS[params.kind](params, setting)
