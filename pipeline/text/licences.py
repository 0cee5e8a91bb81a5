"""May a document with this licence stay? SPDX expressions against a list of allowed ids.

`A AND B` needs both, `A OR B` one of them, `A WITH exception` is allowed where A is (an exception only permits more) or where it is
listed itself. "unknown" is an id like any other: listing it is the user's choice. What is no SPDX expression is allowed only if it
is listed letter for letter. Covers what the metadata says; does not read licence texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from license_expression import (
    ExpressionError,
    ExpressionParseError,
    LicenseWithExceptionSymbol,
    Licensing,
    get_spdx_licensing,
)

from pipeline.text.columns import Fractions


def allowed_frac(licences: pa.StringArray, allowed: Sequence[str]) -> Fractions:
    """1 for each document that may stay, 0 for each that may not."""
    encoded = licences.dictionary_encode()
    names = frozenset(_canonical(name) for name in allowed)
    verdicts = np.array([is_allowed(name, names) for name in encoded.dictionary.to_pylist()], np.float64)
    return verdicts[encoded.indices.to_numpy()] if len(licences) else np.zeros(0, np.float64)


@cache
def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether the expression holds with these ids (in canonical spelling) true and all others false."""
    if expression in allowed:
        return True
    try:
        parsed: Any = _spdx().parse(expression)
    except (ExpressionError, ExpressionParseError):
        return False
    return parsed is not None and _holds(parsed, allowed)


@cache
def _spdx() -> Licensing:
    return get_spdx_licensing()


def _holds(node: Any, names: frozenset[str]) -> bool:
    if node.args:
        verdicts = [_holds(child, names) for child in node.args]
        return all(verdicts) if node.operator.strip() == "AND" else any(verdicts)
    if isinstance(node, LicenseWithExceptionSymbol):
        return str(node.render()) in names or str(node.license_symbol.render()) in names
    return str(node.render()) in names


def _canonical(name: str) -> str:
    try:
        parsed: Any = _spdx().parse(name)
    except (ExpressionError, ExpressionParseError):
        return name
    return name if parsed is None else str(parsed.render())
