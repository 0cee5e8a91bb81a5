"""Source `text` (being written)."""

from __future__ import annotations

from pipeline.params import Text
from pipeline.sources.document import Reading


def open_source(params: Text, setting: str) -> Reading:
    raise NotImplementedError
