"""The distill stage on a tiny teacher: the same bytes after an interruption, a cache that is verified, and bad input."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.data.batches import TokenStream
from model.network.config import ModelConfig
from model.network.folder import load_model, save_model
from model.network.loss import IGNORE
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from model.training.compute import choose_compute
from pipeline.distill import teacher_cache
from pipeline.distill.params import Distill
from pipeline.distill.stage import read_conversations, run
from pipeline.distill.student_batches import TaughtBatches, make_student_batches
from pipeline.distill.teacher_cache import TeacherCache, find_top_tokens
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_stage_params
from pipeline.storage.arrow import TokenFile
from pipeline.storage.tables import CONVERSATIONS, HELDOUT, write_table
from tests.conftest import ROOT, read_yaml

RECIPE = read_yaml(ROOT / "docs/recipes/distill/params.yaml")["distill"]
SMALL = {"n_layer": 1, "n_head": 2, "n_kv_head": 1, "d_model": 32, "d_head": 8, "d_ff": 64, "seq_len": 64}
SHORT = {"total_steps": 4, "batch_rows": 2, "eval_every": 4}
TEXTS = ["import torch", "The sum of an array.", "def f(x): return x + 1", "What is 3 * 4?", "12", "Hello there!"]
TALK = [{"role": "user", "content": "What is 3 * 4?"}, {"role": "assistant", "content": "12"}]


def make_params(**changes: Any) -> Distill:
    training = {**RECIPE["training"], **SHORT, **changes.pop("training", {})}
    values = {**RECIPE, "model": SMALL, "text_steps": 2, "top_k": 4, "eval_tokens": 200, "replay_frac": 0.5, **changes}
    params = check_stage_params({"distill": {**values, "training": training}}, "distill")
    assert isinstance(params, Distill)
    return params


@cache
def make_tokenizer() -> Tokenizer:
    return train_bpe(iter(TEXTS * 4), 300, "cl100k")


@pytest.fixture(autouse=True)
def _on_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_DEVICE", "cpu")
    torch.set_num_threads(1)


def write_inputs(folder: Path) -> dict[str, Path]:
    """Write a teacher, shards of its tokenizer, and conversations."""
    tokenizer = make_tokenizer()
    config = ModelConfig(vocab_size=tokenizer.vocab_size, **{**SMALL, "n_layer": 2})
    save_model(folder / "teacher", Transformer(config, seed=5), tokenizer, phase="sft")
    shards = folder / "shards"
    shards.mkdir()
    bos = tokenizer.get_special_id("bos")
    ids = [index for text in TEXTS * 30 for index in (bos, *tokenizer.encode(text))]
    manifest: dict[str, Any] = {
        "dtype": "uint16",
        "bos_id": bos,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_sha256": tokenizer.sha256,
    }
    for split in ("train", "val"):
        path = shards / f"{split}.arrow"
        file = TokenFile(path, pa.uint16())
        file.write(pa.array(ids))
        file.close()
        entry = {
            "name": path.name,
            "n_tokens": len(ids),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        manifest[split] = {"n_tokens": len(ids), "files": [entry]}
    (shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    talks = folder / "conversations"
    talks.mkdir()
    row = {"id": "t", "kind": "chat", "messages": json.dumps(TALK)}
    write_table(talks / "train.parquet", pa.Table.from_pylist([row] * 3, schema=CONVERSATIONS))
    write_table(talks / "heldout.parquet", pa.Table.from_pylist([row | {"expected": "12"}], schema=HELDOUT))
    for name in ("scratch", "out"):
        (folder / name).mkdir()
    return {"teacher": folder / "teacher", "shards": shards, "conversations": talks}


def run_stage(folder: Path, params: Distill, **changes: Path) -> dict[str, Any]:
    inputs = write_inputs(folder) | changes
    return dict(run(params, **inputs, scratch=folder / "scratch", out=folder / "out"))


def test_output_is_a_student_beside_the_same_one_without_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run_stage(tmp_path, make_params())
    student, tokenizer, about = load_model(tmp_path / "out")
    alone, _, _ = load_model(tmp_path / "out" / "alone")
    assert (about["phase"], tokenizer.sha256) == ("distill", make_tokenizer().sha256)
    assert not torch.equal(student.embedding.weight, alone.embedding.weight)
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(rows) == ["teacher", "student", "alone"]
    assert rows["student"]["n_params"] == student.config.n_parameters < rows["teacher"]["n_params"]
    assert metrics["alone_bpb"] == rows["alone"]["bpb"] > 0
    printed = capsys.readouterr().out
    assert all(f"{name:9}{row['n_params']:>12,}" in printed for name, row in rows.items())
    assert 0 <= metrics["right_frac"] <= 1


def test_a_run_that_is_started_again_has_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "FILE_STEPS", 2)
    params = make_params(train_alone=False)
    run_stage(tmp_path / "a", params)
    folder = tmp_path / "b"
    inputs = write_inputs(folder)
    write = TeacherCache._write

    def stop_at_the_second(self: TeacherCache, number: int, steps: Any) -> None:
        if number == 1:
            raise OSError(28, "No space left on device")
        write(self, number, steps)

    monkeypatch.setattr(TeacherCache, "_write", stop_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        run(params, **inputs, scratch=folder / "scratch", out=folder / "out")
    computed: list[int] = []

    def count(self: TeacherCache, number: int, steps: Any) -> None:
        computed.append(number)
        write(self, number, steps)

    monkeypatch.setattr(TeacherCache, "_write", count)
    run(params, **inputs, scratch=folder / "scratch", out=folder / "out")
    assert computed == [1]
    name = "model.safetensors"
    assert (folder / "out" / name).read_bytes() == (tmp_path / "a" / "out" / name).read_bytes()


def test_the_cache_has_the_teacher_s_distribution_of_every_target(tmp_path: Path) -> None:
    params, inputs = make_params(temperature=2.0), write_inputs(tmp_path)
    model, tokenizer, _ = load_model(inputs["teacher"])
    talks = read_conversations(inputs["conversations"] / "train.parquet", tokenizer)
    batches = make_student_batches(params, TokenStream(inputs["shards"], "train"), talks, tokenizer)
    compute = choose_compute(model, precision="fp32", use_kernels=False, use_compile=False, log=print)
    store = TeacherCache(tmp_path / "cache", 4, 5, tokenizer.vocab_size)
    assert sum(store.build(batches, compute, model.head.weight, 2.0, store.list_share(0, 1))) == 4
    for step in range(4):
        batch = batches.at(step)
        soft = store.read(step, batch.targets, 0.5, 2.0)
        hidden = model(batch.ids, None, batch.documents)
        expected = (model.compute_logits(hidden) / 2.0).log_softmax(-1)
        is_target = batch.targets != IGNORE
        assert is_target.any()
        found = expected.gather(-1, soft.ids)
        assert torch.allclose(soft.log_probs[is_target], found[is_target], atol=0.01)
        assert torch.allclose(found[is_target], expected.topk(5).values[is_target], atol=1e-5)
        taught = TaughtBatches(batches, store, 0.5, 2.0)
        halves = [taught.at(step, rank=rank, n_ranks=2) for rank in range(2)]
        assert torch.equal(torch.cat([half.ids for half in halves]), batch.ids)
        assert torch.equal(torch.cat([half.soft.ids for half in halves if half.soft]), soft.ids)
        words = tokenizer.decode(batch.targets[is_target].tolist())
        if step >= 2:
            assert "12" in words


@pytest.mark.parametrize("n_steps", [1, 49, 50, 230])
def test_processes_share_all_steps(n_steps: int, tmp_path: Path) -> None:
    store = TeacherCache(tmp_path, n_steps, 4, 300)
    shares = [store.list_share(rank, 3) for rank in range(3)]
    assert sorted(step for share in shares for steps in share for step in steps) == list(range(n_steps))


def test_top_tokens_are_normalized_over_the_vocabulary() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(600, 8, generator=generator), torch.randn(30, 8, generator=generator)
    ids, log_probs = find_top_tokens(hidden, weight, 30, 1.0)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(600), atol=1e-5)
    assert np.array_equal(np.sort(ids.numpy(), axis=1), np.tile(np.arange(30), (600, 1)))


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_a_damaged_cache_is_refused(damage: str, tmp_path: Path) -> None:
    params, inputs = make_params(), write_inputs(tmp_path)
    model, tokenizer, _ = load_model(inputs["teacher"])
    talks = read_conversations(inputs["conversations"] / "train.parquet", tokenizer)
    batches = make_student_batches(params, TokenStream(inputs["shards"], "train"), talks, tokenizer)
    compute = choose_compute(model, precision="fp32", use_kernels=False, use_compile=False, log=print)
    store = TeacherCache(tmp_path / "cache", 2, 4, tokenizer.vocab_size)
    list(store.build(batches, compute, model.head.weight, 1.0, store.list_share(0, 1)))
    path = tmp_path / "cache" / "steps-000000.arrow"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-40] if damage == "truncated" else data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(UserError, match="is damaged"):
        store.read(0, batches.at(0).targets, 0.5, 1.0)
    list(store.build(batches, compute, model.head.weight, 1.0, store.list_share(0, 1)))
    store.read(0, batches.at(0).targets, 0.5, 1.0)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="top_k exceeds the teacher's vocabulary"):
        run_stage(tmp_path / "a", make_params(top_k=301))
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="take more disk"):
        run_stage(tmp_path / "b", make_params(top_k=200, training={"total_steps": 9000}, max_cache_mb=1))
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="exceeds the teacher's window"):
        run_stage(tmp_path / "c", make_params(model={**SMALL, "seq_len": 128}))
    other = train_bpe(iter(["another text " * 9, *TEXTS]), 290, "cl100k")
    config = ModelConfig(vocab_size=other.vocab_size, **SMALL)
    save_model(tmp_path / "other", Transformer(config), other, phase="sft")
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="another tokenizer than the shards"):
        run_stage(tmp_path / "d", make_params(), teacher=tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"\x10")
    (tmp_path / "e").mkdir()
    with pytest.raises(ValueError, match=r"can't be read"):
        run_stage(tmp_path / "e", make_params(), teacher=tmp_path / "other")


def test_more_steps_of_text_than_steps_are_refused() -> None:
    with pytest.raises(ParamError, match="text_steps"):
        make_params(text_steps=5)
