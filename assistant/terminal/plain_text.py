"""Make texts from elsewhere safe for a terminal or a file."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def strip_control_characters(text: str) -> str:
    """Remove control characters except tabs and line breaks."""
    return _CONTROL.sub("", text)
