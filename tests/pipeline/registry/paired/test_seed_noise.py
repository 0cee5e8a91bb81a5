"""The noise of seeds: measured on runs that differ in nothing else, and pasted into params.yaml as it is printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev

import pyarrow as pa
import pytest

from pipeline.params import check_params
from pipeline.registry.__main__ import main
from pipeline.storage.tables import write_table
from tests.conftest import ROOT, read_yaml

VALUES = (1.40, 1.41, 1.39, 1.42)


def write_run(root: Path, bpb: float, quote: float = 0.98, ids: Sequence[str] = ("a", "b")) -> Path:
    """Write what evaluate leaves of a run below `root`."""
    (root / "data/metrics").mkdir(parents=True)
    (root / "data/evaluate").mkdir()
    metrics = {"bpb": bpb, "bpb_se": 0.016, "quote_exact_frac": quote, "bpb_numpy": bpb, "tokens": 7}
    (root / "data/metrics/evaluate.json").write_text(json.dumps(metrics))
    n = len(ids)
    columns = {"metric": ["bpb"] * n, "id": list(ids), "group": [""] * n, "score": [bpb] * n, "size": [1.0] * n}
    write_table(root / "data/evaluate/items.parquet", pa.table({**columns, "is_baseline": [False] * n}))
    return root


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_what_is_printed_is_a_section_of_params(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / str(index), bpb) for index, bpb in enumerate(VALUES)]
    names = [runs[0], runs[1] / "data", runs[2] / "data/metrics/evaluate.json", runs[3]]
    assert main(["noise", *map(str, names), "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "noise.yaml").write_text(printed[printed.index("  noise:") :])
    noise = read_yaml(tmp_path / "noise.yaml")["noise"]
    assert noise["n_seeds"] == 4
    assert noise["sd"] == {"bpb": pytest.approx(stdev(VALUES), rel=0.01), "quote_exact_frac": 0.0}
    values = read_yaml(ROOT / "params.yaml")
    values["registry"]["noise"] = noise
    assert check_params(values).registry.noise is not None
    assert json.loads((tmp_path / "out.json").read_text())["sd"]["bpb"] == pytest.approx(stdev(VALUES))


def test_wrong_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / str(index), bpb) for index, bpb in enumerate(VALUES)]
    other = write_run(tmp_path / "other", 1.5, ids=("a", "c"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("[1]")
    for arguments, expected in (
        (runs[:2], "too few runs"),
        ([*runs[:2], runs[0]], "the same run twice"),
        ([*runs, other], "measured on other items"),
        ([*runs, tmp_path / "empty"], "no metrics of evaluate"),
        ([*runs, tmp_path / "broken.json"], "not metrics of evaluate"),
    ):
        assert main(["noise", *map(str, arguments)]) == 1
        assert expected in capsys.readouterr().err
