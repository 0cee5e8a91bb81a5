"""Open sources of raw text, with one reader per kind of input.

In: the settings of a source. Out: a `Reading` with its size and its batches of documents and rejects.
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
    """Open a source with the reader of its kind. Raise `UserError` if it does not exist.

    `setting` is the dotted name of the source in params.yaml, for error messages.
    """
    return READERS[params.kind](params, setting)
