"""Test that parts on disk are complete or absent, and are found again by their key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.download import spool as spooled
from pipeline.download import stage as download
from pipeline.download.readers.document import Document, DocumentBatch, Opened, Reading, Reject, RowFormat, SourcePart
from pipeline.download.spool import clear_unfinished, read_summary, spool_reading
from pipeline.storage.arrow import map_batches
from pipeline.storage.sort import list_runs
from tests.conftest import ROOT

make = download.make_tables


def batches(text: str) -> Iterator[DocumentBatch]:
    document = Document("s", "{}", text, "", "", "")
    reject = Reject("s", text, "broken", "")
    yield DocumentBatch([document], [reject, reject], {"seen": 2}, 3, [{"path": text}], RowFormat(2, 1, ("a",)))
    yield DocumentBatch([], [], {"seen": 1, "other": 1}, 2, [], RowFormat(1, 0, ("b",)))


def open_text(key: str, text: str) -> Opened:
    return Opened(key, batches(text))


def stop() -> Opened:
    def broken() -> Iterator[DocumentBatch]:
        yield from batches("half")
        raise OSError("stopped")

    return Opened("broken", broken())


def texts(folders: list[Path]) -> list[str]:
    return [
        text for path in list_runs(folders, "docs") for text in map_batches(path).read_all().column("text").to_pylist()
    ]


def test_parts_are_reused_and_their_summaries_add_up(tmp_path: Path) -> None:
    parts = [
        SourcePart(5, partial(open_text, key, text)) for key, text in (("k1", "one"), ("k2", "two"), ("", "three"))
    ]
    advanced: list[int] = []
    first = spool_reading(Reading(15, iter(()), parts), tmp_path, make, advanced.append)
    assert sum(advanced) == 15
    assert texts(first) == ["one", "two", "three"]
    total = read_summary(first)
    assert (total.counts, total.reasons) == ({"seen": 9, "other": 3}, {"broken": 6})
    assert (total.rows, total.examples) == (RowFormat(9, 3, ("a",)), {"broken": "one: "})
    assert total.origins == [{"path": "one"}, {"path": "two"}, {"path": "three"}]
    again = spool_reading(Reading(15, iter(()), [parts[1], parts[0], parts[2]]), tmp_path, make, advanced.append)
    assert again[:2] == [first[1], first[0]]
    assert again[2] != first[2]  # a part without a key is read each time
    assert sum(advanced) == 30
    clear_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(first[:2])


def test_an_incomplete_part_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="stopped"):
        spool_reading(Reading(1, iter(()), [SourcePart(1, stop)]), tmp_path, make, lambda n: None)
    assert not list(tmp_path.glob("part-*"))


def test_a_part_read_twice_at_the_same_time_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> Opened:
        def late() -> Iterator[DocumentBatch]:
            yield from batches("same")
            spool_reading(
                Reading(1, iter(()), [SourcePart(1, partial(open_text, "k", "same"))]), tmp_path, make, lambda n: None
            )

        return Opened("k", late())

    folders = spool_reading(Reading(1, iter(()), [SourcePart(1, slow)]), tmp_path, make, lambda n: None)
    assert texts(folders) == ["same"]
    assert list(tmp_path.iterdir()) == folders


def test_parts_read_by_other_code_are_not_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(1, iter(()), [SourcePart(1, partial(open_text, "k", "one"))])
    [before] = spool_reading(reading, tmp_path, make, lambda n: None)
    monkeypatch.setattr(spooled, "hash_code", lambda: "later")
    [after] = spool_reading(reading, tmp_path, make, lambda n: None)
    assert before != after


MEASURE = """
import random, sys
from pathlib import Path
import pyarrow as pa
from pipeline.download import stage as download
from pipeline.storage import sort
from pipeline.params import Download
sort.RUN_BYTES = 4_000_000
folder, n_texts = Path(sys.argv[1]), int(sys.argv[2])
random.seed(1)
words = " ".join(str(random.random()) for _ in range(5_000))
with (folder / "texts.txt").open("w") as file:
    for number in range(n_texts):
        file.write(f"{number} {words[number % 50_000 :][:10_000]}|")
text = {"kind": "text", "name": "t", "path": str(folder / "texts.txt"), "split_on": "|", "max_member_bytes": 20_000}
download.run(Download.model_validate({"sources": [text]}), out=folder / "out", scratch=folder / "scratch")
print(pa.default_memory_pool().max_memory())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    peaks: list[int] = []
    for n_texts in (1_000, 5_000):  # 10 and 50 MB
        folder = tmp_path / str(n_texts)
        folder.mkdir()
        argv = [sys.executable, "-c", MEASURE, str(folder), str(n_texts)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_WORKERS": "1"}
        process = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(process.stdout.splitlines()[-1]))
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 80_000_000
