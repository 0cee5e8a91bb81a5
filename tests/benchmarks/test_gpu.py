"""The arithmetic of the GPU benchmark, and the whole benchmark with a tiny model on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import find_benchmarks, main, show
from benchmarks.peers.gpu_peers import PeerSpeed, nanochat, read_torchtitan
from benchmarks.training import gpu
from benchmarks.training.gpu import Work, compare, compute_flops_per_token, mfu
from model.network.config import ModelConfig
from tests.conftest import ROOT, read_yaml

CPU = torch.device("cpu")
TINY = Work(
    "tiny",
    ModelConfig(vocab_size=64, seq_len=16, n_layer=1, n_head=2, n_kv_head=2, d_model=32, d_head=16, d_ff=64),
    batch_rows=4,
    micro_rows=2,
)


def test_flops_are_six_a_weight_and_token_and_the_attentions() -> None:
    weights = 64 * 32 + 4 * 32 * 32 + 3 * 32 * 64
    full, causal = compute_flops_per_token(TINY.config)
    assert full == 6 * weights + 12 * 1 * 2 * 16 * 16
    assert full - causal == 6 * 2 * 16 * 16


def test_mfu_is_the_share_of_the_peak() -> None:
    assert mfu(1e5, 4e9, peak=1000.0) == pytest.approx(40.0)
    # nanochat's own figures: 12 layers of 768 reach 41 % of 989 TFLOP/s, which is some 0.4 M tokens/s
    full, _ = compute_flops_per_token(gpu.SMALL)
    assert mfu(0.48e6, full, peak=989.0) == pytest.approx(41, abs=2)


def test_the_sizes_are_those_that_are_claimed() -> None:
    recipe = read_yaml(ROOT / "docs/recipes/gpt2-small-124m.yaml")
    model = {**recipe["pretrain"]["model"], "vocab_size": recipe["train_tokenizer"]["vocab_size"]}
    assert ModelConfig(**model) == gpu.SMALL
    assert [round(work.config.n_parameters / 1e6) for work in gpu.WORKS] == [124, 1028]


def test_without_a_gpu_it_says_so_and_nothing_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "gpu" in find_benchmarks()
    assert "gpu_peers" not in find_benchmarks()
    assert main(["gpu"]) == 0
    assert "not measured" in capsys.readouterr().out


def test_the_benchmark_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    flops, _ = compute_flops_per_token(TINY.config)
    peers = [PeerSpeed("slow", 1.0, flops, 0), PeerSpeed("fast", 2.0, flops, 10**9)]
    monkeypatch.setattr(gpu, "measure_peers", lambda *what: peers)
    monkeypatch.setattr(gpu, "get_peak_tflops", lambda device: (1.0, "a CPU"))
    result = compare((TINY,), CPU, steps=2)
    assert result.ours > 0
    assert (result.peer, result.peer_name) == (mfu(2.0, flops, 1.0), "fast")
    show("gpu", result)
    printed = capsys.readouterr().out
    for word in ("tiny", "ours", "fast", "published", "41", "planned GB"):
        assert word in printed
    rows = {row["who"]: row for row in result.details}
    assert rows["fast"]["GB"] == 1.0


def test_a_log_of_torchtitan_is_read() -> None:
    line = "[rank0]:step: {n:2}  loss:  8.1  grad_norm: 0.3  memory: 46.81GiB(59.14%)  tps: {tps:,}  tflops: 381.60  mfu: 38.5%"
    log = "\n".join(line.format(n=n, tps=tps) for n, tps in enumerate((12, 40_000, 50_000, 60_000)))
    found = read_torchtitan(log, warm=1)
    assert found.tokens_per_second == 50_000
    assert found.flops_per_token == pytest.approx(381.6e12 / 5e4)
    assert found.memory_bytes == round(46.81 * 2**30)
    with pytest.raises(ValueError, match="no step"):
        read_torchtitan("an error", warm=1)


def test_a_missing_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        nanochat(tmp_path / "nowhere", TINY.config, 4, 2, "cpu", 1, 1)
