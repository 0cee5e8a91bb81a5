"""Mask personal data and secrets in texts: the pipeline's own functions, behind the seam that policies use.

In: a text and kinds (`KINDS`). Out: the text with a placeholder for each (`<EMAIL>`), and how many of each kind. Coverage:
model/masking/find_personal.py. Importing it loads the tables of telephone numbers: 0.2 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model.masking.find_personal import KINDS, mask_text

__all__ = ["KINDS", "PersonalMasker"]


class PersonalMasker:
    """Finds personal data and secrets; keeps nothing."""

    def mask(self, text: str, kinds: Sequence[str] = KINDS) -> tuple[str, Mapping[str, int]]:
        """Return the masked text, and how many there were of each kind; `*` stands for all. Raises: ValueError for another one."""
        return mask_text(text, KINDS if "*" in kinds else kinds)
