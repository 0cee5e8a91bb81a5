"""Decide whether a license permits training: SPDX expressions against lists of allowed and denied ids.

In: a column of licenses. Out: one verdict per document. Time and memory: linear in the distinct licenses, not in the documents.

`A AND B` gets the worse verdict of the two, `A OR B` the better one: a denied part of an AND denies the whole, one allowed part of
an OR allows it. Deny takes precedence over allow. `A WITH exception` is judged by its full name if that is listed, otherwise like
A, since an exception only permits more. An empty list of allowed ids allows everything that is not denied. A listed id may end in
`*` (`GPL-*`). An id that SPDX does not know ("proprietary") is treated like any other, and so is text that is no expression: it
must be listed verbatim unless everything is allowed.

Both the documents' licenses and the listed ids may be spelled as names, addresses, lists or objects (license_names.py). A Creative
Commons license ported to a jurisdiction (CC-BY-3.0-DE) is judged by its own id if that is listed, otherwise like the unported one.

Unknown licenses are an empty string or list, "unknown", "none", and SPDX's NOASSERTION and NONE; the setting `unknown` decides
about them. Covers: licenses named in the metadata. Does not cover: license texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from license_expression import (
    ExpressionError,
    ExpressionParseError,
    LicenseWithExceptionSymbol,
    Licensing,
    get_spdx_licensing,
)

from pipeline.screening.params import Licenses
from pipeline.text.license_names import UNKNOWN_NAMES, normalize_license

# From worst to best: AND takes the minimum, OR the maximum.
DENIED, NOT_ALLOWED, UNKNOWN, ALLOWED = 0, 1, 2, 3

_PORTED = re.compile(r"(?<=\d\.\d)-[a-z]{2,3}$")

Verdicts = npt.NDArray[np.int8]


class LicensePolicy(NamedTuple):
    """The allowed and denied ids in canonical spelling and lower case; patterns end in `*`."""

    allow: frozenset[str]
    deny: frozenset[str]
    is_unknown_kept: bool


def make_policy(allow: Sequence[str], deny: Sequence[str] = (), *, is_unknown_kept: bool = False) -> LicensePolicy:
    """Return the policy of ids in any spelling ("mit", "GPL-3.0+"). "unknown" in `allow` keeps documents without a license."""
    names = [_canonicalize(name) for name in allow if name.lower() not in UNKNOWN_NAMES]
    is_listed = len(names) < len(allow)
    # A list that contains only "unknown" allows nothing else.
    allowed = frozenset(names) if names or not is_listed else frozenset({"unknown"})
    return LicensePolicy(allowed, frozenset(_canonicalize(name) for name in deny), is_unknown_kept or is_listed)


def make_license_policy(params: Licenses) -> LicensePolicy:
    """Return the policy of `filter.licenses`."""
    return make_policy(params.allow, params.deny, is_unknown_kept=params.unknown == "keep")


def judge_licenses(licenses: pa.StringArray, policy: LicensePolicy) -> Verdicts:
    """Return DENIED, NOT_ALLOWED, UNKNOWN (and not kept) or ALLOWED for each document."""
    encoded = licenses.dictionary_encode()
    by_name = np.array([judge_license(name, policy) for name in encoded.dictionary.to_pylist()], np.int8)
    return by_name[encoded.indices.to_numpy()] if len(licenses) else np.zeros(0, np.int8)


@lru_cache(maxsize=1 << 16)
def judge_license(expression: str, policy: LicensePolicy) -> int:
    """Return the verdict on one license."""
    original, expression = expression, normalize_license(expression)
    if not expression:
        return ALLOWED if policy.is_unknown_kept else UNKNOWN
    try:
        parsed: Any = _load_spdx().parse(expression)
    except (ExpressionError, ExpressionParseError):
        parsed = None
    listed = _judge_id(expression, expression, policy)
    if parsed is None or (listed == DENIED) or not policy.allow.isdisjoint((original.lower(), expression.lower())):
        return listed
    return _judge_node(parsed, policy)


@cache
def _load_spdx() -> Licensing:
    """Return the parser with SPDX's ids, loaded once per process."""
    return get_spdx_licensing()


def _judge_node(node: Any, policy: LicensePolicy) -> int:
    """Return the verdict on a node of a parsed expression."""
    if node.args:
        parts = [_judge_node(child, policy) for child in node.args]
        return min(parts) if node.operator.strip() == "AND" else max(parts)
    is_exception = isinstance(node, LicenseWithExceptionSymbol)
    return _judge_id(str(node.render()), str(node.license_symbol.render() if is_exception else node.render()), policy)


def _judge_id(whole: str, base: str, policy: LicensePolicy) -> int:
    """Return the verdict on a single id; `base` is `whole` without its exception."""
    whole, base = whole.lower(), base.lower()
    if whole in UNKNOWN_NAMES:
        return ALLOWED if policy.is_unknown_kept else UNKNOWN
    for name in (whole, base, _PORTED.sub("", base) if base.startswith("cc-") else base):
        if _is_listed(name, policy.deny):
            return DENIED
        if _is_listed(name, policy.allow):
            return ALLOWED
    return NOT_ALLOWED if policy.allow else ALLOWED


def _is_listed(name: str, names: frozenset[str]) -> bool:
    """Return whether the names contain this one or a pattern that matches it."""
    return name in names or any(each[-1:] == "*" and name.startswith(each[:-1]) for each in names)


def _canonicalize(name: str) -> str:
    """Return the name as SPDX spells it, or unchanged if it is no expression, in lower case."""
    name = name if name.endswith("*") else normalize_license(name)
    try:
        parsed: Any = _load_spdx().parse(name)
    except (ExpressionError, ExpressionParseError):
        return name.lower()
    return (name if parsed is None else str(parsed.render())).lower()
