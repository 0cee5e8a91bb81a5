"""The files that people compare: declared in dvc.yaml, some forty metrics, curves with a value in each row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from pipeline.evaluate.comparison import COMPARED, CURVES, SUMMARY, format_curve, write_comparison
from tests.conftest import ROOT, read_yaml


def test_the_summary_has_what_was_measured_and_the_curves_their_steps(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss_nats": 5.25}, {"step": 2, "loss_nats": 1 / 3, "bpb": 2.5}]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    out.mkdir()
    write_comparison({"bpb": 1.5, "bpb_se": 0.1, COMPARED[-1]: 1.0}, {"base": tmp_path, "chat": tmp_path / "none"}, out)
    assert json.loads((out / SUMMARY).read_text()) == {"bpb": 1.5, COMPARED[-1]: 1.0}
    assert (out / "pretrain_loss.csv").read_text() == f"step,loss_nats\n1,5.25\n2,{1 / 3!r}\n"
    heldout = (out / "pretrain_heldout_bpb.csv").read_text().splitlines()
    assert list(csv.reader(heldout)) == [["step", "bpb"], ["2", "2.5"]]
    assert (out / "sft_loss.csv").read_text() == format_curve(tmp_path / "none", "loss_nats") == "step,loss_nats\n"


def test_dvc_compares_these_files_and_no_others() -> None:
    graph = read_yaml(ROOT / "dvc.yaml")
    assert graph["metrics"] == [f"data/evaluate/{SUMMARY}"]
    assert len(COMPARED) <= 40
    assert not any("metrics" in stage or "plots" in stage for stage in graph["stages"].values())
    files = {path: column for plot in graph["plots"] for each in plot.values() for path, column in each["y"].items()}
    assert files == {f"data/evaluate/{name}": metric for name, (_, metric) in CURVES.items()}
