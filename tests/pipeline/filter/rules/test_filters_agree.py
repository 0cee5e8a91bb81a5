"""Decisions and cleaned texts equal datatrove's at its default thresholds, on generated pages of many kinds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.filter import steps
from pipeline.filter.params import C4
from pipeline.filter.rules.c4 import Lines, clean_lines

pytest.importorskip("datatrove")

from benchmarks.text import rules as bench
from pipeline.filter.decisions import PASSES, find_first_broken

N_DOCS = 200  # datatrove takes 70 ms for each


@pytest.mark.slow
def test_every_filter_decides_like_datatroves() -> None:
    texts = bench.documents(N_DOCS, seed=7)
    theirs = bench.compute_peer_decisions(texts, bench.make_peer_filters())
    for name, step, row in zip(bench.Filters._fields, bench.make_paper_filters(), theirs, strict=True):
        ours = bench.compute_decisions(pa.array(texts), step)
        assert np.mean(ours == row) >= 0.995, name
        assert 0.1 < row.mean() < 0.9, f"{name}: the documents are too similar for a meaningful comparison"


@pytest.mark.slow
@pytest.mark.parametrize("use_terminal_punctuation", [True, False])
def test_c4_cleaning_gives_the_same_texts(use_terminal_punctuation: bool) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    texts = bench.documents(N_DOCS, seed=8)
    peer = C4QualityFilter(filter_no_terminal_punct=use_terminal_punctuation)
    theirs = [Document(text=text, id="") for text in texts]
    is_kept = np.array([peer.filter(document) is True for document in theirs])
    cleaned = clean_lines(pa.array(texts), Lines(use_terminal_punctuation=use_terminal_punctuation))
    rules = bench.present(steps.make_web_step(C4().model_dump(), None)).rules
    ours = find_first_broken(pa.Table.from_batches([cleaned.scores]), rules) == PASSES
    assert np.mean(ours == is_kept) >= 0.995
    both = np.flatnonzero(ours & is_kept).tolist()
    alike = sum(cleaned.texts[index].as_py() == theirs[index].text for index in both)
    assert alike >= 0.995 * len(both) > 50


def test_the_generated_documents_are_deterministic() -> None:
    assert bench.documents(20, 3) == bench.documents(20, 3)
    assert bench.documents(20, 3) != bench.documents(20, 4)
