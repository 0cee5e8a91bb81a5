"""What makers of examples get, without an index."""

from __future__ import annotations

import pytest

from model.grounding.answers import NOTHING_FOUND
from pipeline.skills.neighbors import NameIndex
from pipeline.skills.skill import Material


@pytest.fixture
def nothing() -> Material:
    """Nothing to search: enough for makers that need none."""
    return Material([], [], [], lambda _argument, _question: NOTHING_FOUND, NameIndex([]), NameIndex([]))
