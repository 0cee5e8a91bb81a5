from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.machine.distributed import World, connect
from tests.model.ranks import run_ranks
from tests.model.training.test_loop import run

PROGRAM = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from model.machine.distributed import connect
from model.training.loop import train
from model.network.transformer import Transformer
from tests.model.conftest import TINY
from tests.model.training.test_loop import make_batches, make_settings
folder = Path(sys.argv[1])
with connect("cpu") as world:
    n, rank = world.n_ranks, world.rank
    assert world.sum(1.0, rank) == (n, n * (n - 1) / 2)
    tensors = [torch.ones(3), torch.full((2, 2), float(rank))]
    world.sum_tensors(tensors)
    assert tensors[0].tolist() == [n] * 3 and tensors[1].sum() == 4 * n * (n - 1) / 2
    assert world.broadcast([3.5, 2] if rank == 0 else [rank]) == [3.5, 2]
    assert world.broadcast([] if rank == 0 else [rank]) == []
    parts = world.exchange([torch.full((rank + 1,), 10.0 * rank + to) for to in range(n)], range(1, n + 1))
    assert [part.tolist() for part in parts] == [[10.0 * source + rank] * (source + 1) for source in range(n)]
    seen = []
    model = Transformer(TINY, seed=1)
    train(model, make_batches(folder), settings=make_settings(total_steps=4), checkpoints=folder / "two", on_step=seen.append,
          world=world)
    assert bool(seen) == world.is_main
    save_file({n: p.detach().contiguous() for n, p in model.named_parameters()}, folder / f"rank{world.rank}.safetensors")
"""


def test_one_process_is_a_whole_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with connect("cpu") as world:
        assert world == World()
        assert world.sum(1.5, 2) == (1.5, 2)
        assert world.broadcast([1, 2]) == [1, 2]
        world.barrier()
    with connect("cpu", sharding="full") as world:
        assert not world.is_sharded  # sharding needs several processes
    with pytest.raises(ValueError, match="sharding must be none or full"), connect("cpu", sharding="half"):
        pass
    with pytest.raises(ValueError, match="device"), connect("tpu"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_several_ranks_equal_one(tmp_path: Path, n_ranks: int) -> None:
    """Up to the order of sums: AdamW divides a gradient by its magnitude, so that the last digit of a small gradient becomes
    the last digit of an update."""
    whole, _ = run(tmp_path, "one", total_steps=4)
    run_ranks(PROGRAM, n_ranks, tmp_path)
    weights = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(n_ranks)]
    for name, parameter in whole.named_parameters():
        assert all(torch.equal(weights[0][name], each[name]) for each in weights)
        torch.testing.assert_close(weights[0][name], parameter.detach(), atol=1e-4, rtol=1e-3)


DIFFERENT = """
import os
from model.machine.distributed import connect
try:
    with connect("cpu", sharding="full" if os.environ["RANK"] == "1" else "none"):
        raise SystemExit("different values were accepted")
except ValueError as error:
    assert "full in 1 of 2" in str(error)
"""


@pytest.mark.slow
def test_different_sharding_is_rejected() -> None:
    run_ranks(DIFFERENT, 2)
