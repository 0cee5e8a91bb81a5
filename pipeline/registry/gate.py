"""The gate: decide whether a candidate may replace the champion, by what `evaluate` measured for both. Pure functions.

In: flat metrics and the held-out documents (id, bytes, nats) of both models, and the `registry` section of params.yaml.
Out: a verdict with one row per check. Bits per byte are compared on the documents that both were measured on, paired: the
difference of two ratios of sums with the standard error of the ratio estimator (Cochran 1977, Sampling Techniques, 6.13).
Does not cover: the variance between two training runs that differ in their seed only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.frame.errors import UserError
from pipeline.registry.params import Registry

MIN_SHARED_DOCS = 30  # with fewer, a standard error means little
ROUNDING = 1e-9


@dataclass(frozen=True)
class DocumentLosses:
    """Held-out documents as columns; `nats` is the model's loss summed over the document."""

    ids: NDArray[np.str_]
    n_bytes: NDArray[np.int64]
    nats: NDArray[np.float64]


@dataclass(frozen=True)
class Measurements:
    """What `evaluate` measured for one model: its flat metrics, and its loss on each held-out document."""

    metrics: Mapping[str, float]
    documents: DocumentLosses


@dataclass(frozen=True)
class Check:
    """One row of the verdict. `change` is what was judged; `allowed` describes what would still have passed."""

    name: str
    candidate: float
    champion: float | None
    change: float | None
    allowed: str
    is_passed: bool


@dataclass(frozen=True)
class Verdict:
    """The decision. `reason` is one line: why the candidate passed, or every check that it failed."""

    is_passed: bool
    reason: str
    checks: tuple[Check, ...]


def judge(policy: Registry, candidate: Measurements, champion: Measurements | None) -> Verdict:
    """Compare the two models in bits per byte and in every skill that the candidate was measured on.

    Raises `UserError` if the candidate was not measured on a skill that the policy names or the champion was measured on.
    """
    measured = ", ".join(sorted(candidate.metrics)) or "nothing at all"
    if "bpb" not in candidate.metrics:
        raise UserError("gate: the candidate has no bpb", f"evaluate measured {measured}", "run `dvc repro evaluate`")
    for name in policy.max_skill_drop:
        if name not in candidate.metrics:
            what = f"registry.max_skill_drop.{name}: the candidate was not measured on this skill"
            raise UserError(what, f"evaluate measured {measured}", "correct the name in params.yaml, or remove it")
    theirs, tolerances = champion.metrics if champion else {}, policy.get_tolerances()
    missing = [name for name in tolerances if name in theirs and name not in candidate.metrics]
    if missing:
        what = f"gate: the candidate was not measured on {', '.join(missing)}, unlike the champion"
        raise UserError(what, f"evaluate measured {measured}", "raise conversations.n_heldout, or promote with --force")
    skills = (
        _check_skill(name, tolerance, candidate.metrics[name], theirs.get(name))
        for name, tolerance in tolerances.items()
        if name in candidate.metrics
    )
    checks = (_check_bpb(policy, candidate, champion), *skills)
    refused = [check for check in checks if not check.is_passed]
    if refused:
        reason = "; ".join(_describe(check) for check in refused)
    elif champion is None:
        reason = "no champion yet"
    else:
        reason = _describe(checks[0]) + "; no skill dropped by more than its tolerance"
    return Verdict(not refused, reason, checks)


def compute_paired_difference(candidate: DocumentLosses, champion: DocumentLosses) -> tuple[float, float, int]:
    """Return (candidate's minus champion's bits per byte on the shared documents, its standard error, number of documents).

    A document is shared if both its id and its size agree: another text from the same location is another document.
    """
    _, left, right = np.intersect1d(candidate.ids, champion.ids, return_indices=True)
    same = candidate.n_bytes[left] == champion.n_bytes[right]
    left, right = left[same], right[same]
    n_bytes = candidate.n_bytes[left].astype(np.float64)
    n = len(n_bytes)
    bits = (candidate.nats[left] - champion.nats[right]) / math.log(2)
    if n < 2 or n_bytes.sum() == 0 or not np.isfinite(bits).all():
        return math.nan, math.nan, n
    difference = float(bits.sum() / n_bytes.sum())
    residuals = bits - difference * n_bytes
    error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(n_bytes.sum())
    return difference, error, n


def _check_bpb(policy: Registry, candidate: Measurements, champion: Measurements | None) -> Check:
    ours = candidate.metrics["bpb"]
    theirs = champion.metrics.get("bpb") if champion else None
    if champion is None or theirs is None:
        return Check("bpb", ours, None, None, "any number", math.isfinite(ours))
    change, error, n = compute_paired_difference(candidate.documents, champion.documents)
    if n < MIN_SHARED_DOCS or not math.isfinite(ours):
        change, limit = ours - theirs, policy.max_bpb_increase
        allowed = f"at most {limit:+.4f} (only {n} documents shared)"
    else:
        limit = policy.max_bpb_z * error
        allowed = f"at most {limit:+.4f} ({policy.max_bpb_z:g} standard errors, {n} documents)"
    return Check("bpb", ours, theirs, change, allowed, change <= limit + ROUNDING)  # False for a NaN


def _check_skill(name: str, tolerance: float, ours: float, theirs: float | None) -> Check:
    if theirs is None:
        return Check(name, ours, None, None, "any number", math.isfinite(ours))
    change = ours - theirs
    return Check(name, ours, theirs, change, f"at least {-tolerance:+.3f}", change >= -tolerance - ROUNDING)


def _describe(check: Check) -> str:
    if check.champion is None or check.change is None:
        return f"{check.name} {check.candidate}"
    values = f"{check.candidate:.4f} against {check.champion:.4f} ({check.change:+.4f})"
    return f"{check.name} {values}, allowed {check.allowed}"
