"""Compare the bytes of a plan with those of real tensors, and its tokens with those of a real run."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.data.batches import StreamBatches, TokenStream
from model.machine.hardware import find_kernel_problem
from model.network import loss
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.planning import memory as plan
from model.planning.memory import MemoryPlan, PhaseRun, plan_memory
from model.training import fused
from model.training.activation_checkpointing import KINDS
from model.training.compute import KernelCompute, TorchCompute
from model.training.loop import TrainSettings, train
from model.training.optim import Optimizer, OptimSettings, get_grad
from tests.model.conftest import write_shards
from tests.model.training.test_loop import ROOT

MODELS = [
    ModelConfig(vocab_size=300, seq_len=48, n_layer=2, n_head=6, n_kv_head=2, d_model=80, d_head=16, d_ff=208),
    ModelConfig(vocab_size=90, seq_len=64, n_layer=3, n_head=4, n_kv_head=4, d_model=64, d_head=16, d_ff=64),
    ModelConfig(
        vocab_size=500, seq_len=32, n_layer=1, n_head=2, n_kv_head=1, d_model=96, d_head=32, d_ff=256, is_tied=False
    ),
]
LARGER = [
    ModelConfig(vocab_size=2000, seq_len=64, n_layer=4, n_head=4, n_kv_head=2, d_model=128, d_head=32, d_ff=384),
    ModelConfig(
        vocab_size=300, seq_len=64, n_layer=2, n_head=4, n_kv_head=4, d_model=256, d_head=64, d_ff=512, is_tied=False
    ),
]
MANY_TOKENS = [  # where the passes determine the peak, not the optimizer step
    ModelConfig(vocab_size=200, seq_len=128, n_layer=6, n_head=4, n_kv_head=2, d_model=64, d_head=16, d_ff=192),
    ModelConfig(vocab_size=200, seq_len=128, n_layer=2, n_head=2, n_kv_head=1, d_model=64, d_head=64, d_ff=128),
]
ROWS = 3


def measure_storages(tensors: Any) -> dict[int, int]:
    """Return bytes by address; views of one storage count once."""
    tensor_storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in tensor_storages}


def plan_step(config: ModelConfig, **changes: Any) -> MemoryPlan:
    values: dict[str, Any] = {"total_steps": 1, "batch_rows": ROWS, "is_cuda": False, **changes}
    return plan_memory(PhaseRun(config=config, **values))


def make_ids(config: ModelConfig) -> Tensor:
    return torch.randint(0, config.vocab_size, (ROWS, config.seq_len), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masks_documents", [False, True])
@pytest.mark.parametrize("config", MODELS)
def test_planned_activations_equal_those_that_autograd_saves(
    config: ModelConfig, dtype: torch.dtype, masks_documents: bool
) -> None:
    model = Transformer(config).to(dtype)
    own = measure_storages([*model.parameters(), *model.buffers()])
    kept: list[Tensor] = []
    ids = make_ids(config)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        model(ids, None, (ids == 1).cumsum(1) if masks_documents else None)
    measured = sum(n_bytes for address, n_bytes in measure_storages(kept).items() if address not in own)
    run = PhaseRun(
        config=config,
        total_steps=1,
        batch_rows=ROWS,
        is_cuda=False,
        is_bf16=dtype == torch.bfloat16,
        masks_documents=masks_documents,
    )
    assert plan.count_torch_activation_bytes(run) == pytest.approx(measured, rel=0.01)


COMPILED = """
import json, sys, torch
from model.training.activation_checkpointing import KINDS, get_layer_runner
from model.network.config import ModelConfig
from model.network.transformer import Transformer
for values in json.loads(sys.argv[1]):
    config = ModelConfig(**values)
    for dtype, kind in [(dtype, kind) for dtype in (torch.float32, torch.bfloat16) for kind in KINDS]:
        torch.compiler.reset()
        model = Transformer(config).to(dtype)
        model.run_layer = get_layer_runner(kind)
        own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        ids = torch.randint(0, config.vocab_size, (3, config.seq_len))
        hidden = torch.compile(model.forward, backend="aot_eager_decomp_partition")(ids)
        storages = [tensor.untyped_storage() for tensor in hidden.grad_fn.saved_tensors]
        print(sum({s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in own}.values()), flush=True)
"""


@pytest.mark.slow
def test_planned_activations_equal_those_that_the_partitioner_keeps() -> None:
    """Uses torch.compile's partitioner without a compiler, in a subprocess without the shape-checking import hook."""
    configs = MODELS[1:2]
    command = [sys.executable, "-c", COMPILED, json.dumps([config.to_dict() for config in configs])]
    completed = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    measured = [int(line) for line in completed.stdout.split()]
    settings: dict[str, Any] = {"total_steps": 1, "batch_rows": ROWS, "is_cuda": False, "is_compiled": True}
    for config, is_bf16 in itertools.product(configs, (False, True)):
        planned = [
            plan.count_torch_activation_bytes(
                PhaseRun(config=config, is_bf16=is_bf16, activation_checkpointing=kind, **settings)
            )
            for kind in KINDS
        ]
        kept = [measured.pop(0) for _ in KINDS]
        assert planned[0] == pytest.approx(kept[0], rel=0.01)
        # What remains with the other kinds depends on what the compiler considers cheap to recompute: 0.05 of everything.
        assert planned[1:] == [pytest.approx(each, abs=0.05 * kept[0]) for each in kept[1:]]
    assert not measured


@pytest.mark.parametrize("config", MODELS)
def test_plan_equals_the_tensors_of_plain_torch(config: ModelConfig) -> None:
    model = Transformer(config)
    low = TorchCompute(model, torch.bfloat16, use_compile=False, log=lambda text: None).copy
    for parameter in [*low.parameters, *low.masters]:
        parameter.grad = torch.zeros_like(parameter)
    planned = plan_step(config)
    assert planned.weights == sum(measure_storages([*low.parameters, *low.masters]).values())
    assert planned.gradients == sum(measure_storages([get_grad(p) for p in [*low.parameters, *low.masters]]).values())


@pytest.mark.parametrize("config", MODELS)
def test_plan_equals_the_optimizer_state(config: ModelConfig) -> None:
    model = Transformer(config)
    optimizer = Optimizer(model, OptimSettings())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    state = {name: tensor for name, tensor in optimizer.state_dict().items() if not name.startswith("step.")}
    assert plan_step(config).optimizer == sum(measure_storages(state.values()).values())


@pytest.mark.parametrize("config", MODELS)
@pytest.mark.parametrize("block_tokens", [128, 20])
@pytest.mark.skipif(find_kernel_problem() is not None, reason="the CPU kernels can't run here")
def test_plan_equals_the_buffers_of_the_kernels(
    config: ModelConfig, block_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fused, plan):
        monkeypatch.setattr(module, "BLOCK_TOKENS", block_tokens)
    model = Transformer(config)
    compute = KernelCompute(model)
    ids = make_ids(config)
    compute.update()
    compute.step.add_gradients(ids, ids, None, 1.0)
    low = compute.model_for_evaluation()
    step = compute.step
    weights = [*model.parameters(), *low.parameters(), step.head, *(t for w in step.weights for t in w.copies)]
    gradients = [*map(get_grad, model.parameters()), *(t for w in step.weights for t in w.grads)]
    buffers = [t for kept in step.kept for t in vars(kept).values() if isinstance(t, Tensor)]
    buffers += [chance for kept in step.kept for chance in kept.probabilities]
    buffers += [t for name, t in vars(step).items() if isinstance(t, Tensor) and name != "head"]
    planned = plan_step(config, compute="kernels")
    assert planned.weights == sum(measure_storages(weights).values())
    assert planned.gradients == sum(measure_storages(gradients).values())
    assert planned.activations == pytest.approx(sum(measure_storages(buffers).values()), rel=0.01)


def test_chunk_and_block_sizes_equal_those_of_the_code() -> None:
    assert plan.BLOCK_TOKENS == fused.BLOCK_TOKENS
    assert (plan.FUSED_CHUNK_TOKENS, plan.TORCH_CHUNK_TOKENS) == (fused.CHUNK_TOKENS, loss.CHUNK_TOKENS)
    assert plan.GPU_CHUNK_TOKENS == loss.GPU_CHUNK_TOKENS


def test_planned_matrices_equal_those_of_muon() -> None:
    for config in MODELS:
        muon = Optimizer(Transformer(config), OptimSettings()).muon
        assert plan.count_matrix_shapes(config) == {shape: len(names) for shape, names in muon.groups.items()}


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the peak of torch's allocator during `work`, relative to its start."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    profiler: Any = profile.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


@pytest.mark.parametrize(
    ("config", "precision", "checkpointing", "micro_rows"),
    [  # half of the full grid, in which every pair of values is met
        (config, precision, "none", 2 * ((i + j) % 2))
        for i, config in enumerate(LARGER)
        for j, precision in enumerate(("fp32", "bf16", "kernels"))
    ]
    + [
        pytest.param(config, precision, kind, 2 * ((i + j + k) % 2), marks=pytest.mark.slow)
        for i, config in enumerate(MANY_TOKENS)
        for j, precision in enumerate(("fp32", "bf16"))
        for k, kind in enumerate(KINDS[1:])
    ],
)
def test_plan_equals_the_peak_of_real_steps(
    config: ModelConfig, precision: str, checkpointing: Any, micro_rows: int, tmp_path: Path
) -> None:
    """Runs whole steps of the training loop under the memory profiler."""
    if precision == "kernels" and find_kernel_problem() is not None:
        pytest.skip("the CPU kernels can't run here")
    rows = 12 if config in MANY_TOKENS else 4
    write_shards(tmp_path / "shards", vocab_size=config.vocab_size)
    stream = TokenStream(tmp_path / "shards", "train")
    batches = StreamBatches(stream, seq_len=config.seq_len, batch_rows=rows, seed=1)
    settings = TrainSettings(
        total_steps=2,
        micro_rows=micro_rows,
        use_compile=False,
        use_kernels=precision == "kernels",
        precision="fp32" if precision == "fp32" else "bf16",
        activation_checkpointing=checkpointing,
    )
    model = Transformer(config)
    planned = plan_memory(
        PhaseRun(
            config=config,
            total_steps=2,
            batch_rows=rows,
            micro_rows=micro_rows,
            is_cuda=False,
            is_bf16=precision != "fp32",
            compute="kernels" if precision == "kernels" else "torch",
            activation_checkpointing=checkpointing,
        )
    )
    low_copy = 2 * config.n_parameters if precision == "kernels" else 0  # this run does not evaluate
    measured = peak_bytes(lambda: train(model, batches, settings=settings, checkpoints=tmp_path / "run"))
    assert planned.peak - low_copy == pytest.approx(measured + 4 * config.n_parameters, rel=0.1)


def test_plan_has_the_tokens_of_a_real_run(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=300, seq_len=16, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_head=16, d_ff=64)
    write_shards(tmp_path / "shards")
    batches = StreamBatches(TokenStream(tmp_path / "shards", "train"), seq_len=16, batch_rows=4, seed=1)
    settings = TrainSettings(total_steps=5, use_compile=False, precision="fp32")
    history = train(Transformer(config), batches, settings=settings, checkpoints=tmp_path / "run")
    run = PhaseRun(config=config, total_steps=5, batch_rows=4)
    assert history[-1].tokens == run.tokens
    assert run.flops == run.tokens * config.count_flops_per_token()
    assert run.estimate_seconds(tflops=1.0, mfu=0.5) == pytest.approx(run.flops / 0.5e12)


def test_devices_divide_rows_time_and_sharded_state() -> None:
    one, four = (PhaseRun(config=MODELS[0], total_steps=10, batch_rows=8, n_devices=n) for n in (1, 4))
    assert four.tokens == one.tokens
    assert four.estimate_seconds(1.0, 0.4) == pytest.approx(one.estimate_seconds(1.0, 0.4) / 4)
    assert (one.rows_at_once, four.rows_at_once) == (8, 2)
    assert plan_memory(four).activations < plan_memory(one).activations
    assert plan_memory(four).optimizer == plan_memory(one).optimizer
    sharded = plan_memory(PhaseRun(config=MODELS[0], total_steps=10, batch_rows=8, n_devices=4, is_sharded=True))
    assert sharded.optimizer == pytest.approx(plan_memory(one).optimizer / 4, rel=0.01)
    assert sharded.peak < plan_memory(four).peak


@pytest.mark.parametrize("bad", [{"batch_rows": 6}, {"micro_rows": 3}, {"total_steps": 0}])
def test_impossible_runs_are_rejected(bad: dict[str, int]) -> None:
    values: dict[str, Any] = {"total_steps": 1, "batch_rows": 20, "n_devices": 4, **bad}
    with pytest.raises(ValueError, match=next(iter(bad))):
        PhaseRun(config=MODELS[0], **values)
