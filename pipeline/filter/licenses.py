"""Drop documents whose license does not permit training, or stop and list them.

In: a column of licenses, the policy (pipeline/screening/license_policy.py). Out: scores of `RULES`, or an error that lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.filter.decisions import Rule
from pipeline.frame.errors import UserError
from pipeline.screening.license_policy import ALLOWED, LicensePolicy, judge_license, judge_licenses, make_license_policy
from pipeline.screening.params import Licenses
from pipeline.storage.tables import read_shard

REASONS = ("license_denied", "license_not_allowed", "license_unknown")
RULES = tuple(Rule(reason, reason, "max", 0.0, "filter.licenses") for reason in REASONS)
N_EXAMPLES = 3


class Violation(NamedTuple):
    """A license that the policy does not permit, and the documents under it."""

    license: str
    reason: str
    n_docs: int
    first_ids: tuple[str, ...]


def measure_licenses(licenses: pa.StringArray, policy: LicensePolicy) -> pa.RecordBatch:
    """Return the scores of `RULES`: one column of 0 and 1 for each of `REASONS`."""
    verdicts = judge_licenses(licenses, policy)
    return pa.record_batch({name: (verdicts == index).astype(np.float64) for index, name in enumerate(REASONS)})


def find_violations(ids: pa.StringArray, licenses: pa.StringArray, policy: LicensePolicy) -> list[Violation]:
    """Return the licenses that the policy does not permit, the most frequent first, with the first documents of each."""
    encoded = licenses.dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    indices = encoded.indices.to_numpy() if len(licenses) else np.zeros(0, np.int64)
    counts = np.bincount(indices, minlength=len(names))
    out: list[Violation] = []
    for index, name in enumerate(names):
        verdict = judge_license(name, policy)
        if verdict != ALLOWED:
            first = ids.take(pa.array(np.flatnonzero(indices == index)[:N_EXAMPLES])).to_pylist()
            out.append(Violation(name, REASONS[verdict], int(counts[index]), tuple(first)))
    return sorted(out, key=lambda each: (-each.n_docs, each.license))


def merge_violations(violations: Iterable[Violation]) -> list[Violation]:
    """Merge the violations of several batches."""
    merged: dict[str, Violation] = {}
    for each in violations:
        before = merged.get(each.license, each._replace(n_docs=0, first_ids=()))
        ids = (*before.first_ids, *each.first_ids)[:N_EXAMPLES]
        merged[each.license] = each._replace(n_docs=before.n_docs + each.n_docs, first_ids=ids)
    return sorted(merged.values(), key=lambda each: (-each.n_docs, each.license))


def refuse_violations(violations: Iterable[Violation], setting: str = "filter.licenses") -> None:
    """Raise `UserError` with licenses, counts and first documents if there is any violation."""
    refused = list(violations)
    lines = [
        f"{each.n_docs} documents under {each.license or '(none)'} ({each.reason}): {', '.join(each.first_ids)}"
        + (" …" if each.n_docs > len(each.first_ids) else "")
        for each in refused
    ]
    if not lines:
        return
    ways = ["remove these sources"]
    if any(each.reason == "license_unknown" for each in refused):
        ways.append(f"name the license of the source, or set {setting}.unknown to drop or keep")
    if any(each.reason != "license_unknown" for each in refused):
        ways.append(f"list the licenses in {setting}.allow, or set {setting}.on_violation to drop")
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
