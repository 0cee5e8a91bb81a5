from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.network.config import ModelConfig
from model.network.folder import load_model, save_model
from model.tokenizer.tokenizer import Tokenizer
from model.training.checkpoints import Checkpoint, RetentionPolicy, load_newest, save_checkpoint
from tests.model.conftest import TINY, awake


def make_checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"a": torch.full((3,), float(step))}, {"b": torch.arange(4)}, "run", [{"step": step}])


def load(folder: Path, messages: list[str]) -> Checkpoint | None:
    return load_newest(folder, fingerprint="run", on_message=messages.append)


def test_newest_checkpoint_is_loaded_and_old_ones_are_deleted(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, make_checkpoint(step), RetentionPolicy(last=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]
    loaded = load(tmp_path, [])
    assert loaded is not None
    assert (loaded.step, loaded.history) == (10, [{"step": 10}])
    assert torch.equal(loaded.model["a"], torch.full((3,), 10.0))


def test_policy_keeps_last_best_every_nth_and_one_for_rollback(tmp_path: Path) -> None:
    for step in range(0, 23, 2):
        save_checkpoint(tmp_path, make_checkpoint(step), RetentionPolicy(last=2, every=10, best_step=6, back_steps=9))
    kept = [int(path.name[5:]) for path in sorted(tmp_path.iterdir())]
    assert kept == [0, 6, 10, 16, 20, 22]  # 10 for rollbacks, 16 to replace it
    assert load_newest_step(tmp_path, up_to=11) == 10
    assert load_newest_step(tmp_path, up_to=5) == 0


@given(st.sets(st.integers(1, 300), min_size=1), st.integers(1, 5), st.integers(0, 50))
def test_a_checkpoint_for_rollback_always_exists(steps: set[int], last: int, back_steps: int) -> None:
    """Whatever the steps: applied step by step as in a run, and the checkpoint is never much older than requested."""
    kept, gap = {0}, max(b - a for a, b in itertools.pairwise(sorted({0} | steps)))
    for step in sorted(steps):
        kept = RetentionPolicy(last=last, back_steps=back_steps).choose_kept(kept | {step})
        assert len(kept) <= last + 2
        target = max(step - back_steps, 0)
        assert target - max(each for each in kept if each <= target) <= back_steps + gap


def load_newest_step(folder: Path, *, up_to: int) -> int | None:
    checkpoint = load_newest(folder, fingerprint="run", on_message=print, up_to=up_to)
    return checkpoint.step if checkpoint else None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    path = save_checkpoint(tmp_path, make_checkpoint(2)) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if damage == "remove":
        path.unlink()
    messages: list[str] = []
    loaded = load(tmp_path, messages)
    assert loaded is not None
    assert loaded.step == 1
    assert "step-00000002" in messages[0]


def test_unfinished_folders_are_not_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "unfinished-00000009").mkdir()
    assert load(tmp_path, []) is None
    assert load(tmp_path / "nowhere", []) is None
    save_checkpoint(tmp_path, make_checkpoint(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_checkpoint_of_another_run_is_ignored(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    messages: list[str] = []
    assert load_newest(tmp_path, fingerprint="other", on_message=messages.append) is None
    assert "other settings" in messages[0]


@pytest.mark.parametrize("is_tied", [True, False])
def test_model_folder_round_trips(tmp_path: Path, tokenizer: Tokenizer, is_tied: bool) -> None:
    model = awake(ModelConfig.from_dict(TINY.to_dict() | {"vocab_size": 320, "is_tied": is_tied}))
    save_model(tmp_path, model, tokenizer, phase="sft")
    loaded, its_tokenizer, about = load_model(tmp_path)
    assert about == {"kind": "minigpt", "phase": "sft"}
    assert (loaded.config, its_tokenizer.sha256) == (model.config, tokenizer.sha256)
    ids = torch.arange(20)[None]
    assert torch.equal(loaded.compute_logits(loaded(ids)), model.compute_logits(model(ids)))


def test_broken_model_folder_is_reported(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        load_model(tmp_path)
    save_model(tmp_path, awake(), tokenizer, phase="pretrain")
    with pytest.raises(ValueError, match="two models"):  # 320 tokens, a model of 300
        load_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="can't be read"):
        load_model(tmp_path)
