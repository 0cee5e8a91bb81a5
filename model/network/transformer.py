"""The decoder: RMSNorm, rotary position embeddings, QK norm, grouped-query attention, SwiGLU, no biases.

In: ids. Out: the hidden state after the final norm, and logits from it. The architecture is Qwen3's (Qwen team 2025), so an
export to software that supports it only renames weights. Memory and time: O(B T D) per layer plus attention, whose scores take
O(B H T T) where they are materialized (CPU) and no memory elsewhere.

Dimensions in shapes:
    B batch    T time     S time in the cache (past and present)    D d_model    F d_ff    V vocab_size
    H heads    G kv heads    K d_head

Papers: RMSNorm (Zhang & Sennrich 2019), RoPE (Su et al. 2021), GQA (Ainslie et al. 2023), SwiGLU (Shazeer 2020), QK norm
(Dehghani et al. 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from model.network.config import ModelConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (B H T K, B G T K, B G T K) → B H T K; applies its own mask
RunLayer = Callable[..., Tensor]  # (layer, its inputs …) → its output


class KVCache:
    """Keys and values of every layer, allocated once. The first `n_pad[b]` columns of row b are padding."""

    def __init__(
        self,
        config: ModelConfig,
        n_rows: int,
        n_tokens: int,
        *,
        n_pad: Int[Tensor, " B"] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.n_layer, n_rows, config.n_kv_head, n_tokens, config.d_head)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.n_filled = 0
        self._set_pad(n_pad)

    def keep_rows(self, rows: Int[Tensor, " R"]) -> None:
        """Drop all other rows (finished sequences), so that later steps cost less."""
        self.keys = self.keys[:, rows]
        self.values = self.values[:, rows]
        self._set_pad(None if self.n_pad is None else self.n_pad[rows])

    def make_row_cache(self, row: int) -> KVCache:
        """Return an empty cache of one row that shares its memory with a row of this one."""
        one = copy.copy(self)
        one.keys, one.values = self.keys[:, row : row + 1], self.values[:, row : row + 1]
        one.n_filled = 0
        one._set_pad(None)
        return one

    def _set_pad(self, n_pad: Int[Tensor, " B"] | None) -> None:
        self.n_pad = n_pad
        self.least_pad = 0 if n_pad is None else int(n_pad.min())


class RMSNorm(nn.Module):
    """Computes x / rms(x) * weight, with the root mean square in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*N W"]) -> Float[Tensor, "*N W"]:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def make_rope_tables(config: ModelConfig, n_tokens: int) -> tuple[Float[Tensor, "T K"], Float[Tensor, "T K"]]:
    """Return cosines and sines of position × θ^(-2i/K), each frequency twice: pair i rotates (x[i], x[i + K/2])."""
    exponents = torch.arange(0, config.d_head, 2, dtype=torch.float64) / config.d_head
    angles = torch.arange(n_tokens, dtype=torch.float64)[:, None] * config.rope_theta**-exponents
    angles = torch.cat((angles, angles), dim=-1)  # T K
    return angles.cos().float(), angles.sin().float()


def rotate(x: Float[Tensor, "B N T K"], cos: Float[Tensor, "*R T K"], sin: Float[Tensor, "*R T K"]) -> Tensor:
    """Apply rotary position embeddings."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention with QK norm and rotary position embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.d_head = config.n_head, config.n_kv_head, config.d_head
        self.query = nn.Linear(config.d_model, config.n_head * config.d_head, bias=False)
        self.key = nn.Linear(config.d_model, config.n_kv_head * config.d_head, bias=False)
        self.value = nn.Linear(config.d_model, config.n_kv_head * config.d_head, bias=False)
        self.out = nn.Linear(config.n_head * config.d_head, config.d_model, bias=False)
        self.query_norm = RMSNorm(config.d_head, config.norm_eps)
        self.key_norm = RMSNorm(config.d_head, config.norm_eps)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        cos: Float[Tensor, "*R T K"],
        sin: Float[Tensor, "*R T K"],
        mask: Bool[Tensor, "#B 1 T S"] | Attend | None,
        store: tuple[Tensor, Tensor, int] | None,
    ) -> Float[Tensor, "B T D"]:
        n_rows, n_tokens, _ = x.shape
        q = self.query(x).view(n_rows, n_tokens, self.n_head, self.d_head).transpose(1, 2)  # B H T K
        k = self.key(x).view(n_rows, n_tokens, self.n_kv_head, self.d_head).transpose(1, 2)  # B G T K
        v = self.value(x).view(n_rows, n_tokens, self.n_kv_head, self.d_head).transpose(1, 2)  # B G T K
        q = rotate(self.query_norm(q), cos, sin)
        k = rotate(self.key_norm(k), cos, sin)
        if store is not None:
            keys, values, start = store
            keys[:, :, start : start + n_tokens] = k
            values[:, :, start : start + n_tokens] = v
            k, v = keys[:, :, : start + n_tokens], values[:, :, : start + n_tokens]  # B G S K
        if mask is None or isinstance(mask, Tensor):
            y = attend(q, k, v, mask, is_causal=mask is None and n_tokens > 1)
        else:
            y = mask(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n_rows, n_tokens, self.n_head * self.d_head))


def attend(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S K"],
    mask: Bool[Tensor, "#B 1 T S"] | None,
    *,
    is_causal: bool,
) -> Float[Tensor, "B H T K"]:
    """Return the attention output; groups of H / G query heads share keys and values."""
    n_group = q.shape[1] // k.shape[1]
    if n_group > 1 and q.shape[2] == 1:
        # One token per row: heads that share keys are treated as tokens, so that the cache is not copied.
        y = F.scaled_dot_product_attention(
            q.view(q.shape[0], -1, n_group, q.shape[3]), k, v, attn_mask=mask
        )  # B G H/G K
        return y.view(q.shape)
    # On a GPU the flash kernel handles shared keys itself; with a mask or in fp32 another kernel runs, which does not.
    is_shared = n_group > 1 and q.is_cuda and mask is None and q.dtype != torch.float32
    if n_group > 1 and not is_shared:
        k = k.repeat_interleave(n_group, dim=1)
        v = v.repeat_interleave(n_group, dim=1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=is_shared)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """One pre-norm layer: attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | Attend | None,
        store: tuple[Tensor, Tensor, int] | None,
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask, store)
        return x + self.feed_forward(self.feed_forward_norm(x))


def run_layer(layer: Any, *inputs: Any) -> Tensor:
    """Run a layer and let autograd keep its activations."""
    return layer(*inputs)


class Transformer(nn.Module):
    """`forward` returns hidden states, which `compute_logits` or model.network.loss consume. Weights depend on `seed` only.

    Training can replace `run_layer` (model.training.activation_checkpointing) and `mask_documents`
    (model.training.document_blocks); both change memory and time, not the result.
    """

    layers: list[Layer]  # an nn.ModuleList, which is not generic
    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.run_layer: RunLayer = run_layer
        self.mask_documents: Callable[[Tensor], Tensor | Attend] = make_document_mask
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))  # pyright: ignore[reportAttributeAccessIssue]
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.is_tied:
            self.head.weight = self.embedding.weight
        cos, sin = make_rope_tables(config, config.seq_len)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Initialize matrices from a normal distribution with variance 1/fan-in, and the output projections of attention and
        feed-forward with zeros: every layer starts as the identity, so depth needs no scaling factor (ReZero, Bachlechner et al.
        2020; used by muP, Yang et al. 2022).
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0)
            elif name.endswith(("attention.out.weight", "feed_forward.down.weight")):
                parameter.zero_()
            elif name == "embedding.weight":
                parameter.normal_(0.0, 0.02 if self.config.is_tied else 1.0, generator=generator)
            elif name == "head.weight":
                parameter.zero_()
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        cache: KVCache | None = None,
        documents: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return hidden states. With a cache, `ids` continue it and are added to it. `documents` numbers the documents packed into
        a row: a token then attends to its own document only (positions are relative, so they need no restart).
        Raises: ValueError if the context window is full.
        """
        n_tokens = ids.shape[1]
        past = 0 if cache is None else cache.n_filled
        longest = past + n_tokens - (0 if cache is None else cache.least_pad)
        if longest > self.config.seq_len:
            raise ValueError(
                f"the context window is full: {longest} tokens, model.seq_len = {self.config.seq_len}; shorten the text"
            )
        mask = self.mask_documents(documents) if documents is not None else None
        cos, sin = self.cos[past : past + n_tokens], self.sin[past : past + n_tokens]  # T K
        if cache is not None and cache.n_pad is not None:
            positions = (torch.arange(past, past + n_tokens, device=ids.device) - cache.n_pad[:, None]).clamp(min=0)
            cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]  # B 1 T K
        if cache is not None and (cache.n_pad is not None or (past and n_tokens > 1)):
            mask = make_cache_mask(cache, n_tokens, ids.device)
        x = self.embedding(ids)
        for index, layer in enumerate(self.layers):
            store = None if cache is None else (cache.keys[index], cache.values[index], past)
            x = self.run_layer(layer, x, cos, sin, mask, store)
        if cache is not None:
            cache.n_filled = past + n_tokens
        return self.norm(x)

    def compute_logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Project hidden states onto the vocabulary."""
        return self.head(hidden)


def make_document_mask(documents: Int[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
    """Return the causal mask within documents."""
    n_tokens = documents.shape[1]
    causal = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=documents.device).tril()
    return ((documents[:, :, None] == documents[:, None, :]) & causal)[:, None]


def make_cache_mask(cache: KVCache, n_tokens: int, device: torch.device) -> Bool[Tensor, "#B 1 T S"]:
    """Return a causal mask that excludes left padding (a padding token attends to itself, or its softmax would be 0/0)."""
    last = torch.arange(cache.n_filled, cache.n_filled + n_tokens, device=device)
    columns = torch.arange(cache.n_filled + n_tokens, device=device)
    causal = columns <= last[:, None]  # T S
    if cache.n_pad is None:
        return causal[None, None]
    is_real = columns >= cache.n_pad[:, None]  # B S
    return ((causal & is_real[:, None]) | (columns == last[:, None]))[:, None]
