"""What makers of examples get, without an index."""

from __future__ import annotations

import pytest

from pipeline.skills.neighbors import PassageIndex
from pipeline.skills.skill import Material


@pytest.fixture
def material() -> Material:
    """No passages: enough for makers that need none."""
    return Material([], PassageIndex([]), PassageIndex([]))
