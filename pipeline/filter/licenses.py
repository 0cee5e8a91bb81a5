"""May a document with this license stay? SPDX expressions against lists of allowed and of denied ids.

In: a column of licenses. Out: a verdict each. Time and memory are those of the different licenses, not of the documents.

`A AND B` is as good as the worse of the two, `A OR B` as the better: a denied part of an AND denies the whole, an OR is allowed by
one part that is allowed. What is denied stays denied though it is allowed too. `A WITH exception` is judged by its whole name
where that is listed, else as A is: an exception only permits more. An empty list of allowed ids allows all that is not denied. A
listed id may end in `*` (`GPL-*`). An id that SPDX does not know ("proprietary") is an id like any other, and so is a text that is
no expression: allowed only where it is listed letter for letter, or where everything is.

Unknown are no license at all, "unknown", and SPDX's NOASSERTION and NONE: what becomes of them is the user's choice. Covers what
the metadata says; does not read license texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
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

from pipeline.filter.decisions import Rule
from pipeline.filter.params import Licenses
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_shard

# From worst to best: an AND takes the smallest, an OR the largest.
DENIED, NOT_ALLOWED, UNKNOWN, ALLOWED = 0, 1, 2, 3
REASONS = ("license_denied", "license_not_allowed", "license_unknown")
UNKNOWN_NAMES = frozenset({"", "unknown", "noassertion", "none"})
RULES = tuple(Rule(reason, reason, "max", 0.0, "filter.licenses") for reason in REASONS)
N_EXAMPLES = 3

Verdicts = npt.NDArray[np.int8]


class LicensePolicy(NamedTuple):
    """Ids in canonical spelling; patterns end in `*`."""

    allow: frozenset[str]
    deny: frozenset[str]
    is_unknown_kept: bool


class Violation(NamedTuple):
    """One license that the policy does not let pass."""

    license: str
    reason: str
    n_docs: int
    first_ids: tuple[str, ...]


def make_policy(allow: Sequence[str], deny: Sequence[str] = (), *, is_unknown_kept: bool = False) -> LicensePolicy:
    """A policy of ids in any spelling ("mit", "GPL-3.0+"). "unknown" in `allow` keeps what has no license."""
    names = [_canonicalize(name) for name in allow if name.lower() not in UNKNOWN_NAMES]
    is_listed = len(names) < len(allow)
    # A list of nothing but "unknown" allows nothing else.
    allowed = frozenset(names) if names or not is_listed else frozenset({"unknown"})
    return LicensePolicy(allowed, frozenset(_canonicalize(name) for name in deny), is_unknown_kept or is_listed)


def make_license_policy(params: Licenses) -> LicensePolicy:
    """Return the policy of `filter.licenses`."""
    return make_policy(params.allow, params.deny, is_unknown_kept=params.unknown == "keep")


def judge_licenses(licenses: pa.StringArray, policy: LicensePolicy) -> Verdicts:
    """DENIED, NOT_ALLOWED, UNKNOWN (and not kept) or ALLOWED for each document."""
    encoded = licenses.dictionary_encode()
    known = np.array([judge_license(name, policy) for name in encoded.dictionary.to_pylist()], np.int8)
    return known[encoded.indices.to_numpy()] if len(licenses) else np.zeros(0, np.int8)


def measure_licenses(licenses: pa.StringArray, policy: LicensePolicy) -> pa.RecordBatch:
    """One column of 0 and 1 for each of `REASONS`, as `RULES` reads them."""
    found = judge_licenses(licenses, policy)
    return pa.record_batch({name: (found == index).astype(np.float64) for index, name in enumerate(REASONS)})


def find_violations(ids: pa.StringArray, licenses: pa.StringArray, policy: LicensePolicy) -> list[Violation]:
    """What the policy does not let pass, the commonest license first, with the first documents of each."""
    encoded = licenses.dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    indices = encoded.indices.to_numpy() if len(licenses) else np.zeros(0, np.int64)
    counts = np.bincount(indices, minlength=len(names))
    out: list[Violation] = []
    for index, name in enumerate(names):
        found = judge_license(name, policy)
        if found != ALLOWED:
            first = ids.take(pa.array(np.flatnonzero(indices == index)[:N_EXAMPLES])).to_pylist()
            out.append(Violation(name, REASONS[found], int(counts[index]), tuple(first)))
    return sorted(out, key=lambda each: (-each.n_docs, each.license))


def merge_violations(found: Iterable[Violation]) -> list[Violation]:
    """Those of several batches as of one."""
    merged: dict[str, Violation] = {}
    for each in found:
        before = merged.get(each.license, each._replace(n_docs=0, first_ids=()))
        ids = (*before.first_ids, *each.first_ids)[:N_EXAMPLES]
        merged[each.license] = each._replace(n_docs=before.n_docs + each.n_docs, first_ids=ids)
    return sorted(merged.values(), key=lambda each: (-each.n_docs, each.license))


def refuse_violations(found: Iterable[Violation], setting: str = "filter.licenses") -> None:
    """Raises `UserError` that names licenses, counts and first documents, if there are any."""
    refused = list(found)
    lines = [
        f"{each.n_docs} documents under {each.license or '(none)'} ({each.reason}): {', '.join(each.first_ids)}"
        + (" …" if each.n_docs > len(each.first_ids) else "")
        for each in refused
    ]
    if not lines:
        return
    ways = ["remove these sources"]
    if any(each.reason == "license_unknown" for each in refused):
        ways.append(f"give a source its license, or set {setting}.unknown to drop or keep")
    if any(each.reason != "license_unknown" for each in refused):
        ways.append(f"list the licenses in {setting}.allow; on_violation: drop leaves the documents out")
    raise UserError(f"{setting}: licenses that are not permitted: {len(lines)}", "; ".join(lines), ", or ".join(ways))


def check_licenses(params: Licenses, paths: Sequence[Path]) -> None:
    """Raise `UserError` for documents in these shards that `on_violation: stop` or `unknown: stop` does not permit."""
    stops = {"license_unknown": params.unknown == "stop"}
    if params.on_violation == "drop" and not any(stops.values()):
        return
    policy = make_license_policy(params)
    merged = merge_violations(
        violation
        for path in paths
        for batch in read_shard(path, ["id", "license"])
        for violation in find_violations(batch.column("id"), batch.column("license"), policy)
    )
    refuse_violations(each for each in merged if stops.get(each.reason, params.on_violation == "stop"))


@lru_cache(maxsize=1 << 16)
def judge_license(expression: str, policy: LicensePolicy) -> int:
    """The verdict on one expression."""
    if expression.lower().strip() in UNKNOWN_NAMES:
        return ALLOWED if policy.is_unknown_kept else UNKNOWN
    try:
        parsed: Any = _load_spdx().parse(expression)
    except (ExpressionError, ExpressionParseError):
        parsed = None
    listed = _judge_id(expression, expression, policy)
    if parsed is None or (listed == DENIED) or expression in policy.allow:
        return listed
    return _judge_node(parsed, policy)


@cache
def _load_spdx() -> Licensing:
    return get_spdx_licensing()


def _judge_node(node: Any, policy: LicensePolicy) -> int:
    if node.args:
        parts = [_judge_node(child, policy) for child in node.args]
        return min(parts) if node.operator.strip() == "AND" else max(parts)
    is_exception = isinstance(node, LicenseWithExceptionSymbol)
    return _judge_id(str(node.render()), str(node.license_symbol.render() if is_exception else node.render()), policy)


def _judge_id(whole: str, base: str, policy: LicensePolicy) -> int:
    if whole.lower() in UNKNOWN_NAMES:
        return ALLOWED if policy.is_unknown_kept else UNKNOWN
    for name in (whole, base):
        if _is_listed(name, policy.deny):
            return DENIED
        if _is_listed(name, policy.allow):
            return ALLOWED
    return NOT_ALLOWED if policy.allow else ALLOWED


def _is_listed(name: str, names: frozenset[str]) -> bool:
    return name in names or any(each[-1:] == "*" and name.startswith(each[:-1]) for each in names)


def _canonicalize(name: str) -> str:
    try:
        parsed: Any = _load_spdx().parse(name)
    except (ExpressionError, ExpressionParseError):
        return name
    return name if parsed is None else str(parsed.render())
