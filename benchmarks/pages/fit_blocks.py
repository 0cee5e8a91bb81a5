"""Fit the classifier that tells main text from boilerplate, and write its trees into pipeline/download/pages/blocks/.

python -m benchmarks.pages.fit_blocks WCXB [FOLDER …]: a checkout of the Web Content eXtraction Benchmark (Murrough Foley,
CC-BY-4.0), of which only the 1,497 pages of `dev/` are read, and folders that gold_pages.py knows, of which only half of the pages
are read (`is_held_out` is false), so that the other half can measure. A block is main text if more than half of its words are in
the longest common subsequence with the page's gold; where only snippets are known, only the blocks that contain one are used. A
copy of a third of WCXB's pages has nothing but the first blocks of main text, so that short and clean pages are kept. The same
pages give the same trees. Time: 5 minutes; memory: 2 GB.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.measure import ROOT
from benchmarks.pages.gold_pages import WORD, GoldPage, is_held_out, read_gold
from pipeline.download.pages.blocks import block_classifier
from pipeline.download.pages.blocks.block_features import NAMES, compute_features
from pipeline.download.pages.blocks.block_text import B_END, B_START, B_WORDS
from pipeline.download.pages.blocks.main_text import cut_blocks
from pipeline.download.pages.blocks.page_blocks import Blocks, split_blocks
from pipeline.download.pages.charsets import decode

TREES: dict[str, Any] = {
    "max_iter": 100,
    "max_leaf_nodes": 16,
    "learning_rate": 0.12,
    "min_samples_leaf": 60,
    "l2_regularization": 20.0,
}
# Weights of pages: what the main text of an article is, people agree about.
WEIGHTS = {"article": 1.5, "service": 0.6, "listing": 0.6, "product": 0.6, "collection": 0.5}
OTHER_WEIGHT, SNIPPET_WEIGHT = 2.0, 0.7  # of a page of the other folders
MAX_BLOCKS = 250  # per page, drawn at random: most blocks of long pages are links
MAX_CELLS = 600_000_000  # of the alignment; longer pages are left out
LENGTHS = (1, 2, 4, 8, 16, 10_000)  # blocks of a clean copy
INVISIBLE = re.compile(rb"<!--.*?-->|<(script|style)[^>]*>.*?</\1[^>]*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Example(NamedTuple):
    """The blocks of a page that are used: features, weights, and whether they are main text."""

    features: np.ndarray
    weights: np.ndarray
    is_main: np.ndarray


def main(folders: list[Path]) -> None:
    """Fit the classifier and write it."""
    rng = np.random.default_rng(1)
    examples = [example for gold in read_gold(folders[0] / "dev").pages for example in make_examples(gold, rng)]
    for folder in folders[1:]:
        pages = (gold for gold in read_gold(folder).pages if not is_held_out(gold.name))
        examples += [example for gold in pages for example in make_other_example(gold, rng)]
    path = ROOT / "pipeline" / "download" / "pages" / "blocks" / block_classifier.FILE
    stored = json.dumps(fit(examples), separators=(",", ":"))
    path.write_text(stored.replace(",[[", ",\n[[").replace(',["', ',\n["') + "\n", encoding="utf-8")


def make_examples(gold: GoldPage, rng: np.random.Generator) -> Iterator[Example]:
    """Yield a page of WCXB, and for a third of the pages a clean copy."""
    body = decode(gold.body).encode()
    page = split_blocks(body)
    is_main = label_blocks(body, page, gold.text)
    if is_main is None:
        return
    weight = WEIGHTS.get(gold.kind, 1.0)
    yield _draw(page, is_main, weight, rng)
    if int(md5(gold.name.encode()).hexdigest(), 16) % 3 == 0 and is_main.any():
        first = is_main & (np.cumsum(is_main) <= LENGTHS[rng.integers(len(LENGTHS))])
        copy = split_blocks(b"<html><body>" + cut_blocks(body, page, first) + b"</body></html>")
        yield _draw(copy, np.ones(len(copy.blocks), np.bool_), weight, rng)


def make_other_example(gold: GoldPage, rng: np.random.Generator) -> Iterator[Example]:
    """Yield a page of another collection; of one with snippets, the blocks that contain one."""
    body = decode(gold.body).encode()
    page = split_blocks(body)
    if not gold.needed:
        is_main = label_blocks(body, page, gold.text)
        if is_main is not None:
            yield _draw(page, is_main, OTHER_WEIGHT, rng)
        return
    texts = [" ".join(read_block(body[start:end]).split()) for start, end in _list_ranges(page)]
    is_main, is_other = (
        np.array([any(" ".join(snippet.split()) in text for snippet in snippets) for text in texts], np.bool_)
        for snippets in (gold.needed, gold.forbidden)
    )
    known = np.flatnonzero(is_main != is_other)
    if len(known):
        yield _weigh(page, is_main, known, SNIPPET_WEIGHT, 0.3)


def _draw(page: Blocks, is_main: np.ndarray, weight: float, rng: np.random.Generator) -> Example:
    return _weigh(page, is_main, np.sort(rng.permutation(len(is_main))[:MAX_BLOCKS]), weight, 0.6)


def _weigh(page: Blocks, is_main: np.ndarray, used: np.ndarray, weight: float, power: float) -> Example:
    """Return the example: blocks weigh by their words to a power, pages the same whatever their length."""
    n_words = np.maximum(page.blocks[used, B_WORDS], 1) ** power
    return Example(compute_features(page)[used], 100 * weight * n_words / max(n_words.sum(), 1e-9), is_main[used])


def _list_ranges(page: Blocks) -> list[list[int]]:
    return page.blocks[:, B_START : B_END + 1].tolist()


def label_blocks(body: bytes, page: Blocks, gold: str) -> np.ndarray | None:
    """Return which blocks are main text, or None for a page that is too long to align."""
    numbers: dict[str, int] = {}

    def read(text: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers)) for word in WORD.findall(text.lower())]

    words = [read(read_block(body[start:end])) for start, end in _list_ranges(page)]
    ours, theirs = np.array([word for block in words for word in block], np.int64), np.array(read(gold), np.int64)
    if len(ours) * len(theirs) > MAX_CELLS:
        return None
    partners = _align(ours, theirs)
    is_run = (np.diff(partners) == 1) & (partners[1:] >= 0) & (partners[:-1] >= 0)
    is_sure = np.concatenate([is_run, [False]]) | np.concatenate([[False], is_run])
    labels, at = np.zeros(len(words), np.bool_), 0
    for number, block in enumerate(words):
        part = partners[at : at + len(block)]
        is_whole = bool(len(block)) and bool((part >= 0).all()) and part[-1] - part[0] == len(block) - 1
        labels[number] = is_whole or 2 * is_sure[at : at + len(block)].sum() > len(block)
        at += len(block)
    return labels


def read_block(part: bytes) -> str:
    """Return the text of a block."""
    text = INVISIBLE.sub(b"", re.sub(rb"<br[^>]*>", b" ", part, flags=re.IGNORECASE))
    return html.unescape(text.decode("utf-8", "replace"))


@numba.njit(cache=True)
def _align(ours: Any, theirs: Any) -> Any:  # pragma: no cover (compiled)
    """Return for each word its partner in a longest common subsequence, or -1."""
    n, m = len(ours), len(theirs)
    equal, above = np.zeros((n + 1, m // 8 + 1), np.uint8), np.zeros((n + 1, m // 8 + 1), np.uint8)
    before, row = np.zeros(m + 1, np.int32), np.zeros(m + 1, np.int32)
    for i in range(n):
        for j in range(m):
            if ours[i] == theirs[j]:
                row[j + 1] = before[j] + 1
                equal[i, j >> 3] |= 1 << (j & 7)
            elif before[j + 1] >= row[j]:
                row[j + 1] = before[j + 1]
                above[i, j >> 3] |= 1 << (j & 7)
            else:
                row[j + 1] = row[j]
        before, row = row, before
    partners = np.full(n, -1, np.int64)
    i, j = n - 1, m - 1
    while i >= 0 and j >= 0:
        if equal[i, j >> 3] >> (j & 7) & 1:
            partners[i] = j
            i, j = i - 1, j - 1
        elif above[i, j >> 3] >> (j & 7) & 1:
            i -= 1
        else:
            j -= 1
    return partners


def fit(examples: list[Example]) -> dict[str, Any]:
    """Return the bias and the trees of a classifier."""
    rows, weights, labels = (np.concatenate(column) for column in zip(*examples, strict=True))
    classifier: Any = HistGradientBoostingClassifier
    model = classifier(**TREES, max_features=0.3, early_stopping=False, random_state=1)
    fitted = model.fit(rows, labels, sample_weight=weights)
    trees = [_export(stage[0].nodes, 0) for stage in fitted._predictors]
    return {"bias": round(float(np.ravel(fitted._baseline_prediction)[0]), 5), "trees": trees}


def _export(nodes: Any, number: int) -> Any:
    """Return a node as nested lists, with rounded numbers."""
    node = nodes[number]
    if node["is_leaf"]:
        return float(f"{node['value']:.4g}")
    inner = (_export(nodes, node[side]) for side in ("left", "right"))
    return [NAMES[node["feature_idx"]], float(f"{node['num_threshold']:.6g}"), *inner]


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
