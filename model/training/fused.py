"""Hand-written forward and backward pass of model.network.transformer, for training on a CPU in bf16.

In: ids, targets. Out: the sum of nats, and gradients added to the model's parameters. One fused kernel of model.machine.kernels
runs between two matrix products, buffers are allocated once per shape, and query / key / value and gate / up are one product each.
Weights and the inputs of products are bf16; the residual stream, its gradient and all sums are fp32.

Attention is computed in blocks of queries, each with the keys from the first document that one of them belongs to up to the end of
the block. That skips most of the masked half and of other documents: rows of 1,024 tokens take as long as rows of 384.

Memory: per layer and token about 4 (H + G) K + 12 D + 6 F bytes, and B H T (T + 128) per layer for attention probabilities, so
windows of thousands of tokens belong on a GPU. Time: four fifths is spent in matrix products, which run at 0.8 to 0.95 of the
peak of torch.mm on this machine.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# (torch._foreach_*: one call for many small tensors, 10 times faster here than a loop)
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.machine import kernels
from model.machine.openmp import launch
from model.machine.soft_kernels import soft_cross_entropy
from model.network.loss import IGNORE
from model.network.soft_targets import SoftTargets
from model.network.transformer import Layer, Transformer
from model.training.optim import get_grad

BF16 = torch.bfloat16
Weigh = Callable[[Tensor], tuple[float, Tensor]]  # nats → the loss, and its derivative by them
CHUNK_TOKENS = 1024
KEYS_MULTIPLE = 32  # a block's keys start at a multiple of this, so that the products' rows stay aligned
BLOCK_TOKENS = 128  # queries per block; at 64 the products are too small, at 256 too much of them is masked


class _Weights:
    """bf16 copies of one layer's matrices, concatenated where they share their input, and buffers for their gradients."""

    def __init__(self, layer: Layer) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.joined = [
            [attention.query.weight, attention.key.weight, attention.value.weight],
            [attention.out.weight],
            [feed_forward.gate.weight, feed_forward.up.weight],
            [feed_forward.down.weight],
        ]
        self.copies = [torch.cat([p.detach() for p in parts]).to(BF16) for parts in self.joined]
        self.grads = [torch.empty_like(copy) for copy in self.copies]
        self.qkv, self.out, self.both, self.down = self.copies
        self.dqkv, self.dout, self.dboth, self.ddown = self.grads

    def parts(self, joined: list[Tensor]) -> list[Tensor]:
        """Return views of the concatenated tensors, in the order of the parameters."""
        return [
            part for whole, ps in zip(joined, self.joined, strict=True) for part in whole.split([len(p) for p in ps])
        ]


class _Block(NamedTuple):
    """One block of the causal triangle: queries `start` … `stop` of every row attend to the keys `base` … `stop`."""

    start: int
    stop: int
    first_row: int  # of q, which has `n_group` rows per token
    last_row: int
    base: int = 0

    def get_shape(self, batch: int) -> tuple[int, int, int]:
        """Return the shape of the block's attention probabilities."""
        return batch, self.last_row - self.first_row, self.stop - self.base

    def view(self, buffer: Tensor, batch: int) -> Tensor:
        """Return the part of a flat buffer that has the block's probabilities."""
        shape = self.get_shape(batch)
        return buffer[: shape[0] * shape[1] * shape[2]].view(shape)


def make_query_blocks(n_tokens: int, n_group: int) -> list[_Block]:
    """Split the queries of a row into blocks of `BLOCK_TOKENS`, each with all keys before its end."""
    ends = [*range(BLOCK_TOKENS, n_tokens, BLOCK_TOKENS), n_tokens]
    return [_Block(a, b, a * n_group, b * n_group) for a, b in zip([0, *ends], ends, strict=False)]


def skip_other_documents(blocks: list[_Block], first: Int[Tensor, "B T"]) -> list[_Block]:
    """Return the blocks without the keys that none of their queries may attend to. `first` never decreases in a row."""
    bases = first[:, [block.start for block in blocks]].min(0).values.tolist()
    return [
        block._replace(base=base // KEYS_MULTIPLE * KEYS_MULTIPLE) for block, base in zip(blocks, bases, strict=True)
    ]


class _Activations:
    """The buffers that one layer keeps for its backward pass."""

    def __init__(self, model: Transformer, rows: int, tokens: int) -> None:
        c = model.config
        n, wide, narrow = rows * tokens, c.n_head * c.d_head, c.n_kv_head * c.d_head
        self.x, self.middle = torch.empty(n, c.d_model), torch.empty(n, c.d_model)
        self.inverse, self.middle_inverse = torch.empty(n), torch.empty(n)
        self.h, self.middle_h = torch.empty(n, c.d_model, dtype=BF16), torch.empty(n, c.d_model, dtype=BF16)
        self.qkv = torch.empty(n, wide + 2 * narrow, dtype=BF16)
        batch = rows * c.n_kv_head
        self.q = torch.empty(batch, tokens * c.n_group, c.d_head, dtype=BF16)
        self.k, self.v = (torch.empty(batch, tokens, c.d_head, dtype=BF16) for _ in range(2))
        sizes = [math.prod(b.get_shape(batch)) for b in make_query_blocks(tokens, c.n_group)]
        self.probabilities = [torch.empty(size, dtype=BF16) for size in sizes]
        self.y = torch.empty(n, wide, dtype=BF16)
        self.both, self.gated = torch.empty(n, 2 * c.d_ff, dtype=BF16), torch.empty(n, c.d_ff, dtype=BF16)


class FusedStep:
    """Computes the gradients of one model for batches of one shape; another shape reallocates the buffers."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.config = model, model.config
        self.weights = [_Weights(layer) for layer in model.layers]
        self.head = model.head.weight.detach().to(BF16)
        self.parameters = list(model.parameters())
        self.grads = [torch.zeros_like(parameter) for parameter in self.parameters]  # the same buffers at every step
        matrices = {id(p) for weights in self.weights for parts in weights.joined for p in parts}
        self.added_to = [g for g, p in zip(self.grads, self.parameters, strict=True) if id(p) not in matrices]
        self._is_first = True
        self._shape = (0, 0, 0)

    @torch.no_grad()
    def update(self) -> None:
        """Copy the model's weights, rounded to bf16."""
        targets, sources = [self.head], [self.model.head.weight.detach()]
        for weights in self.weights:
            targets += weights.parts(weights.copies)
            sources += [p.detach() for parts in weights.joined for p in parts]
        torch._foreach_copy_(targets, sources)

    @torch.no_grad()
    def add_gradients(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        documents: Int[Tensor, "B T"] | None,
        scale: float,
        weights: Float[Tensor, "B T"] | None = None,
        weigh: Weigh | None = None,
        soft: SoftTargets | None = None,
    ) -> float:
        """Add the gradients of `scale` times the weighted sum of nats to each parameter's `grad`. Return that sum. `weigh` computes
        the weights from the nats of this pass, and returns a loss that is then returned instead. With `soft` the nats are the mixed
        losses of model.network.soft_targets."""
        assert weigh is None or soft is None, "the weights of an objective are computed from plain nats"
        self._is_first = all(parameter.grad is None for parameter in self.parameters)
        if self._is_first:
            for parameter, grad in zip(self.parameters, self.grads, strict=True):
                parameter.grad = grad
            torch._foreach_zero_(self.added_to)
        ids, first, hidden = self._start(ids, documents)
        loss: float | None = None
        if weigh is not None:
            loss, weights = weigh(self._compute_nats(hidden, targets))
        nats = self._loss(hidden, targets.reshape(-1), None if weights is None else weights.reshape(-1), scale, soft)
        self._backward(ids, first)
        return nats if loss is None else loss

    @torch.no_grad()
    def compute_nats(
        self, ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], documents: Int[Tensor, "B T"] | None
    ) -> Float[Tensor, "B T"]:
        """Return the nats of each target, 0 where there is none: the values that `add_gradients` sums, without gradients."""
        _, _, hidden = self._start(ids, documents)
        return self._compute_nats(hidden, targets)

    @torch.no_grad()
    def compute_hidden(self, ids: Int[Tensor, "B T"], documents: Int[Tensor, "B T"] | None) -> Float[Tensor, "N D"]:
        """Return the final hidden states, in a buffer that the next pass overwrites."""
        return self._start(ids, documents)[2]

    def _start(
        self, ids: Int[Tensor, "B T"], documents: Int[Tensor, "B T"] | None
    ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"], Float[Tensor, "N D"]]:
        """Run the forward pass. Return ids, the first position that each token attends to, and the hidden states."""
        self._allocate(ids.shape[0], ids.shape[1])
        ids = ids.contiguous()
        first = compute_first_visible(ids, documents)
        self.blocks = skip_other_documents(self.all_blocks, first)
        return ids, first, self._forward(ids, first)

    def _allocate(self, rows: int, tokens: int) -> None:
        """Allocate all buffers for a batch shape and a number of threads, unless they already have these sizes."""
        shape = (rows, tokens, torch.get_num_threads())
        if self._shape == shape:
            return
        self._shape = shape
        c, threads, n = self.config, shape[2], rows * tokens
        self.kept = [_Activations(self.model, rows, tokens) for _ in range(c.n_layer)]
        self.x, self.inverse = torch.empty(n, c.d_model), torch.empty(n)
        self.hidden = torch.empty(n, c.d_model, dtype=BF16)
        self.delta = torch.empty(n, c.d_model, dtype=BF16)
        self.dx, self.dx_bf16 = torch.empty(n, c.d_model), torch.empty(n, c.d_model, dtype=BF16)
        self.dh = torch.empty(n, c.d_model, dtype=BF16)
        self.dgated, self.dboth = torch.empty(n, c.d_ff, dtype=BF16), torch.empty(n, 2 * c.d_ff, dtype=BF16)
        like = self.kept[0]
        self.dq, self.dk, self.dv = torch.empty_like(like.q), torch.empty_like(like.k), torch.empty_like(like.v)
        self.dqkv, self.dy = torch.empty_like(like.qkv), torch.empty_like(like.y)
        self.blocks = self.all_blocks = make_query_blocks(tokens, c.n_group)
        batch, widest = rows * c.n_kv_head, min(tokens, BLOCK_TOKENS) * c.n_group
        self.dprobabilities = torch.empty(max(map(len, like.probabilities)), dtype=BF16)
        self.heads = torch.empty(batch * widest * c.d_head, dtype=BF16)
        self.chunk = min(n, CHUNK_TOKENS)
        self.logits = torch.empty(self.chunk, c.vocab_size, dtype=BF16)
        self.dhead = torch.empty_like(self.head)
        self.nats = torch.empty(n)
        self.scratch = torch.empty(threads, max(tokens, c.vocab_size, c.d_head))
        self.dnorm, self.dquery, self.dkey = (torch.empty(threads, w) for w in (c.d_model, c.d_head, c.d_head))

    def _norm(self, x: Tensor, delta: Tensor | None, total: Tensor, weight: Tensor, h: Tensor, inverse: Tensor) -> None:
        eps = float(self.config.norm_eps)
        launch(kernels.add_norm, len(x), self.config.d_model, eps, x, delta, total, weight, h, inverse)

    def _forward(self, ids: Tensor, first: Tensor) -> Float[Tensor, "N D"]:
        c, n, tokens = self.config, ids.numel(), ids.shape[1]
        start = self.kept[0].x if self.kept else self.x
        torch.index_select(self.model.embedding.weight.detach(), 0, ids.view(-1), out=start)
        delta: Tensor | None = None
        x = start
        for layer, weights, kept in zip(self.model.layers, self.weights, self.kept, strict=True):
            attention = layer.attention
            self._norm(x, delta, kept.x, layer.attention_norm.weight, kept.h, kept.inverse)
            torch.mm(kept.h, weights.qkv.T, out=kept.qkv)
            sizes = (n, tokens, c.n_head, c.n_kv_head, c.d_head, float(c.norm_eps))
            norms = (attention.query_norm.weight, attention.key_norm.weight, self.model.cos, self.model.sin)
            launch(kernels.split_heads, *sizes, kept.qkv, kept.q, kept.k, kept.v, *norms)
            self._attend(kept, first)
            torch.mm(kept.y, weights.out.T, out=self.delta)
            self._norm(
                kept.x, self.delta, kept.middle, layer.feed_forward_norm.weight, kept.middle_h, kept.middle_inverse
            )
            torch.mm(kept.middle_h, weights.both.T, out=kept.both)
            launch(kernels.swiglu, n, c.d_ff, kept.both, kept.gated)
            torch.mm(kept.gated, weights.down.T, out=self.delta)
            x, delta = kept.middle, self.delta
        self._norm(x, delta, self.x, self.model.norm.weight, self.hidden, self.inverse)
        return self.hidden

    def _attend(self, kept: _Activations, first: Int[Tensor, "B T"]) -> None:
        """Compute y from q, k and v, and keep the probabilities for the backward pass."""
        rows, tokens = first.shape
        c = self.config
        for block, buffer in zip(self.blocks, kept.probabilities, strict=True):
            keys, block_probabilities = slice(block.base, block.stop), block.view(buffer, len(kept.q))
            torch.bmm(kept.q[:, block.first_row : block.last_row], kept.k[:, keys].mT, out=block_probabilities)
            sizes = (
                block_probabilities.shape[0] * block_probabilities.shape[1],
                tokens,
                c.n_kv_head,
                c.n_group,
                block.start,
                block.stop,
                block.base,
            )
            launch(kernels.causal_softmax, *sizes, block_probabilities, first, self.scratch)
            heads = self._get_head_buffer(block, len(kept.q))
            torch.bmm(block_probabilities, kept.v[:, keys], out=heads)
            self._view_by_token(kept.y, rows, block).copy_(self._view_by_head(heads, rows))

    def _get_head_buffer(self, block: _Block, batch: int) -> Tensor:
        """Return the buffer of one block's output, by head."""
        n_rows = block.last_row - block.first_row
        return self.heads[: batch * n_rows * self.config.d_head].view(batch, n_rows, self.config.d_head)

    def _view_by_head(self, heads: Tensor, rows: int) -> Tensor:
        return heads.view(rows, self.config.n_kv_head, -1, self.config.n_group, self.config.d_head)  # B G t H/G K

    def _view_by_token(self, y: Tensor, rows: int, block: _Block) -> Tensor:
        c = self.config
        return y.view(rows, -1, c.n_kv_head, c.n_group, c.d_head)[:, block.start : block.stop].transpose(1, 2)

    def _attend_backward(self, kept: _Activations, first: Int[Tensor, "B T"]) -> None:
        """Compute dq, dk and dv from dy."""
        rows, tokens = first.shape
        c = self.config
        self.dk.zero_()
        self.dv.zero_()
        for block, buffer in zip(self.blocks, kept.probabilities, strict=True):
            part, keys = slice(block.first_row, block.last_row), slice(block.base, block.stop)
            block_probabilities = block.view(buffer, len(kept.q))
            heads = self._get_head_buffer(block, len(kept.q))
            self._view_by_head(heads, rows).copy_(self._view_by_token(self.dy, rows, block))
            dprobabilities = self.dprobabilities[: block_probabilities.numel()].view_as(block_probabilities)
            torch.bmm(heads, kept.v[:, keys].mT, out=dprobabilities)
            self.dv[:, keys].baddbmm_(block_probabilities.mT, heads)
            sizes = (
                block_probabilities.shape[0] * block_probabilities.shape[1],
                tokens,
                c.n_kv_head,
                c.n_group,
                block.start,
                block.stop,
                block.base,
            )
            launch(kernels.causal_softmax_backward, *sizes, block_probabilities, dprobabilities, first)
            torch.bmm(dprobabilities, kept.k[:, keys], out=heads)
            self.dq[:, part].copy_(heads)
            self.dk[:, keys].baddbmm_(dprobabilities.mT, kept.q[:, part])

    def _loss(
        self,
        hidden: Float[Tensor, "N D"],
        targets: Int[Tensor, " N"],
        weights: Float[Tensor, " N"] | None,
        scale: float,
        soft: SoftTargets | None,
    ) -> float:
        """Return the weighted sum of nats and leave the gradient of the final hidden state in self.dh. Only positions with a target
        are projected."""
        head_grad = get_grad(self.model.head.weight)
        is_scored = targets != IGNORE
        n_scored = int(is_scored.sum())
        rows = None if n_scored == len(targets) else is_scored.nonzero()[:, 0]
        dh, soft = self.dh, None if soft is None else soft.flatten()
        if rows is not None:
            hidden, targets = hidden[rows], targets[rows]
            weights = None if weights is None else weights[rows]
            soft = None if soft is None else soft.select(rows)
            dh = torch.empty_like(hidden)
        for begin in range(0, len(targets), self.chunk):
            part = slice(begin, begin + self.chunk)
            h, wanted, nats = hidden[part], targets[part].contiguous(), self.nats[part]
            logits = self.logits[: len(h)]
            torch.mm(h, self.head.T, out=logits)
            sizes = (len(h), self.config.vocab_size, float(scale))
            weighted = None if weights is None else weights[part].contiguous()
            buffers = (logits, wanted, nats, self.scratch, weighted)
            if soft is None:
                launch(kernels.cross_entropy, *sizes, *buffers)
            else:
                launch(soft_cross_entropy, *sizes, *buffers, *_list_arguments(soft.select(part)))
            torch.mm(logits, self.head, out=dh[part])
            torch.mm(logits.T, h, out=self.dhead)
            head_grad.add_(self.dhead)
        if rows is not None:
            self.dh.zero_().index_copy_(0, rows, dh)
        return self.nats[: len(targets)].double().sum().item()

    def _compute_nats(self, hidden: Float[Tensor, "N D"], targets: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Return the nats of each target, 0 where there is none. Only positions with a target are projected."""
        wanted = targets.reshape(-1)
        rows = (wanted != IGNORE).nonzero()[:, 0]
        result = torch.zeros(len(wanted))
        for part in rows.split(self.chunk):
            logits, nats = self.logits[: len(part)], torch.empty(len(part))
            torch.mm(hidden[part], self.head.T, out=logits)
            sizes = (len(part), self.config.vocab_size, 0.0)
            launch(kernels.cross_entropy, *sizes, logits, wanted[part], nats, self.scratch)
            result[part] = nats
        return result.view_as(targets)

    def _norm_backward(self, x: Tensor, inverse: Tensor, weight: Tensor) -> None:
        dx = (self.dx, self.dx_bf16, self.dnorm)
        launch(kernels.norm_backward, len(x), self.config.d_model, self.dh, x, inverse, weight, *dx)
        get_grad(weight).add_(self.dnorm.sum(0))

    def _backward(self, ids: Int[Tensor, "B T"], first: Int[Tensor, "B T"]) -> None:
        c, n, tokens = self.config, ids.numel(), ids.shape[1]
        self.dx.zero_()
        self._norm_backward(self.x, self.inverse, self.model.norm.weight)
        for layer, weights, kept in zip(reversed(self.model.layers), self.weights[::-1], self.kept[::-1], strict=True):
            attention = layer.attention
            torch.mm(self.dx_bf16, weights.down, out=self.dgated)
            torch.mm(self.dx_bf16.T, kept.gated, out=weights.ddown)
            launch(kernels.swiglu_backward, n, c.d_ff, kept.both, self.dgated, self.dboth)
            torch.mm(self.dboth, weights.both, out=self.dh)
            torch.mm(self.dboth.T, kept.middle_h, out=weights.dboth)
            self._norm_backward(kept.middle, kept.middle_inverse, layer.feed_forward_norm.weight)
            torch.mm(self.dx_bf16, weights.out, out=self.dy)
            torch.mm(self.dx_bf16.T, kept.y, out=weights.dout)
            self._attend_backward(kept, first)
            shape = (n, tokens, c.n_head, c.n_kv_head, c.d_head, float(c.norm_eps))
            norms = (attention.query_norm.weight, attention.key_norm.weight, self.model.cos, self.model.sin)
            sums = (self.dqkv, self.dquery, self.dkey, self.scratch)
            launch(kernels.split_heads_backward, *shape, kept.qkv, self.dq, self.dk, self.dv, *norms, *sums)
            get_grad(attention.query_norm.weight).add_(self.dquery.sum(0))
            get_grad(attention.key_norm.weight).add_(self.dkey.sum(0))
            torch.mm(self.dqkv, weights.qkv, out=self.dh)
            torch.mm(self.dqkv.T, kept.h, out=weights.dqkv)
            self._norm_backward(kept.x, kept.inverse, layer.attention_norm.weight)
            targets = [get_grad(p) for parts in weights.joined for p in parts]
            if self._is_first:
                torch._foreach_copy_(targets, weights.parts(weights.grads))
                continue
            for target, grad in zip(targets, weights.parts(weights.grads), strict=True):
                target.add_(grad)
        launch(kernels.add_rows, n, c.d_model, ids, self.dx, self.model.embedding.weight.grad)


def _list_arguments(soft: SoftTargets) -> tuple[int | float | Tensor, ...]:
    """Return soft targets as the kernel's last arguments."""
    ids, log_probs = soft.ids.contiguous(), soft.log_probs.float().contiguous()
    return ids.shape[-1], float(soft.share), float(soft.temperature), ids, log_probs


def compute_first_visible(ids: Int[Tensor, "B T"], documents: Int[Tensor, "B T"] | None) -> Int[Tensor, "B T"]:
    """Return the first position that each token may attend to: 0, or the start of its document."""
    if documents is None:
        return torch.zeros_like(ids)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    is_start = torch.ones_like(ids, dtype=torch.bool)
    is_start[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return torch.where(is_start, positions, 0).cummax(1).values.contiguous()
