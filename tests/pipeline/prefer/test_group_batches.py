"""GRPO raises the reward it is given, continues a killed run exactly, and computes nothing for groups without spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.compute import TorchCompute
from model.training.loop import StepRecord, TrainSettings, train
from model.training.optim import OptimSettings
from pipeline.prefer.group_batches import GroupBatches, RewardedPrompt, Sampler
from pipeline.prefer.params import Groups
from tests.pipeline.prefer.made_turns import CONFIG

STOP, WANTED = 2, 7
GROUPS = Groups(n_samples=6, n_epochs=1, temperature=1.0, max_new_tokens=12)


def reward_wanted(ids: Sequence[int]) -> float:
    return float(WANTED in ids)


def make_even_model() -> Transformer:
    """Return a model that writes each of its twelve tokens about as often as the others."""
    return Transformer(ModelConfig.from_dict(CONFIG.to_dict() | {"vocab_size": 12, "seq_len": 64}), seed=3)


def make_batches(
    model: Transformer, folder: Path, groups: Groups = GROUPS, reward: Callable[[Sequence[int]], float] = reward_wanted
) -> GroupBatches:
    questions = [RewardedPrompt(f"q{n}", [1, 3 + n, 4], reward) for n in range(8)]
    compute = TorchCompute(model, torch.float32, use_compile=False, log=lambda text: None)
    reference = TorchCompute(make_even_model(), torch.float32, use_compile=False, log=lambda text: None)
    return GroupBatches(
        Sampler(model, questions, groups, STOP, seed=1),
        batch_rows=4,
        micro_rows=2,
        folder=folder / "rounds",
        pad_id=0,
        compute_nats=compute.compute_nats,
        compute_reference=reference.compute_nats,
    )


def run(
    folder: Path, n_steps: int = 6, stop_at: int = 0, groups: Groups = GROUPS, lr: float = 0.01
) -> tuple[Transformer, list[StepRecord]]:
    model = make_even_model()
    rates = dict.fromkeys(("matrix_lr", "embedding_lr", "head_lr", "norm_lr"), lr)
    settings = TrainSettings(
        total_steps=n_steps,
        optim=OptimSettings(**rates),
        use_compile=False,
        precision="fp32",
        checkpoint_every=2,
        micro_rows=2,
    )

    def on_step(record: StepRecord) -> None:
        if stop_at and record.step == stop_at:
            raise InterruptedError

    batches = make_batches(model, folder, groups)
    history = train(model, batches, settings=settings, checkpoints=folder / "checkpoints", on_step=on_step)
    return model, history


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_resumed_equals_uninterrupted(n_epochs: int, tmp_path: Path) -> None:
    groups = GROUPS.model_copy(update={"n_epochs": n_epochs, "kl_weight": 0.1})
    whole, history = run(tmp_path / "whole", groups=groups)
    with pytest.raises(InterruptedError):
        run(tmp_path / "parts", stop_at=5, groups=groups)
    resumed, again = run(tmp_path / "parts", groups=groups)
    assert [record.objective for record in again] == [record.objective for record in history]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert history[0].objective["groups_with_spread_frac"] > 0


def test_a_round_within_its_epochs_needs_its_answers(tmp_path: Path) -> None:
    batches = make_batches(make_even_model(), tmp_path, GROUPS.model_copy(update={"n_epochs": 2}))
    with pytest.raises(ValueError, match="can't be continued"):
        batches.at(3)


def test_training_raises_the_reward(tmp_path: Path) -> None:
    _, history = run(tmp_path, n_steps=30)
    rewards = [record.objective["reward_frac"] for record in history]
    assert sum(rewards[-5:]) > sum(rewards[:5]) + 0.5


def test_groups_without_spread_have_no_rows(tmp_path: Path) -> None:
    messages: list[str] = []
    batches = make_batches(make_even_model(), tmp_path, reward=lambda ids: 0.0)
    batches._log = messages.append  # pyright: ignore[reportPrivateUsage]
    batch = batches.at(0)
    assert not (batch.targets >= 0).any()
    assert batches.objective.count_units(batch) == 4 * GROUPS.n_samples
    assert "nothing to learn" in messages[0]


def test_ranks_share_the_groups_of_one_process(tmp_path: Path) -> None:
    whole = make_batches(make_even_model(), tmp_path / "whole")
    whole.at(0)
    sums = [0.0, 0.0]
    for rank in range(2):
        part = make_batches(make_even_model(), tmp_path / "parts")
        part.at(0, rank=rank, n_ranks=2)
        assert part.objective.round is not None
        sums[0] += part.objective.round.sums["reward_frac"]
        sums[1] += part.objective.round.n_answers
    assert whole.objective.round is not None
    assert sums == [whole.objective.round.sums["reward_frac"], whole.objective.round.n_answers]


def test_unfinished_answers_have_no_reward_and_are_trained_against(tmp_path: Path) -> None:
    batches = make_batches(make_even_model(), tmp_path, reward=lambda ids: 1.0)
    batches.at(0)
    current = batches.objective.round
    assert current is not None
    assert current.sums["reward_frac"] == current.sums["finished_frac"] == current.sums["right_frac"]
    assert 0 < current.sums["finished_frac"] < current.n_answers
    assert (current.advantages[current.batch.targets >= 0] < 0).any()
