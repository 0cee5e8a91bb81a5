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


def state(step: int) -> Checkpoint:
    return Checkpoint(step, {"a": torch.full((3,), float(step))}, {"b": torch.arange(4)}, "run", [{"step": step}])


def newest(folder: Path, messages: list[str]) -> Checkpoint | None:
    return load_newest(folder, fingerprint="run", on_message=messages.append)


def test_the_newest_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, state(step), RetentionPolicy(last=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]
    loaded = newest(tmp_path, [])
    assert loaded is not None
    assert (loaded.step, loaded.history) == (10, [{"step": 10}])
    assert torch.equal(loaded.model["a"], torch.full((3,), 10.0))


def test_the_policy_keeps_the_last_the_best_every_nth_and_one_to_go_back_to(tmp_path: Path) -> None:
    for step in range(0, 23, 2):
        save_checkpoint(tmp_path, state(step), RetentionPolicy(last=2, every=10, best_step=6, back_steps=9))
    kept = [int(path.name[5:]) for path in sorted(tmp_path.iterdir())]
    assert kept == [0, 6, 10, 16, 20, 22]  # 10 to go back to, 16 to take its place
    assert newest_of(tmp_path, up_to=11) == 10
    assert newest_of(tmp_path, up_to=5) == 0


@given(st.sets(st.integers(1, 300), min_size=1), st.integers(1, 5), st.integers(0, 50))
def test_there_is_always_one_to_go_back_to(steps: set[int], last: int, back_steps: int) -> None:
    """However they lie: kept step by step, as a run does, and never much farther back than asked for."""
    there, gap = {0}, max(b - a for a, b in itertools.pairwise(sorted({0} | steps)))
    for step in sorted(steps):
        there = RetentionPolicy(last=last, back_steps=back_steps).choose_kept(there | {step})
        assert len(there) <= last + 2
        target = max(step - back_steps, 0)
        assert target - max(each for each in there if each <= target) <= back_steps + gap


def newest_of(folder: Path, *, up_to: int) -> int | None:
    found = load_newest(folder, fingerprint="run", on_message=print, up_to=up_to)
    return found.step if found else None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_one_is_named_and_the_one_before_used(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, state(1))
    path = save_checkpoint(tmp_path, state(2)) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if damage == "remove":
        path.unlink()
    messages: list[str] = []
    loaded = newest(tmp_path, messages)
    assert loaded is not None
    assert loaded.step == 1
    assert "step-00000002" in messages[0]


def test_unfinished_ones_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "unfinished-00000009").mkdir()
    assert newest(tmp_path, []) is None
    assert newest(tmp_path / "nowhere", []) is None
    save_checkpoint(tmp_path, state(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_another_runs_checkpoint_is_not_used(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    messages: list[str] = []
    assert load_newest(tmp_path, fingerprint="other", on_message=messages.append) is None
    assert "other settings" in messages[0]


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_model_folder_round_trips(tmp_path: Path, tokenizer: Tokenizer, is_tied: bool) -> None:
    model = awake(ModelConfig.from_dict(TINY.to_dict() | {"vocab_size": 320, "is_tied": is_tied}))
    save_model(tmp_path, model, tokenizer, phase="sft")
    loaded, its_tokenizer, about = load_model(tmp_path)
    assert about == {"kind": "minigpt", "phase": "sft"}
    assert (loaded.config, its_tokenizer.sha256) == (model.config, tokenizer.sha256)
    ids = torch.arange(20)[None]
    assert torch.equal(loaded.compute_logits(loaded(ids)), model.compute_logits(model(ids)))


def test_a_broken_model_folder_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        load_model(tmp_path)
    save_model(tmp_path, awake(), tokenizer, phase="pretrain")
    with pytest.raises(ValueError, match="two models"):  # 320 tokens, a model of 300
        load_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="can't be read"):
        load_model(tmp_path)
