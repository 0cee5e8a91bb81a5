"""Compute what a training run takes before it runs: tokens, FLOPs, and bytes per device by kind. Standard library only.

In: sizes, rows, steps, devices. Out: counts. The bytes are those that model.training.compute, model.training.fused and
model.training.optim allocate: tests/model/planning/test_memory.py counts the tensors of real steps. Not counted: the interpreter
and its libraries (0.3 GB), allocator overhead, NCCL's buffers.

FLOPs are model FLOPs: recomputation by activation checkpointing lowers the MFU.

Papers: FLOPs as in PaLM (Chowdhery et al. 2022, appendix B); full sharding as in ZeRO-3 (Rajbhandari et al. 2020).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from model.network.config import ModelConfig

FUSED_CHUNK_TOKENS = 1024  # model.training.fused.CHUNK_TOKENS
BLOCK_TOKENS = 128  # model.training.fused.BLOCK_TOKENS
TORCH_CHUNK_TOKENS = 512  # model.network.loss.CHUNK_TOKENS
GPU_CHUNK_TOKENS = 4096  # model.network.loss.GPU_CHUNK_TOKENS


@dataclass(frozen=True, kw_only=True)
class PhaseRun:
    """One phase of training. `batch_rows` is the global batch, the largest one if batches grow (`n_rows`: the rows of all steps);
    with `micro_rows` 0 a device computes its whole share at once.

    `compute`: kernels is model.training.fused (CPU, bf16), torch is plain torch. `is_sharded`: each device holds its part of
    weights, gradients and state (model.training.sharding).
    """

    config: ModelConfig
    total_steps: int
    batch_rows: int
    n_rows: int | None = None  # None: batch_rows in every step
    micro_rows: int = 0
    n_devices: int = 1
    compute: Literal["kernels", "torch"] = "torch"
    is_cuda: bool = True
    is_compiled: bool = False
    is_bf16: bool = True
    is_sharded: bool = False
    masks_documents: bool = False
    activation_checkpointing: Literal["none", "selective", "full"] = (
        "none"  # plain torch only; the kernels keep everything
    )

    def __post_init__(self) -> None:
        for name in ("total_steps", "batch_rows", "n_devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"plan.{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_rows % self.n_devices:
            raise ValueError(
                f"batch_rows must be a multiple of the number of devices, got {self.batch_rows} and {self.n_devices}; change one"
            )
        share = self.batch_rows // self.n_devices
        if self.micro_rows and share % min(self.micro_rows, share):
            raise ValueError(
                f"micro_rows must divide the rows of a device, got {self.micro_rows} and {share}; change one"
            )

    @property
    def rows_at_once(self) -> int:
        """The rows that a device computes at once."""
        share = self.batch_rows // self.n_devices
        return min(self.micro_rows or share, share)

    @property
    def accumulates(self) -> bool:
        """Whether gradients are accumulated over several micro-batches."""
        return self.rows_at_once < self.batch_rows // self.n_devices

    @property
    def step_tokens(self) -> int:
        """The tokens of one optimizer step, over all devices."""
        return self.batch_rows * self.config.seq_len

    @property
    def tokens(self) -> int:
        """The tokens of the whole phase."""
        return self.total_steps * self.step_tokens if self.n_rows is None else self.n_rows * self.config.seq_len

    @property
    def flops(self) -> int:
        """The FLOPs of all matrix products, forward and backward."""
        return self.tokens * self.config.count_flops_per_token()

    def estimate_seconds(self, tflops: float, mfu: float) -> float:
        """Return the duration. `tflops` is the peak of one device, `mfu` the model FLOPs utilization."""
        return self.flops / (self.n_devices * tflops * 1e12 * mfu)


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Bytes on one device by kind, and the peak, which is less than their sum because not everything is live at the same time.

    `gradients`: fp32, and those of the low-precision copy until they are collected. `activations`: what the passes keep, and the
    buffers of the loss (recomputed activations count in the peak). `update`: what the optimizer step needs beside its state.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    update: int
    peak: int


def plan_memory(run: PhaseRun) -> MemoryPlan:
    """Return the memory of one device by kind, and its peak."""
    c = run.config
    n, matrices = c.n_parameters, count_matrix_values(c)
    low = 2 if run.is_bf16 else 0  # bytes per value of the low-precision copy
    if run.compute == "kernels":  # bf16 copies of matrices and head, and the full copy used for evaluation
        weights = 4 * n + 2 * (matrices + c.n_embedding_parameters) + 2 * n
        gradients = 4 * n + 2 * matrices
        activations = count_fused_activation_bytes(c, run.rows_at_once)
    else:
        weights, gradients = (4 + low) * n, (4 + low) * n
        activations = count_torch_activation_bytes(run) + count_loss_bytes(run)
    masters, optimizer, update = 4 * n, count_optimizer_bytes(c), count_update_bytes(run)
    if run.is_sharded:
        width, layer, root = low or 4, c.n_layer_parameters, n - c.n_layer * c.n_layer_parameters
        # Gathered at a time: the current layer, the next one, and embedding, head and final norm; there is no low-precision copy.
        weights = _divide_among_devices(4 * n, run) + width * (2 * layer + root)
        # Those of a layer and of the rest in the low dtype, and the larger of them in fp32 while it is reduced.
        gradients = _divide_among_devices(4 * n, run) + width * (layer + root) + 4 * max(layer, root)
        masters, optimizer, update = (
            _divide_among_devices(4 * n, run),
            _divide_among_devices(optimizer, run),
            count_sharded_update_bytes(run),
        )
    if run.compute == "kernels":  # its buffers are never freed
        busiest = gradients + activations + update
    else:
        # Gradients replace activations, except those left by an earlier micro-batch.
        earlier = masters if run.accumulates else 0
        busiest = max(earlier + activations, earlier + count_recomputation_bytes(run), gradients, masters + update)
    return MemoryPlan(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        update=update,
        peak=weights + optimizer + busiest,
    )


def _divide_among_devices(n_bytes: int, run: PhaseRun) -> int:
    """Return the largest share of one device."""
    return -(-n_bytes // run.n_devices)


def count_matrix_shapes(config: ModelConfig) -> Counter[tuple[int, int]]:
    """Return how many matrices Muon updates together, by (smaller side, larger side)."""
    c = config
    wide, narrow = c.n_head * c.d_head, c.n_kv_head * c.d_head
    shapes = [(wide, c.d_model)] * 2 + [(narrow, c.d_model)] * 2 + [(c.d_ff, c.d_model)] * 3
    counts: Counter[tuple[int, int]] = Counter()
    for rows, columns in shapes:
        counts[min(rows, columns), max(rows, columns)] += c.n_layer
    return counts


def count_matrix_values(config: ModelConfig) -> int:
    """Return the number of parameters that Muon updates."""
    return sum(count * m * n for (m, n), count in count_matrix_shapes(config).items())


def count_optimizer_bytes(config: ModelConfig) -> int:
    """Return the bytes of the optimizer state: one fp32 momentum per matrix value, two fp32 moments for all others. Every rank
    holds them all: only the work is shared."""
    matrices = count_matrix_values(config)
    return 4 * matrices + 8 * (config.n_parameters - matrices)


def count_update_bytes(run: PhaseRun) -> int:
    """Return the peak of Muon's step beside its state: the directions of every group, and of the group that is being orthogonalized
    the fp32 updates, their stack, two versions and two products."""
    width = 2 if run.is_bf16 else 4
    done = largest = 0
    for (m, n), count in count_matrix_shapes(run.config).items():
        mine = -(-count // run.n_devices)
        directions = count * m * n * width if run.n_devices > 1 else 0
        busy = directions + mine * (m * n * (8 + 2 * width) + 2 * m * m * width)
        largest = max(largest, done + busy)
        done += count * m * n * width
    moving = max(4 * count * m * n for (m, n), count in count_matrix_shapes(run.config).items())
    return max(largest, done + moving)


def count_torch_activation_bytes(run: PhaseRun) -> int:
    """Return what autograd saves for the backward pass of model.network.transformer: of each layer, the final norm and the ids."""
    c, norm = run.config, _get_norm_width(run)
    n_tokens = run.rows_at_once * c.seq_len
    kept = _count_layer_bytes(run) if run.activation_checkpointing == "none" else _count_checkpoint_bytes(run)
    mask = 0 if run.activation_checkpointing == "none" else run.rows_at_once * _count_mask_bytes(run, 1)
    return c.n_layer * kept + mask + n_tokens * (norm * c.d_model + 4 + 8)


def _get_norm_width(run: PhaseRun) -> int:
    """Return the bytes per value that a norm saves: a fused one only its input, the CPU's input and normalized values in fp32."""
    return (2 if run.is_bf16 else 4) if run.is_cuda or run.is_compiled else 8


def _count_mask_bytes(run: PhaseRun, width: int) -> int:
    """Return the bytes of one row's document mask; a compiled step on a GPU uses blocks instead
    (model.training.document_blocks)."""
    is_materialized = run.masks_documents and not (run.is_cuda and run.is_compiled)
    return width * run.config.seq_len**2 if is_materialized else 0


def _count_layer_bytes(run: PhaseRun) -> int:
    """Return what one layer saves without activation checkpointing. The CPU copies the attention output; in bf16 a GPU's kernel
    shares keys between heads; a compiled step recomputes one product."""
    c, width, norm = run.config, 2 if run.is_bf16 else 4, _get_norm_width(run)
    wide, narrow, heads = c.n_head * c.d_head, c.n_kv_head * c.d_head, c.n_head + c.n_kv_head
    is_shared = run.is_cuda and run.is_bf16 and not _count_mask_bytes(run, 1)
    keys = 2 * (narrow if is_shared else wide)
    per_token = (
        norm * (2 * c.d_model + heads * c.d_head)  # inputs of the four norms
        + 4 * (2 + heads)  # their inverse RMS
        + width * 2 * c.d_model  # inputs of the projections
        + width * (keys + (2 if run.is_cuda else 3) * wide)  # k, v, q, output
        + 4 * c.n_head  # log-sum-exp
        + width * (3 if run.is_compiled else 4) * c.d_ff  # gate, silu(gate), up, their product
    )
    return run.rows_at_once * (per_token * c.seq_len + _count_mask_bytes(run, width))


def _count_checkpoint_bytes(run: PhaseRun) -> int:
    """Return what one layer saves with activation checkpointing: its input; with selective also the outputs of products and
    attention."""
    c, width = run.config, 2 if run.is_bf16 else 4
    per_token = width * c.d_model
    if run.activation_checkpointing == "selective":
        wide, narrow = c.n_head * c.d_head, c.n_kv_head * c.d_head
        ends = 1 if run.is_compiled else 2  # the outputs of out and down; a compiler drops the latter, which is unused
        per_token += width * (2 * wide + 2 * narrow + ends * c.d_model + 2 * c.d_ff) + 4 * c.n_head
    return run.rows_at_once * per_token * c.seq_len


def count_recomputation_bytes(run: PhaseRun) -> int:
    """Return the peak of the backward pass with activation checkpointing: the recomputed activations of one layer, their gradients,
    and either what the other layers saved (at the last layer) or the gradients of their weights (at the first)."""
    if run.activation_checkpointing == "none":
        return 0
    c, width = run.config, 2 if run.is_bf16 else 4
    busy = _count_layer_bytes(run) + run.rows_at_once * c.seq_len * width * (3 * c.d_ff + c.d_model)
    kept, weights = (c.n_layer - 1) * _count_checkpoint_bytes(run), (c.n_layer - 1) * c.n_layer_parameters
    return busy + width * c.n_embedding_parameters + max(kept, width * weights)


def count_loss_bytes(run: PhaseRun) -> int:
    """Return the buffers of the loss: hidden states and their gradient, the gradient of the projection twice and of a chunk,
    and the fp32 logits of one chunk four times."""
    c, width = run.config, 2 if run.is_bf16 else 4
    n_tokens = run.rows_at_once * c.seq_len
    table = c.n_embedding_parameters * (4 + width)
    chunk = min(n_tokens, GPU_CHUNK_TOKENS if run.is_cuda else TORCH_CHUNK_TOKENS) * c.vocab_size
    return 2 * width * n_tokens * c.d_model + table + 4 * 4 * chunk


def count_sharded_update_bytes(run: PhaseRun) -> int:
    """Return the peak of model.training.optim.ShardedMuon, one group at a time: a device's rows as they are sent and received,
    in low precision and fp32, and of the matrices that it orthogonalizes the parts, the whole, their stack, two versions and two
    products."""
    width = 2 if run.is_bf16 else 4
    largest = 0
    for (m, n), count in count_matrix_shapes(run.config).items():
        rows, mine = _divide_among_devices(count * m * n, run), -(-count // run.n_devices)
        largest = max(largest, rows * (3 * width + 8) + mine * (5 * m * n + 2 * m * m) * width)
    return largest


def count_fused_activation_bytes(config: ModelConfig, rows: int, n_threads: int = 1) -> int:
    """Return the buffers of model.training.fused for one batch shape: what each layer keeps, and what the layers share."""
    c, n = config, rows * config.seq_len
    wide, narrow = c.n_head * c.d_head, c.n_kv_head * c.d_head
    ends = [*range(BLOCK_TOKENS, c.seq_len, BLOCK_TOKENS), c.seq_len]
    blocks = [2 * rows * c.n_head * (b - a) * b for a, b in zip([0, *ends], ends, strict=False)]  # queries × keys
    heads = 2 * rows * c.n_head * min(c.seq_len, BLOCK_TOKENS) * c.d_head
    kept = n * (12 * c.d_model + 8 + 2 * (wide + 2 * narrow) + 4 * wide + 4 * narrow + 6 * c.d_ff)
    shared = n * (16 * c.d_model + 8 + 6 * c.d_ff + 4 * wide + 4 * narrow + 2 * (wide + 2 * narrow))
    chunk = min(n, FUSED_CHUNK_TOKENS)
    projection = 2 * chunk * c.vocab_size + 2 * c.n_embedding_parameters
    scratch = 4 * n_threads * (max(c.seq_len, c.vocab_size, c.d_head) + c.d_model + 2 * c.d_head)
    return c.n_layer * (kept + sum(blocks)) + shared + max(blocks) + heads + projection + scratch
