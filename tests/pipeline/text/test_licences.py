"""SPDX expressions against a list."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.text.licences import allowed_frac


@pytest.mark.parametrize(
    ("licence", "allowed", "stays"),
    [
        ("MIT", ["MIT"], True),
        ("mit", ["MIT"], True),
        ("MIT", ["mit"], True),
        ("GPL-3.0-only", ["MIT"], False),
        ("MIT AND BSD-3-Clause", ["MIT"], False),
        ("MIT AND BSD-3-Clause", ["MIT", "BSD-3-Clause"], True),
        ("MIT OR GPL-3.0-only", ["MIT"], True),
        ("GPL-2.0-only OR GPL-3.0-only", ["MIT"], False),
        ("MIT AND (GPL-3.0-only OR 0BSD)", ["MIT", "0BSD"], True),
        ("(MIT OR 0BSD) AND GPL-3.0-only", ["MIT", "0BSD"], False),
        ("Apache-2.0 WITH LLVM-exception", ["Apache-2.0"], True),
        ("Apache-2.0 WITH LLVM-exception", ["Apache-2.0 WITH LLVM-exception"], True),
        ("Apache-2.0", ["Apache-2.0 WITH LLVM-exception"], False),
        ("unknown", ["MIT"], False),
        ("unknown", ["MIT", "unknown"], True),
        ("see LICENSE.txt (ask)", ["MIT"], False),
        ("see LICENSE.txt (ask)", ["see LICENSE.txt (ask)"], True),
        ("LicenseRef-ours", ["LicenseRef-ours"], True),
        ("", ["MIT"], False),
        ("MIT OR", ["MIT"], False),
        ("NOT MIT", ["MIT"], False),
    ],
)
def test_licence(licence: str, allowed: list[str], stays: bool) -> None:
    assert allowed_frac(pa.array([licence]), allowed).tolist() == [float(stays)]


def test_a_column_keeps_its_order() -> None:
    column = pa.array(["MIT", "unknown", "MIT", "0BSD"])
    assert allowed_frac(column, ["MIT"]).tolist() == [1, 0, 1, 0]
    assert allowed_frac(column.slice(1, 2), ["MIT"]).tolist() == [0, 1]
    assert allowed_frac(pa.array([], pa.string()), ["MIT"]).tolist() == []
