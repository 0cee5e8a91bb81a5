"""The gate's policy: may this candidate follow this champion? Pure functions over what `evaluate` measured of both.

In: flat metrics and the held-out documents (id, bytes, nats) of either model, and the `registry` section of params.yaml.
Out: a verdict with one row per check. Bits per byte are compared on the documents that both were measured on, paired: the
difference of two ratios of sums with the standard error of the ratio estimator (Cochran 1977, Sampling Techniques, 6.13).
What it does not see: the spread between two trainings that differ in their seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.frame.errors import UserError
from pipeline.registry.params import Registry

MIN_SHARED_DOCS = 30  # fewer than that and a standard error means little
ROUNDING = 1e-9


@dataclass(frozen=True)
class DocumentLosses:
    """Held-out documents as columns; `nats` is the model's loss summed over the document."""

    ids: NDArray[np.str_]
    n_bytes: NDArray[np.int64]
    nats: NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What `evaluate` measured of one model: its flat metrics and the documents."""

    metrics: Mapping[str, float]
    documents: DocumentLosses


@dataclass(frozen=True)
class Check:
    """One row of the verdict. `change` is what was judged, `allowed` in words what would still have passed."""

    name: str
    candidate: float
    champion: float | None
    change: float | None
    allowed: str
    is_passed: bool


@dataclass(frozen=True)
class Verdict:
    """`reason` is one line for a person: why it passed, or every check that refused."""

    is_passed: bool
    reason: str
    checks: tuple[Check, ...]


def judge(policy: Registry, candidate: Measured, champion: Measured | None) -> Verdict:
    """Compares the two. Raises `UserError` for a skill in the policy that the candidate was not measured on."""
    known = ", ".join(sorted(candidate.metrics)) or "nothing at all"
    if "bpb" not in candidate.metrics:
        raise UserError("gate: the candidate has no bpb", f"evaluate measured {known}", "run evaluate again")
    for name in policy.max_skill_drop:
        if name not in candidate.metrics:
            what = f"registry.max_skill_drop.{name}: evaluate measures no such skill"
            raise UserError(what, f"it measured {known}", "correct the name in params.yaml")
    theirs = champion.metrics if champion else {}
    skills = (
        _skill_check(name, tolerance, candidate.metrics[name], theirs.get(name))
        for name, tolerance in policy.max_skill_drop.items()
    )
    checks = (_bpb_check(policy, candidate, champion), *skills)
    refused = [check for check in checks if not check.is_passed]
    if refused:
        reason = "; ".join(_sentence(check) for check in refused)
    elif champion is None:
        reason = "no champion yet"
    else:
        reason = _sentence(checks[0]) + "; no skill lost"
    return Verdict(not refused, reason, checks)


def paired_difference(candidate: DocumentLosses, champion: DocumentLosses) -> tuple[float, float, int]:
    """Bits per byte of the candidate minus the champion's on shared documents, its standard error, their number.

    A document is shared when both its id and its size agree: the same place with another text is not the same document.
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


def _bpb_check(policy: Registry, candidate: Measured, champion: Measured | None) -> Check:
    ours = candidate.metrics["bpb"]
    theirs = champion.metrics.get("bpb") if champion else None
    if champion is None or theirs is None:
        return Check("bpb", ours, None, None, "any number", math.isfinite(ours))
    change, error, n = paired_difference(candidate.documents, champion.documents)
    if n < MIN_SHARED_DOCS or not math.isfinite(ours):
        change, limit = ours - theirs, policy.max_bpb_increase
        allowed = f"at most {limit:+.4f} (only {n} documents shared)"
    else:
        limit = policy.max_bpb_z * error
        allowed = f"at most {limit:+.4f} ({policy.max_bpb_z:g} standard errors, {n} documents)"
    return Check("bpb", ours, theirs, change, allowed, change <= limit + ROUNDING)  # False for a NaN


def _skill_check(name: str, tolerance: float, ours: float, theirs: float | None) -> Check:
    if theirs is None:
        return Check(name, ours, None, None, "any number", math.isfinite(ours))
    change = ours - theirs
    return Check(name, ours, theirs, change, f"at least {-tolerance:+.3f}", change >= -tolerance - ROUNDING)


def _sentence(check: Check) -> str:
    if check.champion is None or check.change is None:
        return f"{check.name} {check.candidate}"
    figures = f"{check.candidate:.4f} against {check.champion:.4f} ({check.change:+.4f})"
    return f"{check.name} {figures}, allowed {check.allowed}"
