"""A table written in pieces is the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.tables import LEDGER, TableWriter, read_table, write_table


@pytest.mark.parametrize("cuts", [[], [1], [16_384], [5, 5, 20_000, 40_000]])
def test_pieces_give_the_bytes_of_the_whole(tmp_path: Path, cuts: list[int]) -> None:
    table = pa.table({"id": [f"{i:05d}" for i in range(50_000)], "score": np.sqrt(np.arange(50_000))})
    write_table(tmp_path / "whole", table)
    with TableWriter(tmp_path / "pieces") as writer:
        for start, stop in zip([0, *cuts], [*cuts, 50_000], strict=True):
            writer.write(table[start:stop])
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


def test_no_rows_give_a_file_with_the_columns(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "given", LEDGER):
        pass
    with TableWriter(tmp_path / "first") as writer:
        writer.write(LEDGER.empty_table())
    for name in ("given", "first"):
        assert read_table(tmp_path / name).schema.names == LEDGER.names
