"""How the forward and backward pass of training are computed: the fastest implementation that this machine supports.

In: a model with fp32 weights, batches on the CPU. Out: gradients on its parameters. On a CPU with fast bf16:
model.training.fused, which needs no compiler. Elsewhere the model itself or a bf16 copy of it (refreshed once per step, which costs
less than autocast's cast at each use), through torch.compile where that works. Memory: the copy, and the activations of one
micro-batch.

Nothing here synchronizes with the GPU: batches are copied asynchronously and sums stay on the device (the tests run a step on
torch's meta device, where reading a value fails). fp32 means fp32: products are not rounded to TF32, because wherever TF32
would be accurate enough, bf16 is faster.

Tokens/s of the passes alone, 2.36 M parameters, 12 × 384 tokens, 2 cores with AVX-512 bf16: kernels 33,000 after 0.7 s (4 s the
first time), compiled 17,000 after 19 s, eager 12,500; eager in fp32 7,700.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# (torch._foreach_*: one call for many small tensors, 10 times faster here than a loop)
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from model.data.batches import Batch
from model.machine.hardware import find_compiler_problem, find_kernel_problem, has_fast_bf16
from model.network.loss import (
    CHUNK_TOKENS,
    GPU_CHUNK_TOKENS,
    compute_chunk_gradients,
    compute_token_nats,
    find_scored_tokens,
    sum_nats,
)
from model.network.soft_targets import SoftTargets
from model.network.transformer import Transformer, make_document_mask
from model.training.activation_checkpointing import Kind, get_layer_runner

Log = Callable[[str], None]
COMPILERS = ("torch._dynamo", "torch._inductor", "triton")  # an exception from these means that compilation failed


class Compute(Protocol):
    """An implementation of the passes. `update` copies the model's current weights; `add_gradients` accumulates the gradients of
    the mean loss over `n_targets` and returns the summed (weighted) nats in fp64, on the model's device."""

    dtype: torch.dtype

    def update(self) -> None: ...

    def add_gradients(self, batch: Batch, n_targets: Float[Tensor, ""]) -> Float[Tensor, ""]: ...

    def model_for_evaluation(self) -> Transformer: ...


def choose_compute(
    model: Transformer,
    *,
    precision: str,
    use_kernels: bool,
    use_compile: bool,
    log: Log,
    activation_checkpointing: Kind = "none",
) -> KernelCompute | TorchCompute:
    """Return the fastest implementation for the model's device. `precision` is auto (bf16 where it is fast), bf16 or fp32."""
    device = model.embedding.weight.device
    is_bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    problem = find_kernel_problem() if use_kernels else "switched off"
    if device.type == "cpu" and is_bf16:
        if problem is None:
            if (
                activation_checkpointing != "none"
            ):  # switching to plain torch would change the last digits of the result
                log("activation checkpointing is not used: the CPU kernels keep all activations")
            return KernelCompute(model)
        log(f"training runs without the CPU kernels: {problem}")
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    run_layer = get_layer_runner(activation_checkpointing)
    compute = TorchCompute(model, dtype, use_compile=use_compile, log=log)
    compute.copy.model.run_layer = run_layer
    return compute


class _LowPrecisionCopy:
    """A copy of the model in another dtype, or the model itself if it already has that dtype."""

    def __init__(self, model: Transformer, dtype: torch.dtype) -> None:
        self.is_copy = dtype != torch.float32
        self.model = copy.deepcopy(model).to(dtype) if self.is_copy else model
        self.masters: list[Tensor] = list(model.parameters())
        self.parameters: list[Tensor] = list(self.model.parameters())

    @torch.no_grad()
    def update(self) -> None:
        if self.is_copy:
            torch._foreach_copy_(self.parameters, self.masters)


class KernelCompute:
    """Hand-written bf16 passes on the CPU (model.training.fused)."""

    def __init__(self, model: Transformer) -> None:
        from model.training.fused import FusedStep

        self.dtype = torch.bfloat16
        self.step = FusedStep(model)
        self._copy: _LowPrecisionCopy | None = None

    def update(self) -> None:
        self.step.update()

    def add_gradients(self, batch: Batch, n_targets: Float[Tensor, ""]) -> Float[Tensor, ""]:
        scale, weigh = 1 / float(n_targets), bind_objective(batch)
        nats = self.step.add_gradients(
            batch.ids, batch.targets, batch.documents, scale, batch.weights, weigh, batch.soft
        )
        return torch.tensor(nats, dtype=torch.float64)

    def compute_nats(self, batch: Batch) -> Float[Tensor, "B T"]:
        """Return the nats of each target, 0 where there is none, as `add_gradients` computes them."""
        return self.step.compute_nats(batch.ids, batch.targets, batch.documents)

    def compute_hidden(self, batch: Batch) -> Float[Tensor, "N D"]:
        """Return the final hidden states, in a buffer that the next pass overwrites."""
        return self.step.compute_hidden(batch.ids, batch.documents)

    def model_for_evaluation(self) -> Transformer:
        self._copy = self._copy or _LowPrecisionCopy(self.step.model, self.dtype)
        self._copy.update()
        return self._copy.model


class TorchCompute:
    """Autograd over the model, compiled where a compiler works; each fallback is logged."""

    def __init__(self, model: Transformer, dtype: torch.dtype, *, use_compile: bool, log: Log) -> None:
        self.dtype, self.log = dtype, log
        self.device = model.embedding.weight.device
        self.copy = _LowPrecisionCopy(model, dtype)
        self.chunk_tokens = GPU_CHUNK_TOKENS if self.device.type == "cuda" else CHUNK_TOKENS
        self._use_plain()
        problem = find_compiler_problem(self.device.type) if use_compile else "switched off"
        if problem is None:
            self._use_compiled()
            if self.device.type == "cuda":
                self._use_blocks()
        else:
            masks = "; document masks are materialized" if self.device.type == "cuda" else ""
            log(f"training runs without torch.compile: {problem}{masks}")

    def _use_blocks(self) -> None:
        from model.training.document_blocks import make_block_attention

        self.copy.model.mask_documents = make_block_attention
        self.has_blocks = True

    def _use_compiled(self) -> None:
        self.copy.model.mask_documents, self.has_blocks = make_document_mask, False
        self.forward = torch.compile(self.copy.model.forward)
        self.gradients = torch.compile(
            compute_chunk_gradients, dynamic=False
        )  # a shorter last chunk must not slow the others down
        self.is_compiled = True

    def _use_plain(self) -> None:
        self.copy.model.mask_documents, self.has_blocks = make_document_mask, False
        self.forward: Callable[..., Tensor] = self.copy.model.forward
        self.gradients: Callable[..., Any] = compute_chunk_gradients
        self.is_compiled = False

    def update(self) -> None:
        self.copy.update()

    def model_for_evaluation(self) -> Transformer:
        self.update()
        return self.copy.model

    def add_gradients(self, batch: Batch, n_targets: Float[Tensor, ""]) -> Float[Tensor, ""]:
        before = [parameter.grad for parameter in self.copy.parameters]
        while True:
            try:
                nats = self._backward(batch, n_targets)
                break
            except Exception as error:
                # Only the first step can fail here: later ones run code that is already compiled.
                if not self.is_compiled or not type(error).__module__.startswith(COMPILERS):
                    raise
                self._fall_back(batch, error)
                for parameter, grad in zip(self.copy.parameters, before, strict=True):
                    parameter.grad = grad
        if self.copy.is_copy:
            self._collect_gradients()
        return nats

    def _fall_back(self, batch: Batch, error: Exception) -> None:
        reason = str(error).strip().splitlines()[0]
        if self.has_blocks and batch.documents is not None:
            self.log(f"document masks are materialized: FlexAttention failed here ({reason})")
            self._use_compiled()
        else:
            self.log(f"training runs without torch.compile: it failed here ({reason})")
            self._use_plain()

    def _backward(self, batch: Batch, n_targets: Float[Tensor, ""]) -> Float[Tensor, ""]:
        scored = find_scored_tokens(batch.targets)  # on the CPU
        parts = (batch.ids, batch.targets, batch.documents, scored, batch.weights)
        ids, targets, documents, scored, weights = move_to_device(self.device, *parts)
        hidden = self.forward(ids, None, documents)
        loss, weigh = None, bind_objective(batch)
        if weigh is not None:
            loss, derivative = weigh(compute_token_nats(hidden, self.copy.model.head.weight, targets).cpu())
            weights = derivative.to(self.device)
        soft = None if batch.soft is None else move_soft_targets(self.device, batch.soft)
        scores = (self.copy.model.head.weight, targets, scored, weights, soft)
        nats = sum_nats(hidden, *scores, gradients=self.gradients, chunk_tokens=self.chunk_tokens)
        (nats / n_targets.to(nats.dtype)).backward()
        return nats.detach().double() if loss is None else torch.tensor(loss, dtype=torch.float64, device=self.device)

    @torch.no_grad()
    def compute_nats(self, batch: Batch) -> Float[Tensor, "B T"]:
        """Return the nats of each target, 0 where there is none, on the CPU, as `add_gradients` computes them."""
        ids, targets, documents = move_to_device(self.device, batch.ids, batch.targets, batch.documents)
        return compute_token_nats(self.copy.model(ids, None, documents), self.copy.model.head.weight, targets).cpu()

    @torch.no_grad()
    def compute_hidden(self, batch: Batch) -> Float[Tensor, "N D"]:
        """Return the final hidden states, on the device."""
        ids, documents = move_to_device(self.device, batch.ids, batch.documents)
        return self.copy.model(ids, None, documents).flatten(0, 1)

    @torch.no_grad()
    def _collect_gradients(self) -> None:
        """Add the copy's gradients to those of the model's parameters, in fp32."""
        for master, low in zip(self.copy.masters, self.copy.parameters, strict=True):
            assert low.grad is not None
            if master.grad is None:
                master.grad = low.grad.float()
            else:
                master.grad += low.grad
            low.grad = None


def bind_objective(batch: Batch) -> Callable[[Tensor], tuple[float, Tensor]] | None:
    """Return the function of the nats that gives the loss of a batch with an objective and its derivatives; None without one."""
    objective = batch.objective
    return None if objective is None else lambda nats: objective.weigh(batch, nats)


def move_soft_targets(device: torch.device, soft: SoftTargets) -> SoftTargets:
    """Copy soft targets to the device without blocking."""
    ids, log_probs = move_to_device(device, soft.ids, soft.log_probs)
    return soft._replace(ids=ids, log_probs=log_probs)


def move_to_device(device: torch.device, *tensors: Tensor | None) -> list[Any]:
    """Copy tensors to the device without blocking, which requires pinned memory; None stays None."""
    if device.type == "cuda":  # contiguous, because strided tensors are copied through memory that is not pinned
        tensors = tuple(None if tensor is None else tensor.contiguous().pin_memory() for tensor in tensors)
    return [None if tensor is None else tensor.to(device, non_blocking=True) for tensor in tensors]
