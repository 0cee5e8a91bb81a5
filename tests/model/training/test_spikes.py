"""Bad steps: found, named, undone and passed by, and decided the same again after a kill."""

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
from tests.model.training.test_loop import ROOT, StopError, batches, same, settings


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=5))
def test_every_batch_is_used_once_or_left_out(troubles: list[tuple[int, int]]) -> None:
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


def test_what_is_no_number_is_always_a_problem() -> None:
    for loss, grad_norm in ((float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan")), (1.0, float("inf"))):
        assert find_problem(loss, grad_norm, [], WatchSettings())
    assert not find_problem(1e9, 1e9, [1.0] * 100, WatchSettings())


@given(st.floats(0.5, 10), st.floats(0.001, 0.2), st.integers(0, 2**32 - 1))
def test_a_spike_stands_out_of_noise_and_noise_does_not(level: float, noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    losses = (level * (1 + noise * torch.randn(100, generator=generator).clamp(-3, 3))).tolist()
    how = WatchSettings(max_robust_z=8.0)
    assert not find_problem(level * (1 + 3 * noise), 1.0, losses, how)
    assert not find_problem(0.0, 1.0, losses, how)  # a fall is no spike
    assert "robust" in find_problem(level * (1 + 20 * noise), 1.0, losses, how)
    assert not find_problem(level * 100, 1.0, losses[:50], how)  # too early to tell


@pytest.mark.parametrize("bad", [{"max_robust_z": -1.0}, {"window_steps": 2}, {"back_steps": -1}, {"max_skips": -1}])
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"watch.{next(iter(bad))}"):
        WatchSettings(**bad)


class Garbled(StreamBatches):
    """Batch 14 is unlike all others: its targets have nothing to do with its ids."""

    seen: list[int]

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        batch = super().at(step, rank=rank, n_ranks=n_ranks)
        self.seen = [*getattr(self, "seen", []), step]
        if step != 14:
            return batch
        generator = torch.Generator().manual_seed(1)
        return batch._replace(targets=torch.randint(200, 300, batch.targets.shape, generator=generator))


def garbled(folder: Path) -> Garbled:
    return Garbled(batches(folder).stream, seq_len=16, batch_rows=4, seed=1)


def watching(**changes: Any) -> WatchSettings:
    values: dict[str, Any] = {"max_robust_z": 3.0, "window_steps": 10, "max_skips": 2, **changes}
    return WatchSettings(**values)


def run(
    folder: Path, name: str, watch: WatchSettings, stop_after: int = 99, **changes: Any
) -> tuple[Transformer, list[StepRecord], list[TrainingEvent], list[int], list[str]]:
    model, data, events, messages = Transformer(TINY, seed=1), garbled(folder), [], []

    def stop(record: StepRecord) -> None:
        if record.step == stop_after:
            raise StopError

    history = train(
        model,
        data,
        settings=settings(**{"total_steps": 24, "watch": watch} | changes),
        checkpoints=folder / name,
        on_step=stop,
        on_event=events.append,
        on_message=messages.append,
        name_batch=lambda batch: f" (documents of batch {batch})",
    )
    return model, history, events, data.seen[1:], messages  # the first is the fingerprint's


def test_a_spike_without_leave_ends_the_run_and_names_its_documents(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step 14: .*robust.* on rows .*documents of batch 14.*max_skips"):
        run(tmp_path, "run", watching(max_skips=0))


def test_a_bad_batch_is_left_out_as_if_it_had_never_been(tmp_path: Path) -> None:
    model, history, events, seen, messages = run(tmp_path, "run", watching())
    assert [event.left_out for event in events] == [(14,)]
    assert seen == [*range(25)]
    assert any("documents of batch 14" in message for message in messages)

    class Without(Garbled):
        def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
            return super().at(step + (step >= 14), rank=rank, n_ranks=n_ranks)

    never, data = Transformer(TINY, seed=1), Without(batches(tmp_path).stream, seq_len=16, batch_rows=4, seed=1)
    theirs = train(never, data, settings=settings(total_steps=24), checkpoints=tmp_path / "never")
    assert same(model, never)
    assert [record.loss_nats for record in history] == [record.loss_nats for record in theirs]


@pytest.mark.parametrize("checkpoint_every", [0, 1, 4])
def test_going_back_does_not_depend_on_where_checkpoints_lie(tmp_path: Path, checkpoint_every: int) -> None:
    model, history, events, seen, _ = run(tmp_path, "run", watching(back_steps=3), checkpoint_every=checkpoint_every)
    assert [(event.resumed_step, event.left_out) for event in events] == [(11, (11, 12, 13, 14))]
    assert [record.step for record in history] == [*range(1, 25)]
    assert [record.tokens for record in history] == [64 * step for step in range(1, 25)]
    assert seen[-13:] == [*range(15, 28)]
    other, _, _, _, _ = run(tmp_path, "other", watching(back_steps=3), checkpoint_every=5)
    assert same(model, other)


@pytest.mark.parametrize("back_steps", [0, 3])
@pytest.mark.parametrize("stop_after", [13, 15, 20])
def test_a_stopped_run_decides_the_same_again(tmp_path: Path, back_steps: int, stop_after: int) -> None:
    how = watching(back_steps=back_steps)
    whole, history, events, _, _ = run(tmp_path, "whole", how)
    with pytest.raises(StopError):
        run(tmp_path, "parts", how, stop_after=stop_after, checkpoint_every=3)
    model, again, again_events, _, _ = run(tmp_path, "parts", how, checkpoint_every=3)
    assert same(model, whole)
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
from tests.model.training.test_spikes import garbled, settings, watching
folder, events = Path(sys.argv[1]), []
with connect("cpu", timeout_seconds=60) as world:
    model = Transformer(TINY, seed=1)
    time.sleep(world.rank)  # the main process may be far ahead: nobody may find what it writes
    how = settings(total_steps=20, watch=watching(back_steps=3), checkpoint_every=4)
    history = train(model, garbled(folder), settings=how, checkpoints=folder / "two", on_event=events.append, world=world)
    said = {"events": [event.to_dict() for event in events], "losses": [record.loss_nats for record in history]}
    (folder / f"rank{world.rank}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_two_ranks_go_back_together(tmp_path: Path) -> None:
    batches(tmp_path)
    _, history, events, _, _ = run(tmp_path, "one", watching(back_steps=3), total_steps=20)
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
        said = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert [TrainingEvent.from_dict(each).left_out for each in said["events"]] == [
            event.left_out for event in events
        ]
        assert said["losses"] == pytest.approx([record.loss_nats for record in history], rel=1e-3)


def test_a_run_that_stays_bad_ends(tmp_path: Path) -> None:
    model = Transformer(TINY)
    with torch.no_grad():
        model.embedding.weight[100] = float("nan")
    events: list[TrainingEvent] = []
    how = settings(watch=watching())
    with pytest.raises(DivergedError, match="diverged"):
        train(model, batches(tmp_path), settings=how, checkpoints=tmp_path / "run", on_event=events.append)
    assert len(events) == 2


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    figures = iter([3.0, 1.0, 2.0, 4.0])
    train(
        Transformer(TINY, seed=1),
        batches(tmp_path),
        settings=settings(total_steps=12, eval_every=3, keep_best=True, keep_every=5, keep_checkpoints=1),
        checkpoints=tmp_path / "run",
        evaluate=lambda model: {"bpb": next(figures)},
    )
    assert [path.name[-2:] for path in sorted((tmp_path / "run").iterdir())] == ["05", "06", "10", "12"]
