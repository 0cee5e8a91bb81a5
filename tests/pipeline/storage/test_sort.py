"""The external sort agrees with `sorted` for any split of the rows, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage.sort import RunWriter, Sorter, list_runs, merge_runs
from tests.conftest import ROOT

SCHEMA = pa.schema([("number", pa.uint64()), ("name", pa.string()), ("row", pa.int64()), ("ids", pa.list_(pa.int32()))])
NUMBERS = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=4)
BATCHES = st.lists(st.lists(st.tuples(NUMBERS, NAMES), max_size=12), max_size=8)
BY = st.sampled_from([["number"], ["name"], ["number", "name"], ["name", "number"]])


def tables(batches: list[list[tuple[int, str]]]) -> list[pa.Table]:
    """Return a table for each batch; `row` numbers all rows in the order of writing."""
    made, row = list[pa.Table](), 0
    for batch in batches:
        rows = [
            {"number": n, "name": name, "row": row + i, "ids": [row] * (i % 3)} for i, (n, name) in enumerate(batch)
        ]
        made.append(pa.Table.from_pylist(rows, SCHEMA))
        row += len(batch)
    return made


@settings(deadline=None, max_examples=60)
@given(batches=BATCHES, by=BY, run_bytes=st.integers(1, 800))
def test_the_order_is_that_of_sorted_for_any_split_of_the_rows(
    batches: list[list[tuple[int, str]]], by: list[str], run_bytes: int
) -> None:
    written = tables(batches)
    with tempfile.TemporaryDirectory() as folder:
        sorter = Sorter(Path(folder) / "sort", SCHEMA, by, run_bytes)
        for table in written:
            sorter.write(table)
        read = list(sorter.read())
        assert not (Path(folder) / "sort").exists()
    rows = [row for table in written for row in table.to_pylist()]
    assert [row for table in read for row in table.to_pylist()] == sorted(rows, key=itemgetter(*by))
    keys = [{itemgetter(*by)(row) for row in table.to_pylist()} for table in read]
    assert sum(map(len, keys)) == len(set().union(*keys)), "rows with equal keys are in one table"
    assert all(len(table) for table in read)


@pytest.mark.parametrize("kind", ["increasing", "alike", "equal", "skewed"])
def test_tables_are_bounded_whatever_the_distribution_of_keys(tmp_path: Path, kind: str) -> None:
    """`alike`: every run has the same keys; `equal`: half of all rows have one key, the only table that may be large."""
    generator, n = np.random.default_rng(1), 2_000
    numbers = {
        "increasing": lambda run: np.arange(n) + run * n,
        "alike": lambda run: np.arange(n) * 64 + run,
        "equal": lambda run: np.where(np.arange(n) % 2, 7, np.arange(n) * 64 + run + 8),
        "skewed": lambda run: np.minimum(generator.pareto(0.3, n) * 1e3, 1e15),
    }[kind]
    run_bytes, total = 50_000, list[int]()
    sorter = Sorter(
        tmp_path / "sort", pa.schema([("number", pa.uint64()), ("text", pa.string())]), ["number"], run_bytes
    )
    for run in range(40):
        values = numbers(run).astype(np.uint64)
        total += values.tolist()
        texts = ["x" * (300 if number % 17 == 0 else 5) for number in range(n)]
        sorter.write(pa.table({"number": values, "text": texts}))
    read = list(sorter.read())
    assert [number for table in read for number in table.column("number").to_pylist()] == sorted(total)
    sizes = [table.nbytes for table in read if table.column("number")[0].as_py() != 7 or kind != "equal"]
    assert max(sizes) <= 2 * run_bytes
    assert len(read) > 5


def test_runs_of_several_folders_are_merged_in_the_order_of_the_folders(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        writer = RunWriter(tmp_path / name, "docs", pa.schema([("id", pa.string()), ("from", pa.string())]), ["id"], 1)
        for number in (2, 1):
            writer.write(pa.record_batch({"id": [f"{number}", "0"], "from": [name, name]}))
        writer.flush()
        assert writer.n_runs == 2
    paths = list_runs([tmp_path / "b", tmp_path / "a"], "docs")
    rows = [row for table in merge_runs(paths, ["id"]) for row in table.to_pylist()]
    assert [(row["id"], row["from"]) for row in rows] == [
        *[("0", "b")] * 2, *[("0", "a")] * 2, ("1", "b"), ("1", "a"), ("2", "b"), ("2", "a"),
    ]  # fmt: skip


def test_nothing_gives_nothing_and_small_inputs_stay_in_memory(tmp_path: Path) -> None:
    assert list(Sorter(tmp_path / "none", SCHEMA, ["name"]).read()) == []
    assert list(merge_runs([], ["name"])) == []
    sorter = Sorter(tmp_path / "small", SCHEMA, ["name"])
    sorter.write(tables([[(1, "b"), (2, "a")]])[0])
    assert list((tmp_path / "small").iterdir()) == []
    assert [table.column("name").to_pylist() for table in sorter.read()] == [["a", "b"]]


def test_runs_left_by_a_stopped_process_are_not_read(tmp_path: Path) -> None:
    for _ in range(2):
        sorter = Sorter(tmp_path / "sort", SCHEMA, ["number"], run_bytes=1)
        sorter.write(tables([[(1, "a")]])[0])
    assert [len(table) for table in sorter.read()] == [1]


MEASURE = """
import sys
from pathlib import Path
import numpy as np, psutil, pyarrow as pa
from pipeline.storage.sort import Sorter
n_batches = int(sys.argv[2])
generator = np.random.default_rng(0)
schema = pa.schema([("number", pa.uint64()), ("text", pa.string())])
sorter = Sorter(Path(sys.argv[1]), schema, ["number"], 8_000_000)
for _ in range(n_batches):
    numbers = generator.integers(0, 2**64 - 1, 1_000, np.uint64)
    sorter.write(pa.table({"number": numbers, "text": [f"{number}" * 50 for number in numbers]}, schema))
last, n, peak = -1, 0, 0
for table in sorter.read():
    numbers = table.column("number").to_numpy()
    assert last <= int(numbers[0]) and (numbers[1:] >= numbers[:-1]).all()
    last, n = int(numbers[-1]), n + len(numbers)
    memory = psutil.Process().memory_info()
    peak = max(peak, memory.rss - memory.shared)  # without pages of mapped files
assert n == n_batches * 1_000
print(peak, pa.default_memory_pool().max_memory())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts the pages of mapped files elsewhere")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Sort 20 MB, then 300 MB of rows, in runs of 8 MB."""
    peaks = list[list[int]]()
    for n in ("20", "300"):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "sort"), n]
        peaks.append([int(n) for n in subprocess.check_output(command, cwd=ROOT, text=True).split()])
    assert peaks[1][0] - peaks[0][0] < 4 * 8_000_000, peaks
    assert peaks[1][1] < 4 * 8_000_000, "four times the bytes of a run"
