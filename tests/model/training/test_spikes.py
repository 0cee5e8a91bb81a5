"""Bad steps are detected, reported, undone and skipped, with the same decisions after a kill."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.batches import Batch, StreamBatches
from model.network.transformer import Transformer
from model.training.loop import DivergedError, StepRecord, train
from model.training.spikes import TrainingEvent, WatchSettings, compute_batch_number, find_problem, plan_rollback
from tests.model.conftest import TINY
from tests.model.training.test_loop import ROOT, StopError, are_equal, make_batches, make_settings


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=5))
def test_every_batch_is_used_once_or_skipped(troubles: list[tuple[int, int]]) -> None:
    events: list[TrainingEvent] = []
    for step, back_steps in troubles:
        events.append(plan_rollback(step, "bad", events, WatchSettings(back_steps=back_steps, max_skips=9)))
    used = [compute_batch_number(step, events) for step in range(60)]
    left_out = [number for event in events for number in event.left_out]
    assert used == sorted(set(used))
    assert not set(used) & set(left_out)
    assert len(left_out) == len(set(left_out))
    assert set(range(used[-1] + 1)) == set(used) | {number for number in left_out if number < used[-1]}


@given(st.integers(0, 40), st.integers(0, 10))
def test_steps_before_a_rollback_keep_their_batches(step: int, back_steps: int) -> None:
    first = plan_rollback(3, "bad", [], WatchSettings(max_skips=2))
    second = plan_rollback(step, "bad", [first], WatchSettings(back_steps=back_steps, max_skips=2))
    for each in range(second.resumed_step):
        assert compute_batch_number(each, [first]) == compute_batch_number(each, [first, second])


def test_non_finite_values_are_always_a_problem() -> None:
    for loss, grad_norm in ((float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan")), (1.0, float("inf"))):
        assert find_problem(loss, grad_norm, [], WatchSettings())
    assert not find_problem(1e9, 1e9, [1.0] * 100, WatchSettings())


@given(st.floats(0.5, 10), st.floats(0.001, 0.2), st.integers(0, 2**32 - 1))
def test_spikes_are_detected_and_noise_is_not(level: float, noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    losses = (level * (1 + noise * torch.randn(100, generator=generator).clamp(-3, 3))).tolist()
    watch = WatchSettings(max_robust_z=8.0)
    assert not find_problem(level * (1 + 3 * noise), 1.0, losses, watch)
    assert not find_problem(0.0, 1.0, losses, watch)  # a drop is not a spike
    assert "robust" in find_problem(level * (1 + 20 * noise), 1.0, losses, watch)
    assert not find_problem(level * 100, 1.0, losses[:50], watch)  # the window is not full yet


@pytest.mark.parametrize("bad", [{"max_robust_z": -1.0}, {"window_steps": 2}, {"back_steps": -1}, {"max_skips": -1}])
def test_invalid_settings_are_rejected(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"watch.{next(iter(bad))}"):
        WatchSettings(**bad)


class Garbled(StreamBatches):
    """Batches of which number 14 is bad: its targets are unrelated to its ids."""

    seen: list[int]

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        batch = super().at(step, rank=rank, n_ranks=n_ranks)
        self.seen = [*getattr(self, "seen", []), step]
        if step != 14:
            return batch
        generator = torch.Generator().manual_seed(1)
        return batch._replace(targets=torch.randint(200, 300, batch.targets.shape, generator=generator))


def make_garbled(folder: Path) -> Garbled:
    return Garbled(make_batches(folder).stream, seq_len=16, batch_rows=4, seed=1)


def make_watch(**changes: Any) -> WatchSettings:
    values: dict[str, Any] = {"max_robust_z": 3.0, "window_steps": 10, "max_skips": 2, **changes}
    return WatchSettings(**values)


def run(
    folder: Path, name: str, watch: WatchSettings, stop_after: int = 99, **changes: Any
) -> tuple[Transformer, list[StepRecord], list[TrainingEvent], list[int], list[str]]:
    model, data, events, messages = Transformer(TINY, seed=1), make_garbled(folder), [], []

    def stop(record: StepRecord) -> None:
        if record.step == stop_after:
            raise StopError

    history = train(
        model,
        data,
        settings=make_settings(**{"total_steps": 24, "watch": watch} | changes),
        checkpoints=folder / name,
        on_step=stop,
        on_event=events.append,
        on_message=messages.append,
        name_batch=lambda batch: f" (documents of batch {batch})",
    )
    return model, history, events, data.seen[1:], messages  # the first one is read for the fingerprint


def test_spike_without_skips_ends_the_run_and_reports_its_documents(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step 14: .*robust.* on rows .*documents of batch 14.*max_skips"):
        run(tmp_path, "run", make_watch(max_skips=0))


def test_skipping_a_bad_batch_equals_a_run_without_it(tmp_path: Path) -> None:
    model, history, events, seen, messages = run(tmp_path, "run", make_watch())
    assert [event.left_out for event in events] == [(14,)]
    assert seen == [*range(25)]
    assert any("documents of batch 14" in message for message in messages)

    class Without(Garbled):
        def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
            return super().at(step + (step >= 14), rank=rank, n_ranks=n_ranks)

    never, data = Transformer(TINY, seed=1), Without(make_batches(tmp_path).stream, seq_len=16, batch_rows=4, seed=1)
    theirs = train(never, data, settings=make_settings(total_steps=24), checkpoints=tmp_path / "never")
    assert are_equal(model, never)
    assert [record.loss_nats for record in history] == [record.loss_nats for record in theirs]


@pytest.mark.parametrize("checkpoint_every", [0, 1, 4])
def test_rollback_does_not_depend_on_the_checkpoint_interval(tmp_path: Path, checkpoint_every: int) -> None:
    model, history, events, seen, _ = run(tmp_path, "run", make_watch(back_steps=3), checkpoint_every=checkpoint_every)
    assert [(event.resumed_step, event.left_out) for event in events] == [(11, (11, 12, 13, 14))]
    assert [record.step for record in history] == [*range(1, 25)]
    assert [record.tokens for record in history] == [64 * step for step in range(1, 25)]
    assert seen[-13:] == [*range(15, 28)]
    other, _, _, _, _ = run(tmp_path, "other", make_watch(back_steps=3), checkpoint_every=5)
    assert are_equal(model, other)


@pytest.mark.parametrize("back_steps", [0, 3])
@pytest.mark.parametrize("stop_after", [13, 15, 20])
def test_resumed_run_makes_the_same_decisions(tmp_path: Path, back_steps: int, stop_after: int) -> None:
    watch = make_watch(back_steps=back_steps)
    whole, history, events, _, _ = run(tmp_path, "whole", watch)
    with pytest.raises(StopError):
        run(tmp_path, "parts", watch, stop_after=stop_after, checkpoint_every=3)
    model, again, again_events, _, _ = run(tmp_path, "parts", watch, checkpoint_every=3)
    assert are_equal(model, whole)
    assert again_events == events
    assert [(r.step, r.loss_nats, r.tokens) for r in again] == [(r.step, r.loss_nats, r.tokens) for r in history]


PROGRAM = """
import json, sys, time
from pathlib import Path
import torch
from model.machine.distributed import connect
from model.training.loop import train
from model.network.transformer import Transformer
from tests.model.conftest import TINY
from tests.model.training.test_spikes import make_garbled, make_settings, make_watch
folder, events = Path(sys.argv[1]), []
with connect("cpu", timeout_seconds=60) as world:
    model = Transformer(TINY, seed=1)
    time.sleep(world.rank)  # the main process may be far ahead: the others must not depend on what it writes
    run_settings = make_settings(total_steps=20, watch=make_watch(back_steps=3), checkpoint_every=4)
    history = train(model, make_garbled(folder), settings=run_settings, checkpoints=folder / "two", on_event=events.append,
                    world=world)
    result = {"events": [event.to_dict() for event in events], "losses": [record.loss_nats for record in history]}
    (folder / f"rank{world.rank}.json").write_text(json.dumps(result))
"""


@pytest.mark.slow
def test_two_ranks_roll_back_together(tmp_path: Path) -> None:
    make_batches(tmp_path)
    _, history, events, _, _ = run(tmp_path, "one", make_watch(back_steps=3), total_steps=20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
        )
        for rank in range(2)
    ]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    for rank in range(2):
        result = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert [TrainingEvent.from_dict(each).left_out for each in result["events"]] == [
            event.left_out for event in events
        ]
        assert result["losses"] == pytest.approx([record.loss_nats for record in history], rel=1e-3)


def test_run_with_too_many_bad_steps_ends(tmp_path: Path) -> None:
    model = Transformer(TINY)
    with torch.no_grad():
        model.embedding.weight[100] = float("nan")
    events: list[TrainingEvent] = []
    run_settings = make_settings(watch=make_watch())
    with pytest.raises(DivergedError, match="diverged"):
        train(
            model, make_batches(tmp_path), settings=run_settings, checkpoints=tmp_path / "run", on_event=events.append
        )
    assert len(events) == 2


def test_best_checkpoint_is_kept(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, 4.0])
    train(
        Transformer(TINY, seed=1),
        make_batches(tmp_path),
        settings=make_settings(total_steps=12, eval_every=3, keep_best=True, keep_every=5, keep_checkpoints=1),
        checkpoints=tmp_path / "run",
        evaluate=lambda model: {"bpb": next(losses)},
    )
    assert [path.name[-2:] for path in sorted((tmp_path / "run").iterdir())] == ["05", "06", "10", "12"]
