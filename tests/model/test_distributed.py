from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.distributed import World, connect
from tests.model.test_train import ROOT, run

PROGRAM = """
import sys
from pathlib import Path
import torch
from model.distributed import connect
from model.train import train
from model.transformer import Transformer
from tests.model.conftest import TINY
from tests.model.test_train import batches, settings
folder = Path(sys.argv[1])
with connect("cpu") as world:
    assert world.sum(1.0, world.rank) == (2.0, 1.0)
    tensors = [torch.ones(3), torch.full((2, 2), float(world.rank))]
    world.sum_tensors(tensors)
    assert tensors[0].tolist() == [2, 2, 2] and tensors[1].sum() == 4
    seen = []
    model = Transformer(TINY, seed=1)
    train(model, batches(folder), settings=settings(total_steps=4), checkpoints=folder / "two", on_step=seen.append, world=world)
    assert bool(seen) == world.is_main
    torch.save({n: p.detach() for n, p in model.named_parameters()}, folder / f"rank{world.rank}.pt")
"""


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with connect("cpu") as world:
        assert world == World()
        assert world.sum(1.5, 2) == (1.5, 2)
        world.barrier()
    with pytest.raises(ValueError, match="device"), connect("tpu"):
        pass


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    whole, _ = run(tmp_path, "one", total_steps=4)
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
    assert [child.wait(60) for child in children] == [0, 0]
    weights = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for name, parameter in whole.named_parameters():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], parameter.detach(), atol=1e-4, rtol=1e-3)
