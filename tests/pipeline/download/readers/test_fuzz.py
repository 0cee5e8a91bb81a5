"""Test that mutated files of every format end in documents and rejects, never in an exception or a hang."""

from pathlib import Path

import pytest

from pipeline.storage import streams
from tests.pipeline.download.readers.fuzz import SLACK_BYTES, find_failures, make_samples, read_all

N_INPUTS = 2_000  # `python -m tests.pipeline.download.readers.fuzz` reads 100,000


@pytest.fixture(autouse=True)
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", SLACK_BYTES)


def test_unchanged_samples_are_read(tmp_path: Path) -> None:
    for sample in make_samples():
        path = tmp_path / sample.name
        path.write_bytes(sample.data)
        assert read_all(path, sample.kind) > 0, sample.name
        path.unlink()


@pytest.mark.slow
def test_mutated_files_neither_raise_nor_hang(tmp_path: Path) -> None:
    assert find_failures(N_INPUTS, seed=7, folder=tmp_path) == []
