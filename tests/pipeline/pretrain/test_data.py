"""pretrain.data: mixture, packing and masks, applied to the shards of the finished workspace."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from model.data.batches import TokenStream
from model.network.loss import IGNORE
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params, load_params
from pipeline.pretrain import stage as pretrain
from pipeline.pretrain.data import DataPlan, match_sources, plan_data, read_documents
from pipeline.pretrain.params import Data
from pipeline.storage.tables import read_table
from tests.conftest import ROOT, read_yaml, run_command, stage_commands

TOOLKIT, SKETCH, SPEC = (f"python_docs/{name}" for name in ("prompt_toolkit", "datasketch", "fsspec"))
MIXTURE = {TOOLKIT: 0.5, "python_docs/": 0.2, SKETCH: 0.3}


def make_plan(finished_workspace: Path, seq_len: int = 128, n_steps: int = 25, **data: Any) -> DataPlan:
    """Return the plan of a run, by default 25 steps of 8 rows, 200 rows in all."""
    stream = TokenStream(finished_workspace / "data/shard", "train")
    table = finished_workspace / "data/shard/docs.parquet"
    return plan_data(Data(**data), stream, table, seq_len=seq_len, pad_id=0, n_steps=n_steps, batch_rows=8, seed=1)


def read_train_documents(finished_workspace: Path) -> list[dict[str, Any]]:
    rows = read_table(finished_workspace / "data/shard/docs.parquet").to_pylist()
    return [row for row in rows if row["split"] == "train"]


def test_sources_match_the_longest_prefix(finished_workspace: Path) -> None:
    parts = read_documents(finished_workspace / "data/shard/docs.parquet", MIXTURE)
    assert [part.name for part in parts] == list(MIXTURE)
    for part, source in zip(parts, (TOOLKIT, SPEC, SKETCH), strict=True):
        expected = [
            (row["start"], row["n_tokens"])
            for row in read_train_documents(finished_workspace)
            if row["source"] == source
        ]
        assert list(zip(part.starts.tolist(), part.lengths.tolist(), strict=True)) == expected
    (whole,) = read_documents(finished_workspace / "data/shard/docs.parquet", None)
    assert len(whole.starts) == len(read_train_documents(finished_workspace))
    assert match_sources(["a", "ab/c", "abc"], ["", "ab", "abc"]) == {"a": 0, "ab/c": 1, "abc": 2}


@pytest.mark.parametrize("packing", ["stream", "best_fit"])
def test_every_row_has_one_source_and_shares_are_exact_to_a_row(finished_workspace: Path, packing: str) -> None:
    """Counted from the documents that the spans of the batches touch, not from the plan."""
    plan = make_plan(finished_workspace, packing=packing, mixture=MIXTURE)
    ends = np.cumsum([row["n_tokens"] for row in read_train_documents(finished_workspace)])
    sources = [row["source"] for row in read_train_documents(finished_workspace)]
    drawn = Counter[str]()
    for step in range(25):
        for place in plan.batches.source.order.list_step_rows(step, 8):
            spans = plan.batches.source.sources[place.source].find_spans(place.epoch, place.row)
            touched = {
                sources[document]
                for start, stop in spans
                for document in range(
                    int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(ends, stop)) + 1
                )
            }
            (source,) = touched
            drawn[source] += 1
    assert drawn == {TOOLKIT: 100, SPEC: 40, SKETCH: 60}
    assert [share.rows_drawn for share in plan.shares] == [100, 40, 60]
    for share, rows in zip(plan.shares, plan.batches.source.sources, strict=True):
        assert plan.metrics[f"epochs_{share.name}"] == share.epochs == share.rows_drawn / rows.n_rows
        assert f"{share.epochs:.2f} epochs" in str(plan)
    assert ("row_fill_frac" in plan.metrics) == (packing == "best_fit")


def test_packed_rows_contain_every_token_once(finished_workspace: Path) -> None:
    plan, stream = (
        make_plan(finished_workspace, packing="best_fit"),
        TokenStream(finished_workspace / "data/shard", "train"),
    )
    seen, learned = np.zeros(len(stream), dtype=np.int64), Counter[int]()
    (rows,) = plan.batches.source.sources
    for row in range(rows.n_rows):
        for start, stop in rows.find_spans(0, row):
            seen[start:stop] += 1
        learned.update(target for target in rows.row(0, row).targets.tolist() if target != IGNORE)
    assert (seen == 1).all()
    assert learned == Counter(stream.read(0, len(stream)).tolist())
    assert plan.metrics["row_fill_frac"] == len(stream) / (rows.n_rows * 128)
    assert plan.metrics["row_fill_frac"] > 0.98
    bad = plan.batches.find_spans(3)
    expected = [
        row["id"]
        for row in read_train_documents(finished_workspace)
        if any(start < row["start"] + row["n_tokens"] and stop > row["start"] for start, stop in bad)
    ]
    assert pretrain.find_documents(finished_workspace / "data/shard/docs.parquet", bad) == expected


def test_weights_are_relative_and_zero_excludes_a_source(finished_workspace: Path) -> None:
    plans = [
        make_plan(finished_workspace, mixture={TOOLKIT: 3 * scale, SPEC: scale, SKETCH: 0.0}, mask_documents=True)
        for scale in (0.25, 1.0, 50.0)
    ]
    for step in range(25):
        first, *others = [plan.batches.at(step) for plan in plans]
        assert first.documents is not None
        assert all(torch.equal(first.ids, other.ids) for other in others)
    assert [share.name for share in plans[0].shares] == [TOOLKIT, SPEC]
    assert plans[0].shares[0].row_frac == 0.75


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"mixture": {TOOLKIT: 1.0, SPEC: 1.0}}, rf"sources without a weight(.|\n)*{SKETCH}"),
        ({"mixture": {"": 1.0, "books": 1.0}}, rf"without a source: books(.|\n)*{SPEC}"),
        ({"mixture": {"python_docs/": 1.0, TOOLKIT: 1.0, SPEC: 1.0, SKETCH: 1.0}}, "without a source: python_docs/"),
        ({"mixture": {"": 1.0, SKETCH: 1.0}, "seq_len": 60_000}, "does not fill one row"),
        (
            {"mixture": {"": 0.2, SKETCH: 0.8}, "max_epochs": 0.5},
            rf"{SKETCH} would be repeated too often(.|\n)*at most",
        ),
        ({"max_epochs": 0.1}, "all would be repeated too often"),
        ({"packing": "best_fit", "max_epochs": 0.1}, "all would be repeated too often"),
    ],
)
def test_settings_that_do_not_match_the_data_are_rejected(
    finished_workspace: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_plan(finished_workspace, **data)


def test_share_in_the_error_is_the_largest_that_passes(finished_workspace: Path) -> None:
    """The run is so short that the other, larger sources stay below the limit."""
    rows = {share.name: share.n_rows for share in make_plan(finished_workspace, mixture=MIXTURE).shares}
    others, bound = rows[TOOLKIT], 0.5 * 200 / rows[SKETCH]
    assert others > 2 * rows[SKETCH]
    with pytest.raises(UserError) as error:
        make_plan(finished_workspace, mixture={SPEC: 0.0, TOOLKIT: 0.4, SKETCH: 0.6}, max_epochs=bound)
    named = float(error.value.do.partition("at most ")[2].partition("%")[0]) / 100
    assert named == pytest.approx(0.5, abs=0.0001)
    make_plan(finished_workspace, mixture={SPEC: 0.0, TOOLKIT: 0.5, SKETCH: 0.5}, max_epochs=bound)
    with pytest.raises(UserError):
        make_plan(finished_workspace, mixture={SPEC: 0.0, TOOLKIT: 0.49, SKETCH: 0.51}, max_epochs=bound)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"mixture": {}}, "pretrain.data"),
        ({"mixture": {"a": 0.0, "b": 0.0}}, "pretrain.data"),
        ({"mixture": {"a": -1.0}}, "pretrain.data.mixture.a"),
        ({"mixture": {"a": float("inf")}}, "pretrain.data.mixture.a"),
        ({"mixture": {"a": float("nan")}}, "pretrain.data.mixture.a"),
        ({"mixture": {"a b": 1.0}}, "pretrain.data.mixture"),
        ({"packing": "worst_fit"}, "pretrain.data.packing"),
        ({"max_epochs": 0.0}, "pretrain.data.max_epochs"),
    ],
)
def test_invalid_settings_are_rejected(data: dict[str, Any], name: str) -> None:
    values = read_yaml(ROOT / "docs/recipes/smoke.yaml")
    values["pretrain"]["data"] = data
    with pytest.raises(ParamError, match=name):
        check_params(values)


def test_default_is_one_stream(finished_workspace: Path) -> None:
    """The finished workspace uses the default: masked rows of the plain stream, no table read, no additional metrics."""
    plan = make_plan(finished_workspace)
    assert load_params(finished_workspace / "params.yaml").pretrain.data == Data()
    assert (plan.metrics, str(plan)) == ({}, "")
    assert plan.batches.at(0).documents is not None
    metrics = json.loads((finished_workspace / "data/metrics/pretrain.json").read_text())
    assert not [name for name in metrics if name.startswith("epochs_")]


def test_damaged_shard_is_reported_before_training_on_it(finished_workspace: Path, tmp_path: Path) -> None:
    for path in (finished_workspace / "data/shard").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name = json.loads((tmp_path / "manifest.json").read_text())["train"]["files"][-1]["name"]
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    params = load_params(finished_workspace / "params.yaml").pretrain
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    with pytest.raises(ValueError, match=f"damaged.*{name}"):
        pretrain.run(
            params, shards=tmp_path, tokenizer=finished_workspace / "data/train_tokenizer", scratch=scratch, out=out
        )
    assert not out.exists()


@pytest.mark.slow
def test_sigkill_with_a_mixture_changes_nothing(
    finished_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packed, masked and mixed: a real process that is killed during training and restarted, compared with an undisturbed one."""
    values = read_yaml(finished_workspace / "params.yaml")
    values["pretrain"]["data"] = {"packing": "best_fit", "mask_documents": True, "mixture": MIXTURE}
    values["pretrain"]["training"] |= {"total_steps": 24, "eval_every": 12}
    argv, digests = stage_commands()["pretrain"], []
    command = [sys.executable, "-m", "pipeline", *argv]
    settings = {"MINIGPT_COMPILE": "0", "MINIGPT_CHECKPOINT_SECONDS": "0.2"}
    env = {**os.environ, **settings, "PYTHONPATH": str(ROOT), "MINIGPT_PROCESSES": "1"}
    for name in ("killed", "whole"):
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        for stage in ("shard", "train_tokenizer"):
            (folder / "data" / stage).symlink_to(finished_workspace / "data" / stage)
        with (folder / "params.yaml").open("w") as file:
            YAML().dump(values, file)
        if name == "killed":
            with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL) as child:
                while not any(folder.glob("scratch/*/*/checkpoints/step-*")) and child.poll() is None:
                    time.sleep(0.02)
                child.kill()
            assert not (folder / "data/pretrain").exists()
            assert any(folder.glob("scratch/pretrain/*/verified.jsonl"))
        assert run_command(folder, argv, **settings) == 0
        printed = capsys.readouterr().out
        assert ("continuing after step" in printed) == (name == "killed")
        assert f"{SKETCH}" in printed
        outputs = [folder / "data/pretrain" / file for file in ("model.safetensors", "history.jsonl")]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs])
        metrics = json.loads((folder / "data/metrics/pretrain.json").read_text())
        assert {f"epochs_{key}" for key in MIXTURE} < metrics.keys()
    assert digests[0] == digests[1]
