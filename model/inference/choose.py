"""Choose one of few answers by the model's score instead of spelling one: exact, and faster than generating it.

In: a cached prefix, a prompt, candidates as token ids that end with a stop id. Out: the candidate of the highest log-probability,
plus its bonus if there are any. Candidates form a trie, whose nodes are computed once and depth first in the one slot of the
prefix: a branch overwrites the keys and values of the branch before it. Because log-probabilities only fall along a path, a
branch that can't beat the best candidate so far is skipped (branch and bound), so most of the trie is never computed.

The sum of log-probabilities decides, not their mean: a mean can't bound a branch, and among the candidates that
model.grounding.answers lists both choose the same (168 of 168 held-out quotations; docs/log.md).
Deterministic: equal scores go to the first candidate; the CPU kernel gives the same
bits whatever is cached, torch elsewhere agrees within rounding. Time: the prompt's uncached tokens and about two candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from model.inference.prefix import Prefix, check_prompt

PART_TOKENS = 16  # computed per call: more would not be faster, and a hopeless candidate costs as many
Ids = Sequence[int]


@dataclass(frozen=True)
class Choice:
    """The chosen candidate. `score` is its log-probability plus bonus; `n_computed` counts the tokens of candidates that were
    computed."""

    index: int
    score: float
    n_computed: int


@dataclass(frozen=True, order=True)
class _Leaf:
    """A candidate below a node: what is left of its ids."""

    ids: tuple[int, ...]
    index: int
    bonus: float


class _Search:
    """The state of one search: the prefix, the best score so far, and the number of computed tokens."""

    def __init__(self, prefix: Prefix, *, is_exhaustive: bool) -> None:
        self._prefix, self._is_exhaustive = prefix, is_exhaustive
        self.best, self.index, self.n_computed = -math.inf, -1, 0
        self.scores: dict[int, float] = {}

    def visit(self, leaves: list[_Leaf], log_probs: NDArray[np.float64], position: int, score: float) -> None:
        """Search the candidates below a node, of which `log_probs` follows; likely ones first."""
        branches = [list(group) for _, group in groupby(leaves, key=lambda leaf: leaf.ids[0])]
        bounds = [score + log_probs[branch[0].ids[0]] + max(leaf.bonus for leaf in branch) for branch in branches]
        for number in sorted(range(len(branches)), key=lambda number: -bounds[number]):
            if self._is_hopeless(bounds[number], branches[number]):
                continue
            self._descend(branches[number], log_probs, position, score)

    def _is_hopeless(self, bound: float, branch: list[_Leaf]) -> bool:
        """Return whether no candidate of the branch can win. At the bound itself only an earlier candidate could."""
        if self._is_exhaustive:
            return False
        return bound < self.best or (bound == self.best and min(leaf.index for leaf in branch) > self.index)

    def _descend(self, branch: list[_Leaf], log_probs: NDArray[np.float64], position: int, score: float) -> None:
        """Compute the ids that all candidates of a branch share, and visit what follows them. A long run of ids is computed in
        parts, so that a hopeless one is given up on early."""
        n_shared = _count_shared(branch[0].ids, branch[-1].ids)  # sorted: the first and the last differ first
        bonus, done = max(leaf.bonus for leaf in branch), 1
        score += float(log_probs[branch[0].ids[0]])
        n_needed = n_shared - (len(branch) == 1)  # nothing follows a stop id
        while done <= n_needed:
            if self._is_hopeless(score + bonus, branch):
                return
            part = branch[0].ids[done - 1 : min(done - 1 + PART_TOKENS, n_needed)]
            rows = normalize(self._prefix.extend_all(part, position))
            self.n_computed += len(part)
            following = branch[0].ids[done : min(done + len(part), n_shared)]
            score += float(sum(rows[number, index] for number, index in enumerate(following)))
            position, done, log_probs = position + len(part), done + len(part), rows[-1]
        if len(branch) == 1:
            self._finish(branch[0], score)
            return
        rest = [replace(leaf, ids=leaf.ids[n_shared:]) for leaf in branch]
        self.visit(rest, log_probs, position, score)

    def _finish(self, leaf: _Leaf, score: float) -> None:
        score += leaf.bonus
        self.scores[leaf.index] = score
        if score > self.best or (score == self.best and leaf.index < self.index):
            self.best, self.index = score, leaf.index


def choose(prefix: Prefix, prompt: Ids, candidates: Sequence[Ids], bonuses: Sequence[float] | None = None) -> Choice:
    """Return the best of the candidates, each of which ends with a stop id; the same one may occur twice.

    Raises: ValueError if there are none, if none fits into the window after the prompt, or if one is the beginning of another.
    """
    search = _run(prefix, prompt, candidates, bonuses, is_exhaustive=False)
    return Choice(search.index, search.best, search.n_computed)


def score_candidates(prefix: Prefix, prompt: Ids, candidates: Sequence[Ids]) -> list[float]:
    """Return the log-probability of every candidate; -inf if it does not fit into the window. `choose` is faster."""
    scores = _run(prefix, prompt, candidates, None, is_exhaustive=True).scores
    return [scores.get(number, -math.inf) for number in range(len(candidates))]


def _run(
    prefix: Prefix, prompt: Ids, candidates: Sequence[Ids], bonuses: Sequence[float] | None, *, is_exhaustive: bool
) -> _Search:
    check_prompt(prefix.config, prompt)
    leaves = list(_make_leaves(candidates, bonuses or [0.0] * len(candidates), prefix.config.seq_len - len(prompt)))
    if not leaves:
        raise ValueError(
            f"candidates must fit into the window after the prompt; found {len(candidates)} and a prompt of {len(prompt)} "
            f"tokens; shorten the prompt (the window has {prefix.config.seq_len})."
        )
    search = _Search(prefix, is_exhaustive=is_exhaustive)
    with prefix.occupy():
        log_probs = normalize(prefix.extend(prompt))[0]
        search.visit(leaves, log_probs, len(prompt), 0.0)
    return search


def _make_leaves(candidates: Sequence[Ids], bonuses: Sequence[float], n_room: int) -> Iterator[_Leaf]:
    """Yield the distinct candidates that fit, in the order of their ids."""
    leaves = sorted(
        _Leaf(tuple(ids), index, bonus)
        for index, (ids, bonus) in enumerate(zip(candidates, bonuses, strict=True))
        if 0 < len(ids) <= n_room
    )
    last: tuple[int, ...] = ()
    for leaf in leaves:
        if leaf.ids == last:
            continue
        if last and leaf.ids[: len(last)] == last:
            raise ValueError(
                f"a candidate is the beginning of another; found {list(last)[:8]}; end each one with a stop id."
            )
        last = leaf.ids
        yield leaf


def normalize(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return log-probabilities of each row."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _count_shared(first: Ids, last: Ids) -> int:
    """Return the length of the common beginning."""
    n = 0
    while n < len(first) and n < len(last) and first[n] == last[n]:
        n += 1
    return n
