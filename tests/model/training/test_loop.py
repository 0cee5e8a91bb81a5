from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model.data.batches import Batch, StreamBatches, TokenStream
from model.network.loss import compute_token_nats
from model.network.transformer import Transformer
from model.training.loop import DivergedError, StepRecord, TrainSettings, train
from model.training.optim import OptimSettings
from tests.model.conftest import TINY, write_shards

ROOT = Path(__file__).parents[3]


def make_settings(**changes: object) -> TrainSettings:
    values = {"total_steps": 12, "optim": OptimSettings(weight_decay=0.1), "use_compile": False, "precision": "fp32"}
    return TrainSettings(**values | changes)


def make_batches(folder: Path, batch_rows: int = 4) -> StreamBatches:
    if not (folder / "shards").is_dir():
        write_shards(folder / "shards")
    return StreamBatches(TokenStream(folder / "shards", "train"), seq_len=16, batch_rows=batch_rows, seed=1)


def run(folder: Path, name: str = "run", **changes: object) -> tuple[Transformer, list[StepRecord]]:
    model = Transformer(TINY, seed=1)
    records = train(model, make_batches(folder), settings=make_settings(**changes), checkpoints=folder / name)
    return model, records


def are_equal(first: Transformer, second: Transformer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


class StopError(Exception):
    pass


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_equals_uninterrupted(tmp_path: Path, precision: str) -> None:
    whole, records = run(tmp_path, "whole", precision=precision)

    def stop_at_seven(record: StepRecord) -> None:
        if record.step == 7:
            raise StopError

    model, parts = Transformer(TINY, seed=1), tmp_path / "parts"
    run_settings = make_settings(precision=precision, checkpoint_every=3)
    with pytest.raises(StopError):
        train(model, make_batches(tmp_path), settings=run_settings, checkpoints=parts, on_step=stop_at_seven)
    messages: list[str] = []
    model = Transformer(TINY, seed=1)
    again = train(model, make_batches(tmp_path), settings=run_settings, checkpoints=parts, on_message=messages.append)
    assert any("after step 6" in message for message in messages)
    assert are_equal(model, whole)
    losses = [[(r.step, r.loss_nats, r.tokens, r.lr) for r in each] for each in (again, records)]
    assert losses[0] == losses[1]


def test_finished_run_is_not_repeated(tmp_path: Path) -> None:
    first, records = run(tmp_path)
    second, again = run(tmp_path)
    assert are_equal(first, second)
    assert again == records


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    _, records = run(tmp_path, total_steps=120, precision="auto")
    assert records[0].loss_nats == pytest.approx(5.7, abs=0.3)  # ln 300
    assert records[-1].loss_nats < 3.5
    assert records[-1].tokens == 120 * 4 * 16


def test_accumulated_gradients_equal_one_batch(tmp_path: Path) -> None:
    at_once, _ = run(tmp_path, "a")
    in_parts, _ = run(tmp_path, "b", micro_rows=1)
    for mine, other in zip(in_parts.parameters(), at_once.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=2e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="micro_rows"):
        run(tmp_path, "c", micro_rows=3)


class Weighted(StreamBatches):
    """Rows with different numbers of targets, each target with a weight."""

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        batch = super().at(step, rank=rank, n_ranks=n_ranks)
        targets = batch.targets.clone()
        for row in range(1, len(targets)):
            targets[row, : 5 * row] = -100
        weights = torch.rand(targets.shape, generator=torch.Generator().manual_seed(step)) - 0.2
        return batch._replace(targets=targets, weights=weights)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weighted_loss_is_a_mean_over_the_targets_of_all_micro_batches(tmp_path: Path, precision: str) -> None:
    """A mean of the micro-batches' means would weight a target by the length of its row (transformers, issue 34191)."""
    batches = Weighted(make_batches(tmp_path).stream, seq_len=16, batch_rows=4, seed=1)
    losses: list[list[float]] = []
    for micro_rows in (0, 1):
        settings = make_settings(total_steps=3, micro_rows=micro_rows, precision=precision)
        records = train(Transformer(TINY, seed=1), batches, settings=settings, checkpoints=tmp_path / f"{micro_rows}")
        losses.append([record.loss_nats for record in records])
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    first, model = batches.at(0), Transformer(TINY, seed=1)
    assert first.weights is not None
    nats = compute_token_nats(model(first.ids), model.head.weight, first.targets)
    expected = (nats * first.weights).sum() / (first.targets >= 0).sum()
    assert losses[0][0] == pytest.approx(expected.item(), rel=1e-2)


def test_run_resumes_with_another_kind_of_activation_checkpointing(tmp_path: Path) -> None:
    whole, _ = run(tmp_path, "whole", activation_checkpointing="full")
    changed, stopped = Transformer(TINY, seed=1), make_settings(checkpoint_every=6)

    def stop(record: StepRecord) -> None:
        if record.step == 7:
            raise StopError

    with pytest.raises(StopError):
        train(changed, make_batches(tmp_path), settings=stopped, checkpoints=tmp_path / "parts", on_step=stop)
    messages: list[str] = []
    run_settings = make_settings(activation_checkpointing="selective")
    changed = Transformer(TINY, seed=1)
    train(
        changed,
        make_batches(tmp_path),
        settings=run_settings,
        checkpoints=tmp_path / "parts",
        on_message=messages.append,
    )
    assert any("continuing after step 6" in message for message in messages)
    assert are_equal(changed, whole)


def test_evaluation_is_in_the_history(tmp_path: Path) -> None:
    model = Transformer(TINY, seed=1)
    seen: list[StepRecord] = []
    train(
        model,
        make_batches(tmp_path),
        settings=make_settings(eval_every=5),
        checkpoints=tmp_path / "run",
        evaluate=lambda model: {"bpb": 2.0},
        on_step=seen.append,
    )
    assert [record.step for record in seen if record.evaluation] == [5, 10, 12]
    assert StepRecord.from_dict(seen[4].to_dict()) == seen[4]
    assert seen[4].to_dict()["bpb"] == 2.0


class Poisoned(StreamBatches):
    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        batch = super().at(step, rank=rank, n_ranks=n_ranks)
        return batch._replace(targets=torch.full_like(batch.targets, -100)) if step == 3 else batch


def test_batch_without_targets_is_reported(tmp_path: Path) -> None:
    whole = make_batches(tmp_path)
    poisoned = Poisoned(whole.stream, seq_len=16, batch_rows=4, seed=1)
    with pytest.raises(DivergedError, match=r"step 3 .*rows"):
        train(Transformer(TINY), poisoned, settings=make_settings(), checkpoints=tmp_path / "run")


def test_divergence_is_reported(tmp_path: Path) -> None:
    model = Transformer(TINY)
    with torch.no_grad():
        model.embedding.weight[100] = float("nan")
    with pytest.raises(DivergedError, match=r"diverged at step \d+.*rows"):
        train(model, make_batches(tmp_path), settings=make_settings(), checkpoints=tmp_path / "run")


def test_missing_compiler_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.compute.find_compiler_problem", lambda device: "no C++ compiler was found")
    messages: list[str] = []
    run_settings = make_settings(use_compile=True, total_steps=1)
    train(
        Transformer(TINY),
        make_batches(tmp_path),
        settings=run_settings,
        checkpoints=tmp_path / "run",
        on_message=messages.append,
    )
    assert messages == ["training runs without torch.compile: no C++ compiler was found"]


def test_missing_kernels_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.compute.find_kernel_problem", lambda: "torch does not use GNU OpenMP here")
    messages: list[str] = []
    run_settings = make_settings(precision="bf16", total_steps=1)
    train(
        Transformer(TINY),
        make_batches(tmp_path),
        settings=run_settings,
        checkpoints=tmp_path / "run",
        on_message=messages.append,
    )
    assert messages == [
        "training runs without the CPU kernels: torch does not use GNU OpenMP here",
        "training runs without torch.compile: switched off",
    ]


def test_compiler_failure_in_the_first_step_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = run(tmp_path, "plain", total_steps=2)

    def fail(*args: object, **options: object) -> object:
        raise torch._dynamo.exc.TorchDynamoException("broken")

    monkeypatch.setattr("model.training.compute.find_compiler_problem", lambda device: None)
    monkeypatch.setattr(torch, "compile", lambda function, **how: fail)
    messages: list[str] = []
    model, run_settings = Transformer(TINY, seed=1), make_settings(use_compile=True, total_steps=2)
    train(
        model, make_batches(tmp_path), settings=run_settings, checkpoints=tmp_path / "run", on_message=messages.append
    )
    assert messages == ["training runs without torch.compile: it failed here (broken)"]
    assert are_equal(model, plain)


@pytest.mark.parametrize(
    "bad",
    [
        {"total_steps": 0},
        {"max_grad_norm": -1.0},
        {"precision": "fp8"},
        {"decay_frac": 2.0},
        {"activation_checkpointing": "some"},
    ],
)
def test_invalid_settings_are_rejected(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        make_settings(**bad)


PROGRAM = """
import sys, time
from pathlib import Path
from model.network.transformer import Transformer
from model.training.loop import train
from tests.model.conftest import TINY
from tests.model.training.test_loop import make_batches, make_settings
folder = Path(sys.argv[1])
def slow_down(record):
    print(record.step, flush=True)
    time.sleep(0.05)
run_settings = make_settings(checkpoint_every=2)
train(Transformer(TINY, seed=1), make_batches(folder), settings=run_settings, checkpoints=folder / "killed", on_step=slow_down)
"""


@pytest.mark.slow
def test_sigkill_changes_nothing(tmp_path: Path) -> None:
    whole, _ = run(tmp_path, "whole")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 6:
            pass
        time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "step-00000012").exists()
    model, records = run(tmp_path, "killed", checkpoint_every=2)
    assert are_equal(model, whole)
    assert [record.step for record in records] == list(range(1, 13))
