"""Where the forward and backward pass of training run, and how: the fastest way that this machine offers.

In: a model with fp32 weights. Out: gradients on its parameters. On a CPU with fast bf16: model.fused, which needs no compiler.
Elsewhere the model itself or a bf16 copy of it (written anew once per step, which costs less than autocast's cast at each use),
through torch.compile where that works. Memory: the copy, and what one micro-batch keeps.

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
from torch import Tensor

from model.batches import Batch
from model.hardware import compiler_problem, has_fast_bf16, kernel_problem
from model.loss import chunk_gradients, cross_entropy
from model.transformer import Transformer

Say = Callable[[str], None]


class Compute(Protocol):
    """`update` takes the model's weights over; `add_gradients` adds those of the mean over `n_targets`, and gives nats."""

    dtype: torch.dtype

    def update(self) -> None: ...

    def add_gradients(self, batch: Batch, n_targets: float) -> float: ...

    def model_for_evaluation(self) -> Transformer: ...


def choose(model: Transformer, *, precision: str, use_kernels: bool, use_compile: bool, say: Say) -> Compute:
    """`precision` is auto (bf16 where it is fast), bf16 or fp32."""
    device = model.embedding.weight.device
    is_bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    problem = kernel_problem() if use_kernels else "switched off"
    if device.type == "cpu" and is_bf16:
        if problem is None:
            return KernelCompute(model)
        say(f"training runs without the CPU kernels: {problem}")
    return TorchCompute(model, torch.bfloat16 if is_bf16 else torch.float32, use_compile=use_compile, say=say)


class _LowCopy:
    """A copy of the model in another dtype, or the model itself where the dtype is its own."""

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
    """model.fused: hand-written passes in bf16 on the CPU."""

    def __init__(self, model: Transformer) -> None:
        from model.fused import FusedStep

        self.dtype = torch.bfloat16
        self.step = FusedStep(model)
        self._copy: _LowCopy | None = None

    def update(self) -> None:
        self.step.update()

    def add_gradients(self, batch: Batch, n_targets: float) -> float:
        return self.step.add_gradients(batch.ids, batch.targets, batch.documents, 1 / n_targets)

    def model_for_evaluation(self) -> Transformer:
        self._copy = self._copy or _LowCopy(self.step.model, self.dtype)
        self._copy.update()
        return self._copy.model


class TorchCompute:
    """Autograd over the model, compiled where a compiler works; the plain fallback is announced."""

    def __init__(self, model: Transformer, dtype: torch.dtype, *, use_compile: bool, say: Say) -> None:
        self.dtype, self.say = dtype, say
        self.copy = _LowCopy(model, dtype)
        self._use_plain()
        problem = compiler_problem(model.embedding.weight.device.type) if use_compile else "switched off"
        if problem is None:
            self.forward, self.gradients = torch.compile(self.copy.model.forward), torch.compile(chunk_gradients)
            self.is_compiled = True
        else:
            say(f"training runs without torch.compile: {problem}")

    def _use_plain(self) -> None:
        self.forward: Callable[..., Tensor] = self.copy.model.forward
        self.gradients: Callable[..., Any] = chunk_gradients
        self.is_compiled = False

    def update(self) -> None:
        self.copy.update()

    def model_for_evaluation(self) -> Transformer:
        self.update()
        return self.copy.model

    def add_gradients(self, batch: Batch, n_targets: float) -> float:
        before = [parameter.grad for parameter in self.copy.parameters]
        try:
            nats = self._backward(batch, n_targets)
        except Exception as error:
            # Only the first step can end here: later ones run code that is already built.
            if not self.is_compiled or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            self.say(f"training runs without torch.compile: it failed here ({str(error).strip().splitlines()[0]})")
            self._use_plain()
            for parameter, grad in zip(self.copy.parameters, before, strict=True):
                parameter.grad = grad
            nats = self._backward(batch, n_targets)
        if self.copy.is_copy:
            self._collect()
        return nats

    def _backward(self, batch: Batch, n_targets: float) -> float:
        hidden = self.forward(batch.ids, None, batch.documents)
        weight = self.copy.model.head.weight
        nats, _ = cross_entropy(hidden, weight, batch.targets, gradients=self.gradients)
        (nats / n_targets).backward()
        return nats.detach().item()

    @torch.no_grad()
    def _collect(self) -> None:
        """Moves the copy's gradients to the model's parameters, in fp32."""
        for master, low in zip(self.copy.masters, self.copy.parameters, strict=True):
            assert low.grad is not None
            if master.grad is None:
                master.grad = low.grad.float()
            else:
                master.grad += low.grad
            low.grad = None
