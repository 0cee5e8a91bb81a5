"""Estimate for each block of a page the probability that it is main text.

In: elements and blocks. Out: probabilities. The classifier is a sum of regression trees (gradient boosting) over the features of a
block; benchmarks/pages/fit_blocks.py fits them to pages whose main text is known, block_trees.json holds them. A second classifier
that also saw the first one's estimates around each block made no difference. Time: 2 µs per block.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.download.pages.blocks.block_features import NAMES, compute_features
from pipeline.download.pages.blocks.page_blocks import Blocks

FILE = "block_trees.json"


class Trees(NamedTuple):
    """Trees as arrays of nodes: an inner node has a feature, a threshold and two children; a leaf has feature -1 and a value."""

    features: np.ndarray
    values: np.ndarray
    left: np.ndarray
    right: np.ndarray
    roots: np.ndarray
    bias: float


def classify_blocks(page: Blocks) -> np.ndarray:
    """Return the probability of each block."""
    return add_trees(compute_features(page), load_trees())


@cache
def load_trees() -> Trees:
    """Return the trees of this package."""
    return parse_trees(json.loads((files(__package__ or "") / FILE).read_text(encoding="utf-8")), NAMES)


def parse_trees(stored: Any, names: Sequence[str]) -> Trees:
    """Return trees from nested lists: `[feature, threshold, left, right]`, or the value of a leaf."""
    nodes: list[tuple[int, float, int, int]] = []

    def add(node: Any) -> int:
        number = len(nodes)
        nodes.append((-1, 0.0 if isinstance(node, list) else node, 0, 0))
        if isinstance(node, list):
            name, threshold, left, right = node
            nodes[number] = names.index(name), threshold, add(left), add(right)
        return number

    roots = [add(tree) for tree in stored["trees"]]
    features, values, left, right = zip(*nodes, strict=True)
    left, right, roots = (np.array(column, np.int32) for column in (left, right, roots))
    return Trees(np.array(features, np.int32), np.array(values, np.float32), left, right, roots, stored["bias"])


def add_trees(rows: np.ndarray, trees: Trees) -> np.ndarray:
    """Return the probability of each row of features."""
    sums = np.empty(len(rows), np.float64)
    _add_trees(rows, *trees, sums)
    return 1 / (1 + np.exp(-sums))


@numba.njit(cache=True, nogil=True)
def _add_trees(
    rows: Any, features: Any, values: Any, left: Any, right: Any, roots: Any, bias: float, sums: Any
) -> None:  # pragma: no cover (compiled)
    for number in range(len(rows)):
        row, total = rows[number], bias
        for root in roots:
            node = root
            while features[node] >= 0:
                node = left[node] if row[features[node]] <= values[node] else right[node]
            total += values[node]
        sums[number] = total
