"""How often something was right, with its standard error.

In: successes. Out: their share and a binomial standard error that is not 0 when all or none are right: it is taken at
(k + 1) / (n + 2), Laplace's estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Fraction(NamedTuple):
    value: float
    se: float
    n: int


def fraction(is_right: Sequence[bool]) -> Fraction:
    """At least one."""
    n, k = len(is_right), sum(is_right)
    p = (k + 1) / (n + 2)
    return Fraction(k / n, math.sqrt(p * (1 - p) / n), n)
