"""A training phase: skipped batches are reported with their documents, and settings reach the training loop."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from model.data.batches import ConversationBatches, StreamBatches, TokenStream
from model.tokenizer.tokenizer import Tokenizer
from model.training.loop import DivergedError, StepRecord
from pipeline.frame.errors import UserError
from pipeline.params import load_params
from pipeline.pretrain import stage as pretrain
from pipeline.pretrain.params import Budget, Data, Samples
from pipeline.sft import stage as sft
from pipeline.storage.tables import read_table
from pipeline.training.params import Spikes
from pipeline.training.phase import describe_step, make_settings, name_documents
from tests.conftest import ROOT


def make_sensitive(params: Any, **spikes: Any) -> Any:
    """Return the params of a short run with zero learning rates that treats every fluctuation of the loss as a spike."""
    values: dict[str, Any] = {"max_robust_z": 0.5, "window_steps": 8, **spikes}
    zero_rates = dict.fromkeys(("matrix_lr", "embedding_lr", "head_lr", "norm_lr"), 0.0)
    training = params.training.model_copy(update={**zero_rates, "total_steps": 24, "spikes": Spikes(**values)})
    return params.model_copy(update={"training": training})


def test_documents_of_a_batch_are_those_with_tokens_in_it(finished_workspace: Path) -> None:
    """Compares with the tokens of each document, in three batches."""
    shards = finished_workspace / "data/shard"
    stream = TokenStream(shards, "train")
    batches = StreamBatches(stream, seq_len=384, batch_rows=2, seed=1)
    table = read_table(shards / "docs.parquet").to_pylist()
    for step in (0, batches.n_rows // 2, batches.n_rows):
        spans = batches.find_spans(step)
        document_ids = pretrain.find_documents(shards / "docs.parquet", spans)
        touched = np.zeros(len(stream), dtype=bool)
        for start, stop in spans:
            touched[start:stop] = True
        train = [row for row in table if row["split"] == "train"]
        assert document_ids == [
            row["id"] for row in train if touched[row["start"] : row["start"] + row["n_tokens"]].any()
        ]


def test_pretrain_lists_the_documents_of_skipped_batches(finished_workspace: Path, tmp_path: Path) -> None:
    params = make_sensitive(load_params(finished_workspace / "params.yaml").pretrain, max_skips=100)
    (tmp_path / "out").mkdir()
    inputs = {"shards": finished_workspace / "data/shard", "tokenizer": finished_workspace / "data/train_tokenizer"}
    metrics = pretrain.run(params, **inputs, scratch=tmp_path, out=tmp_path / "out")
    events = [json.loads(line) for line in (tmp_path / "out/events.jsonl").read_text().splitlines()]
    assert events
    assert metrics["batches_left_out"] == len({number for event in events for number in event["left_out"]})
    known = set(read_table(finished_workspace / "data/shard/docs.parquet", ["id"]).column("id").to_pylist())
    for event in events:
        assert event["documents"]
        assert set(event["documents"]) <= known


def test_samples_are_in_the_history_and_do_not_change_weights(finished_workspace: Path, tmp_path: Path) -> None:
    params = load_params(finished_workspace / "params.yaml").pretrain
    samples = Samples(prompts=["", "Returns the"], max_tokens=7)
    (tmp_path / "out").mkdir()
    inputs = {"shards": finished_workspace / "data/shard", "tokenizer": finished_workspace / "data/train_tokenizer"}
    params = params.model_copy(update={"samples": samples})
    pretrain.run(params, **inputs, scratch=tmp_path, out=tmp_path / "out")
    history = [json.loads(line) for line in (tmp_path / "out/history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history if "samples" in row] == [15, 30]
    for row in history:
        assert ("samples" in row) == ("bpb" in row)
    assert all(isinstance(text, str) and text for text in history[-1]["samples"])
    assert len(history[-1]["samples"]) == 2
    ours, theirs = (folder / "model.safetensors" for folder in (tmp_path / "out", finished_workspace / "data/pretrain"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_sft_stops_and_lists_the_conversations(finished_workspace: Path, tmp_path: Path) -> None:
    params = make_sensitive(load_params(finished_workspace / "params.yaml").sft)
    inputs = {"base": finished_workspace / "data/pretrain", "conversations": finished_workspace / "data/conversations"}
    with pytest.raises(DivergedError, match=r"diverged at step \d+: .*\(of ") as error:
        sft.run(params, **inputs, scratch=tmp_path, out=tmp_path)
    named = str(error.value).partition("(of ")[2].split(", ")[0]
    assert named in read_table(finished_workspace / "data/conversations/train.parquet", ["id"]).column("id").to_pylist()


def test_conversations_of_a_batch_are_those_packed_into_it(finished_workspace: Path) -> None:
    path = finished_workspace / "data/conversations/train.parquet"
    tokenizer = Tokenizer.load(finished_workspace / "data/train_tokenizer")
    batches = ConversationBatches(
        sft.read_conversations(path, tokenizer),
        seq_len=384,
        batch_rows=2,
        seed=1,
        pad_id=tokenizer.get_special_id("pad"),
    )
    every = [
        each for number in range(-(-batches.n_rows // 2)) for each in sft.find_conversations(path, batches, number)
    ]
    ids = read_table(path, ["id"]).column("id")
    packed = {ids[piece].as_py() for row in batches.packing.rows for piece in row}
    assert set(every) == packed


def test_long_list_of_documents_is_shortened_in_messages() -> None:
    assert name_documents([]) == ""
    assert name_documents(["a", "b"]) == " (of a, b)"
    assert name_documents([str(n) for n in range(10)]).endswith("6, 7 and 2 more)")


def test_number_of_checkpoints_comes_from_the_environment(
    finished_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = load_params(finished_workspace / "params.yaml").sft.training
    assert (make_settings(training).keep_checkpoints, make_settings(training).keep_best) == (2, False)
    for name, value in (("CHECKPOINTS", "5"), ("EVERY", "100"), ("BEST", "1")):
        monkeypatch.setenv(f"MINIGPT_KEEP_{name}", value)
    settings = make_settings(training)
    assert (settings.keep_checkpoints, settings.keep_every, settings.keep_best) == (5, 100, True)
    monkeypatch.setenv("MINIGPT_KEEP_EVERY", "often")
    with pytest.raises(UserError, match="MINIGPT_KEEP_EVERY"):
        make_settings(training)


def test_settings_in_the_docs_are_valid() -> None:
    text = (ROOT / "docs/training.md").read_text()
    blocks = [YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(spikes.*?)```", text, re.DOTALL)]
    blocks += [YAML(typ="safe").load(line) for line in re.findall(r"^budget: .*$", text, re.MULTILINE)]
    blocks += [YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(data:.*?)```", text, re.DOTALL)]
    assert [next(iter(block)) for block in blocks] == ["spikes", *["budget"] * 4, "data"]
    for block in blocks:
        ((name, values),) = block.items()
        {"spikes": Spikes, "budget": Budget, "data": Data}[name](**values)


def test_activation_checkpointing_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(ROOT / "params.yaml").sft.training
    assert make_settings(params).activation_checkpointing == "none"
    monkeypatch.setenv("MINIGPT_ACTIVATION_CHECKPOINTING", "selective")
    assert make_settings(params).activation_checkpointing == "selective"
    monkeypatch.setenv("MINIGPT_ACTIVATION_CHECKPOINTING", "some")
    with pytest.raises(UserError, match="MINIGPT_ACTIVATION_CHECKPOINTING"):
        make_settings(params)


def test_progress_text_has_loss_bpb_speed_and_mfu() -> None:
    record = StepRecord(step=3, loss_nats=2.0, lr=1.0, tokens=9, seconds=1.0, tokens_per_second=31_000.0, grad_norm=1.0)
    assert describe_step(record, 0.614, bytes_per_token=4.0) == "loss 2.000, bpb 0.721, 31k tokens/s, MFU 61.4%"
    measured = replace(record, evaluation={"bpb": 1.4, "samples": ["x"]})
    assert describe_step(measured, 0.5) == "loss 2.000, 31k tokens/s, MFU 50.0%, held-out bpb 1.400"


def test_every_training_param_reaches_the_settings_by_name() -> None:
    """Each value reaches the field of the same name, except batch size and seed, which other code reads."""
    training = load_params(ROOT / "params.yaml").sft.training
    numbers = {name: value for name, value in training.model_dump().items() if name != "spikes"}
    changed = {name: value + 1 if isinstance(value, int) else value / 2 + 0.001 for name, value in numbers.items()}
    spikes = Spikes(max_robust_z=7.5, window_steps=9, back_steps=3, max_skips=2)
    settings = asdict(make_settings(training.model_copy(update={**changed, "spikes": spikes})))
    assert settings["watch"] == spikes.model_dump()
    assert changed.keys() - {"seed", "batch_rows"} <= settings.keys() | settings["optim"].keys()
    for name in changed.keys() - {"seed", "batch_rows"}:
        assert (settings | settings["optim"])[name] == changed[name], name
