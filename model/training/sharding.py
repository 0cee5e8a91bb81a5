"""Fully sharded training: each rank holds its rows of every weight, gradient and moment (FSDP2,
torch.distributed.fsdp.fully_shard).

In: a model with fp32 weights, whole on each rank. Out: the same model with DTensors as parameters, and gradients on them, summed
over the ranks. The weights of a layer are gathered in the compute dtype, used and freed; its gradients are reduce-scattered in
fp32 after every micro-batch, so that none stays whole. Embedding, head and final norm are gathered once per forward and backward
pass.

Memory: 16 bytes per parameter divided by the number of ranks (12 for Muon matrices), plus the current layer, the next one,
embedding and head in the compute dtype. At the start each rank holds the whole model in fp32 in host memory and frees it.
Evaluation and the finished model are gathered on the main process. Communication: three times the weights in the compute dtype.

Papers: ZeRO-3 (Rajbhandari et al. 2020), FSDP (Zhao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from model.data.batches import Batch
from model.machine.distributed import World, gather_whole
from model.machine.hardware import find_compiler_problem, has_fast_bf16
from model.network.folder import restore
from model.network.loss import CHUNK_TOKENS, GPU_CHUNK_TOKENS, compute_chunk_gradients, find_scored_tokens, sum_nats
from model.network.transformer import Transformer
from model.training.activation_checkpointing import Kind, get_layer_runner
from model.training.compute import Log, move_to_device


class _WithLoss(nn.Module):
    """Computes nats from ids in one forward pass, so that the head is gathered when the loss needs it."""

    def __init__(self, model: Transformer, gradients: Any) -> None:
        super().__init__()
        self.model, self.gradients = model, gradients

    def forward(
        self,
        ids: Tensor,
        targets: Tensor,
        documents: Tensor | None,
        scored: Tensor | None,
        weights: Tensor | None,
    ) -> Tensor:
        hidden, size = self.model(ids, None, documents), GPU_CHUNK_TOKENS if ids.is_cuda else CHUNK_TOKENS
        weight = self.model.head.weight
        return sum_nats(hidden, weight, targets, scored, weights, gradients=self.gradients, chunk_tokens=size)


class ShardedCompute:
    """An implementation of model.training.compute.Compute: autograd over a model that is sharded in place."""

    def __init__(
        self,
        model: Transformer,
        world: World,
        *,
        precision: str,
        use_compile: bool,
        log: Log,
        activation_checkpointing: Kind = "none",
    ) -> None:
        is_bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(world.device))
        self.dtype = torch.bfloat16 if is_bf16 else torch.float32
        self.model, self.world = model, world
        if world.device.type == "cpu" and is_bf16:
            log("training runs without the CPU kernels: they need whole weights, and sharding is full")
        problem = find_compiler_problem(world.device.type) if use_compile else "switched off"
        if problem is None:
            for layer in model.layers:
                layer.compile()  # each by itself: the gathering between layers stays outside
            gradients: Any = torch.compile(compute_chunk_gradients, dynamic=False)
        else:
            log(f"training runs without torch.compile: {problem}")
            gradients = compute_chunk_gradients
        model.run_layer = get_layer_runner(activation_checkpointing)
        mesh = init_device_mesh(world.device.type, (world.n_ranks,))
        policy = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        self.whole = _WithLoss(model, gradients)
        for part in (*model.layers, self.whole):
            sharded: FSDPModule = fully_shard(part, mesh=mesh, mp_policy=policy)
            sharded.set_gradient_divide_factor(1.0)  # sum: each rank divides its nats by the global number of targets
            sharded.set_force_sum_reduction_for_comms(True)  # gloo has no pre-scaled sum
        for name in ("cos", "sin"):  # once, instead of in each layer
            setattr(model, name, getattr(model, name).to(world.device, self.dtype))

    def update(self) -> None:
        """Do nothing: weights are cast as they are gathered."""

    def add_gradients(self, batch: Batch, n_targets: Float[Tensor, ""]) -> Float[Tensor, ""]:
        if batch.objective is not None:
            raise ValueError("training.sharding can't be full for preferences; found an objective; set it to none.")
        if batch.soft is not None:
            raise ValueError("training.sharding can't be full for distillation; found soft targets; set it to none.")
        scored = find_scored_tokens(batch.targets)  # on the CPU
        parts = (batch.ids, batch.targets, batch.documents, scored, batch.weights)
        nats = self.whole(*move_to_device(self.world.device, *parts))
        (nats / n_targets.to(nats.dtype)).backward()
        return nats.detach().double()

    def model_for_evaluation(self) -> Transformer:
        """Gather a whole copy in the compute dtype on the main process; return the sharded model on the others. All ranks must call
        it."""
        weights = dict(gather_weights(self.model, self.world, dtype=self.dtype))
        if not self.world.is_main:
            return self.model
        copy = Transformer(self.model.config).to(self.world.device, self.dtype)
        restore(copy, weights)
        return copy


@torch.no_grad()
def gather_weights(
    model: Transformer, world: World, *, dtype: torch.dtype = torch.float32
) -> Iterator[tuple[str, Tensor]]:
    """Yield name and whole value of one weight at a time, on the main process only; all ranks must call it. A weight that is not
    sharded is yielded as it is."""
    for name, parameter in model.named_parameters():
        whole = gather_whole(parameter.detach().to(dtype))
        if world.is_main:
            yield name, whole
