"""Sharded training over 2 and 4 real processes equals training in one process, and their checkpoints are interchangeable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from model.machine.distributed import count_rows_by_rank
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.loop import StepRecord, TrainSettings, train
from model.training.saver import read_checkpoint
from model.training.sharded_checkpoint import name_digests, read_whole, unwrap_errors
from tests.model.conftest import TINY
from tests.model.ranks import run_ranks
from tests.model.training.test_loop import StopError, make_batches, make_settings
from tests.model.training.test_spikes import make_garbled, make_watch

# Sizes that four ranks can't divide evenly: 301 rows are 76, 76, 76 and 73; 66 are 17, 17, 17 and 15.
ODD = ModelConfig.from_dict(TINY.to_dict() | {"vocab_size": 301, "d_ff": 66})

# Starting the interpreters dominates the cost, so each program runs all checks for its number of ranks.
PROGRAM = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from model.network.folder import get_model_tensors
from model.training.checkpoints import RetentionPolicy, load_newest
from model.machine.distributed import connect, get_local
from model.training.sharded_checkpoint import make_reader, save_sharded
from model.training.sharding import ShardedCompute, gather_weights
from model.training.loop import train
from model.network.transformer import Transformer
from tests.model.training.test_sharding import ODD, evaluate_logit, make_run_settings
from tests.model.training.test_loop import make_batches
from tests.model.training.test_spikes import make_garbled

folder, messages, events = Path(sys.argv[1]), [], []
with connect("cpu", sharding="full", timeout_seconds=200) as world:
    name = f"ranks{world.n_ranks}"

    def run(data, checkpoints, **changes):
        model = Transformer(ODD, seed=1)
        history = train(
            model, data, settings=make_run_settings(**changes), checkpoints=folder / checkpoints, evaluate=evaluate_logit,
            on_message=messages.append, on_event=events.append, world=world,
        )
        weights = {key: weight.clone() for key, weight in gather_weights(model, world)}
        assert bool(weights) == world.is_main
        held = sum(get_local(parameter).numel() for parameter in model.parameters())
        assert held < 1.1 * ODD.n_parameters / world.n_ranks, held
        if world.is_main:
            save_file(weights, folder / f"{checkpoints}.safetensors")
        return history

    history = run(make_batches(folder), name)
    losses = [[record.loss_nats, record.grad_norm] for record in history]
    evaluations = [dict(record.evaluation) for record in history if record.evaluation]
    run(make_batches(folder), name + "-parts", micro_rows=1, max_grad_norm=0.0)

    if world.is_main:  # damage the newest one in a file that only one rank verifies
        path = sorted((folder / name / "step-00000006").glob("shard-*"))[-1]
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    world.barrier()
    del messages[:]
    (folder / f"{name}.safetensors").rename(folder / f"{name}-first.safetensors") if world.is_main else None
    again = run(make_batches(folder), name)
    assert [record.loss_nats for record in again] == [record.loss_nats for record in history]
    log = list(messages)

    if world.n_ranks == 2:
        run(make_garbled(folder), "spike", total_steps=20, watch=True, checkpoint_every=4)
    else:
        run(make_batches(folder), "stopped")  # resumes from a checkpoint that one process wrote, not sharded
        like = Transformer(ODD)
        ShardedCompute(like, world, precision="fp32", use_compile=False, log=print)
        fingerprint = json.loads((folder / "ranks2/step-00000006/state.json").read_text())["fingerprint"]
        saved = load_newest(
            folder / "ranks2", fingerprint=fingerprint, on_message=print, world=world, read=make_reader(get_model_tensors(like))
        )
        save_sharded(folder / "copy", saved, RetentionPolicy(), world)  # written by two ranks, rewritten by four
    if world.is_main:
        about = {"losses": losses, "evaluations": evaluations, "log": log, "events": [e.to_dict() for e in events]}
        (folder / f"{name}.json").write_text(json.dumps(about))
"""


def make_run_settings(*, watch: bool = False, **changes: object) -> TrainSettings:
    values = {"total_steps": 6, "checkpoint_every": 3, "eval_every": 3, "max_grad_norm": 2.0, **changes}
    return make_settings(**values, watch=make_watch(back_steps=3)) if watch else make_settings(**values)


def evaluate_logit(model: Transformer) -> dict[str, float]:
    """Return one logit, which requires the whole model."""
    ids = torch.arange(16)[None]
    with torch.no_grad():
        return {"logit": float(model.compute_logits(model(ids))[0, -1, 5])}


def run_alone(folder: Path, name: str, stop_after: int = 99) -> tuple[Transformer, list[StepRecord], list[str]]:
    """Run the same training in one process."""
    model, messages = Transformer(ODD, seed=1), []

    def stop(record: StepRecord) -> None:
        if record.step == stop_after:
            raise StopError

    history = train(
        model,
        make_batches(folder),
        settings=make_run_settings(),
        checkpoints=folder / name,
        evaluate=evaluate_logit,
        on_step=stop,
        on_message=messages.append,
    )
    return model, history, messages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which 2 and 4 ranks have trained."""
    place = tmp_path_factory.mktemp("sharded")
    make_batches(place)
    with pytest.raises(StopError):
        run_alone(place, "stopped", stop_after=4)
    for n_ranks in (2, 4):
        run_ranks(PROGRAM, n_ranks, place)
    return place


def assert_close(ours: dict[str, Tensor], model: Transformer) -> None:
    """Compare weights with a tolerance: the order of sums differs, and the first steps of AdamW and Muon divide gradients by their
    own magnitude, so that the last digit of a small gradient becomes the last digit of an update. Measured: 7e-5 after six
    steps."""
    theirs = {name: parameter.detach() for name, parameter in model.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=3e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_sharded_ranks_train_as_one_process(folder: Path, n_ranks: int) -> None:
    model, history, _ = run_alone(folder, "one")
    sharded = json.loads((folder / f"ranks{n_ranks}.json").read_text())
    for (loss, grad_norm), record in zip(sharded["losses"], history, strict=True):
        assert loss == pytest.approx(record.loss_nats, rel=1e-5)
        assert grad_norm == pytest.approx(record.grad_norm, rel=1e-3)
    expected = [record.evaluation["logit"] for record in history if record.evaluation]
    assert [each["logit"] for each in sharded["evaluations"]] == pytest.approx(expected, abs=1e-3)
    assert_close(load_file(folder / f"ranks{n_ranks}-first.safetensors"), model)


@pytest.mark.slow
def test_sharded_ranks_accumulate_as_one_process(folder: Path) -> None:
    model = Transformer(ODD, seed=1)
    accumulating = make_run_settings(micro_rows=1, max_grad_norm=0.0)
    train(model, make_batches(folder), settings=accumulating, checkpoints=folder / "parts", evaluate=evaluate_logit)
    for n_ranks in (2, 4):
        assert_close(load_file(folder / f"ranks{n_ranks}-parts.safetensors"), model)


@pytest.mark.slow
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_damaged_checkpoint_falls_back_to_the_same_bits(folder: Path, n_ranks: int) -> None:
    """The ranks compare all losses themselves; this compares log messages and weights."""
    log = json.loads((folder / f"ranks{n_ranks}.json").read_text())["log"]
    damaged = [text for text in log if "step-00000006 is damaged" in text]
    assert len(damaged) == 1
    assert f"shard-0000{n_ranks}" in damaged[0]
    assert any("after step 3" in text for text in log)
    first, again = (load_file(folder / f"ranks{n_ranks}{which}.safetensors") for which in ("-first", ""))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_checkpoint_of_two_ranks_is_read_exactly_by_four_and_by_one(folder: Path) -> None:
    path = folder / "ranks2" / "step-00000006"
    shards = [load_file(each) for each in sorted(path.glob("shard-*.safetensors"))]
    assert len(shards) == 2
    names = {name for shard in shards for name in shard}
    by_hand = {
        name: rows[0] if name.startswith("step.") else torch.cat(rows)
        for name in names
        for rows in [[shard[name] for shard in shards if name in shard]]
    }
    assert {name.partition(".")[0] for name in names} >= {
        "embedding",
        "layers",
        "momentum",
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
    through_four = read_checkpoint(folder / "copy" / "step-00000006")
    assert len(list((folder / "copy" / "step-00000006").glob("shard-*"))) == 4
    for tensors in (read_whole(path), through_four):
        assert tensors.keys() == by_hand.keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, by_hand[name]), name
            assert tensor.dtype == by_hand[name].dtype
    model, _, messages = run_alone(folder, "ranks2")  # the run is finished
    assert any("after step 6" in text for text in messages)
    weights = load_file(folder / "ranks2.safetensors")
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())


@pytest.mark.slow
def test_run_resumes_with_or_without_sharding(folder: Path, tmp_path: Path) -> None:
    whole, _, _ = run_alone(folder, "whole")
    assert_close(load_file(folder / "stopped.safetensors"), whole)
    shutil.copytree(folder / "ranks4" / "step-00000003", tmp_path / "step-00000003")
    model, history, messages = run_alone(folder, str(tmp_path))
    assert any("after step 3" in text for text in messages)
    assert len(history) == 6
    assert_close({name: parameter.detach() for name, parameter in model.named_parameters()}, whole)


@pytest.mark.slow
def test_sharded_ranks_roll_back_together(folder: Path) -> None:
    model, events = Transformer(ODD, seed=1), []
    spike_settings = make_run_settings(total_steps=20, watch=True, checkpoint_every=4)
    train(
        model,
        make_garbled(folder),
        settings=spike_settings,
        checkpoints=folder / "alone",
        evaluate=evaluate_logit,
        on_event=events.append,
    )
    logged_events = json.loads((folder / "ranks2.json").read_text())["events"]
    assert [event["left_out"] for event in logged_events] == [[11, 12, 13, 14]]
    assert [list(event.left_out) for event in events] == [[11, 12, 13, 14]]
    assert_close(load_file(folder / "spike.safetensors"), model)


def test_folder_that_is_not_shared_is_reported(tmp_path: Path) -> None:
    for rank in (1, 3):
        (tmp_path / f"shard-{rank:05d}-model-00001-of-00001.safetensors").touch()
    digests = bytes([1] * 32 + [0] * 32 + [3] * 32)
    digests_by_name = name_digests(tmp_path, digests, 2)  # the second rank holds no rows
    assert [digest[:2] for _, digest in sorted(digests_by_name.items())] == ["01", "03"]
    with pytest.raises(ValueError, match="all machines share: 2 of 3 files"):
        name_digests(tmp_path, digests, 3)


@given(st.integers(1, 40), st.integers(1, 9))
def test_rows_are_divided_as_by_torch_chunk(n_rows: int, n_ranks: int) -> None:
    """FSDP2 uses torch.chunk, which returns fewer parts if no rows remain."""
    parts = [len(part) for part in torch.arange(n_rows).chunk(n_ranks)]
    assert count_rows_by_rank(n_rows, n_ranks) == parts + [0] * (n_ranks - len(parts))


@pytest.mark.parametrize("cause", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
def test_error_of_one_rank_is_unwrapped(cause: BaseException) -> None:
    from torch.distributed.checkpoint.api import CheckpointException  # half a second

    lost_peer = RuntimeError("Connection closed by peer")
    failures: dict[int, Any] = {0: (cause if isinstance(cause, Exception) else lost_peer, None), 1: (cause, None)}
    with pytest.raises(type(cause)), unwrap_errors():
        raise CheckpointException("wrapped", failures)
