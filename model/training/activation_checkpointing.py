"""Activations that the backward pass computes again instead of finding them kept: less memory for more time, the same gradients.

In: how much is kept. Out: how a transformer runs one of its layers. none keeps everything. selective keeps what the matrix
products and the attention gave, and computes norms, rotations and gates again: 0.4 to 0.5 of the memory, and no product more.
full keeps a layer's input alone, 0.05 of the memory, for a third more FLOPs. While one layer goes backward, its own activations
are there as well. (Shares of plain torch on a CPU; the compiler drops some values by itself: of what it keeps, 0.6 and 0.1.)
Processor time of the passes there, bf16, 4 layers of 256: selective 1.1 to 1.2 of none, full 1.2 to 1.3.

Papers: Chen et al. 2016 (each layer's input); Korthikanti et al. 2022 (selective).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from model.network.transformer import RunLayer, run_layer

Kind = Literal["none", "selective", "full"]


KINDS: tuple[Kind, ...] = get_args(Kind)


def get_layer_runner(kind: Kind) -> RunLayer:
    """Raises: ValueError for another kind."""
    runners: dict[str, RunLayer] = {"none": run_layer, "selective": _recompute_cheap_operators, "full": _recompute_all}
    if kind not in runners:
        raise ValueError(f"activation_checkpointing must be one of {', '.join(KINDS)}; found {kind!r}; choose one.")
    return runners[kind]


def _recompute_all(layer: Any, *inputs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return layer(*inputs)
    # There is no dropout: no state of a random generator has to be put back.
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)


def _recompute_cheap_operators(layer: Any, *inputs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return layer(*inputs)
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_make_contexts)


def _make_contexts() -> Any:
    return create_selective_checkpoint_contexts(_choose_policy)


def _choose_policy(context: Any, operator: Any, *args: Any, **options: Any) -> CheckpointPolicy:
    """What costs D or T operations a value is kept."""
    aten, higher = torch.ops.aten, torch.ops.higher_order
    kept = (
        aten.mm.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        higher.flex_attention,
    )
    return CheckpointPolicy.MUST_SAVE if operator in kept else CheckpointPolicy.PREFER_RECOMPUTE
