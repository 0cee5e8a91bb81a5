"""The configuration of a model: its sizes, derived sizes, and their cost in parameters and FLOPs (memory: model.planning.memory).

In: a handful of integers. Out: a frozen ModelConfig. Standard library only, so that a plan does not need torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes of a decoder with Qwen3's architecture. `n_*` are counts, `d_*` widths; `seq_len` is the context window in
    tokens."""

    vocab_size: int
    seq_len: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    d_head: int
    d_ff: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    is_tied: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"model.{field.name} must be an integer of at least 1, got {value!r}")
            if field.type == "bool" and not isinstance(value, bool):
                raise ValueError(f"model.{field.name} must be true or false, got {value!r}")
            if field.type == "float" and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise ValueError(f"model.{field.name} must be a number above 0, got {value!r}")
        if self.n_head % self.n_kv_head:
            raise ValueError(
                f"model.n_kv_head must divide model.n_head, got {self.n_kv_head} and {self.n_head}; "
                "choose a divisor (n_kv_head = n_head disables grouped-query attention)"
            )
        if self.d_head % 2:
            raise ValueError(f"model.d_head must be even, because rotary embeddings rotate pairs, got {self.d_head}")

    @property
    def n_group(self) -> int:
        """The number of query heads that share one key / value head."""
        return self.n_head // self.n_kv_head

    @property
    def n_layer_parameters(self) -> int:
        """The number of parameters of one layer."""
        attention = self.d_model * self.d_head * (2 * self.n_head + 2 * self.n_kv_head) + 2 * self.d_head
        return attention + 3 * self.d_model * self.d_ff + 2 * self.d_model

    @property
    def n_embedding_parameters(self) -> int:
        """The number of parameters of the embedding table; the output projection has as many again unless tied."""
        return self.vocab_size * self.d_model

    @property
    def n_parameters(self) -> int:
        """The number of parameters of the model; a tied table counts once."""
        tables = self.n_embedding_parameters * (1 if self.is_tied else 2)
        return tables + self.n_layer * self.n_layer_parameters + self.d_model

    def count_flops_per_token(self, seq_len: int | None = None, *, is_training: bool = True) -> int:
        """Return the FLOPs of the matrix products per token: 2 per weight forward, 6 with the backward pass, causal attention.

        The embedding lookup is free, the output projection is not (PaLM, Chowdhery et al. 2022, appendix B, but counting only
        the causal half of attention).
        """
        weights = self.n_layer * (self.n_layer_parameters - 2 * self.d_model - 2 * self.d_head)
        weights += self.n_embedding_parameters
        attention = self.n_layer * self.n_head * self.d_head * (self.seq_len if seq_len is None else seq_len)
        return (2 * weights + 2 * attention) * (3 if is_training else 1)

    def count_cache_bytes(self, n_rows: int = 1, n_tokens: int | None = None, bytes_per_value: int = 4) -> int:
        """Return the bytes of the KV cache."""
        n_tokens = self.seq_len if n_tokens is None else n_tokens
        return 2 * self.n_layer * self.n_kv_head * self.d_head * n_rows * n_tokens * bytes_per_value

    def to_dict(self) -> dict[str, Any]:
        """Return all sizes by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the configuration of these sizes. Raises: ValueError that names a missing or unknown key."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"model has unknown settings: {', '.join(unknown)}; the known ones are {', '.join(sorted(known))}"
            )
        needed = sorted(field for field in known - {"rope_theta", "norm_eps", "is_tied"} if field not in values)
        if needed:
            raise ValueError(f"model lacks settings: {', '.join(needed)}; add them")
        return cls(**values)
