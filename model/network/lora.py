"""Low-rank adapters of a frozen model: LoRA, rsLoRA and DoRA.

In: a model, settings, a seed. Out: a few small parameters per adapted matrix W (out × in), and the matrix that they give:

    LoRA      W + s B A                          s = alpha / rank
    rsLoRA    the same with                      s = alpha / √rank
    DoRA      m (W + s B A) / ‖W + s B A‖        row by row; m starts as ‖W‖, the norm is a constant of the backward pass

B starts with zeros, so that an adapted model starts as its base. Nothing here computes a forward pass: matrices are written into
the model, whose passes, on any device, give each gradient dW, and by the chain rule dB = s dW Aᵀ, dA = s Bᵀ dW. So the kernels
for whole models train adapters too. Memory: the model, its gradients, and a copy of the adapted matrices. Time: that of a step of
the whole model, and O(rank × in × out) per matrix. Does not cover: dropout within the adapter, which needs a mask per token, and
adapters of the embedding, which is the head too.

Papers: LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024, section 4.3 for the constant norm).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.machine.distributed import World
from model.network.transformer import Transformer

TARGETS = {  # names in the settings → in a layer
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "out": "attention.out",
    "gate": "feed_forward.gate",
    "up": "feed_forward.up",
    "down": "feed_forward.down",
}
KINDS = ("lora", "rslora", "dora")
SMALLEST_NORM = 1e-12


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The kind of an adapter, its rank, and which matrices of each layer it adapts."""

    kind: Literal["lora", "rslora", "dora"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = tuple(TARGETS)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"adapter.kind must be one of {', '.join(KINDS)}; found {self.kind!r}; choose one.")
        if self.rank < 1:
            raise ValueError(f"adapter.rank must be at least 1; found {self.rank}; raise it.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"adapter.alpha must be above 0; found {self.alpha}; use about twice the rank.")
        unknown = sorted(set(self.targets) - TARGETS.keys())
        if unknown or not self.targets:
            found = ", ".join(unknown) or "none"
            raise ValueError(f"adapter.targets must be among {', '.join(TARGETS)}; found {found}; correct them.")

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / (self.rank**0.5 if self.kind == "rslora" else self.rank)


class LowRank(nn.Module):
    """The parameters of one adapted matrix; `magnitude` is for DoRA only."""

    def __init__(self, a: Float[Tensor, "R I"], b: Float[Tensor, "O R"], magnitude: Float[Tensor, " O"] | None) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)
        self.magnitude = None if magnitude is None else nn.Parameter(magnitude)


class LoraAdapter(nn.Module):
    """The parameters of all adapted matrices of a model, by the names of those matrices with `_` for `.`."""

    def __init__(self, model: Transformer, settings: LoraSettings, *, seed: int = 0) -> None:
        """Start with random A and zero B. Raises: ValueError for a rank above a matrix's."""
        super().__init__()
        self.settings = settings
        self.matrices = nn.ModuleDict()
        generator = torch.Generator().manual_seed(seed)
        for name, weight in find_targets(model, settings).items():
            n_out, n_in = weight.shape
            if settings.rank > min(n_out, n_in):
                raise ValueError(
                    f"adapter.rank must not exceed that of a matrix; found {settings.rank}, but {name} is {n_out} × {n_in}; "
                    "lower it, or leave this matrix out of adapter.targets."
                )
            a = torch.empty(settings.rank, n_in).uniform_(-(n_in**-0.5), n_in**-0.5, generator=generator)
            b = torch.zeros(n_out, settings.rank)
            magnitude = weight.detach().norm(dim=1) if settings.kind == "dora" else None
            self.matrices[name.replace(".", "_")] = LowRank(a.to(weight), b.to(weight), magnitude)

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def get(self, name: str) -> LowRank:
        """Return the parameters of the matrix with this name in the model, such as `layers.0.attention.query`."""
        matrix = self.matrices[name.replace(".", "_")]
        assert isinstance(matrix, LowRank)
        return matrix


def find_targets(model: Transformer, settings: LoraSettings) -> dict[str, nn.Parameter]:
    """Return the adapted matrices by name, layer by layer."""
    parameters = dict(model.named_parameters())
    names = [f"layers.{layer}.{TARGETS[each]}" for layer in range(model.config.n_layer) for each in settings.targets]
    return {name: parameters[f"{name}.weight"] for name in names}


def compute_weight(base: Float[Tensor, "O I"], matrix: LowRank, scale: float) -> Float[Tensor, "O I"]:
    """Return the matrix that an adapter gives."""
    whole = torch.addmm(base, matrix.b, matrix.a, alpha=scale)
    if matrix.magnitude is None:
        return whole
    return whole * (matrix.magnitude / compute_row_norms(whole).detach())[:, None]


def compute_row_norms(whole: Float[Tensor, "O I"]) -> Float[Tensor, " O"]:
    """Return the norm of each row, above 0: rows of an untrained base may be zeros."""
    return whole.norm(dim=1).clamp(min=SMALLEST_NORM)


def hash_weights(model: Transformer) -> str:
    """Return the SHA-256 of a model's sizes and weights, whatever file they were read from."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class AdaptedModel:
    """A base model and an adapter. `base` has copies of the adapted matrices, which `write_weights` replaces in the model."""

    def __init__(self, model: Transformer, adapter: LoraAdapter) -> None:
        self.model, self.adapter = model, adapter
        self.base_sha256 = hash_weights(model)
        self.base = {name: weight.detach().clone() for name, weight in find_targets(model, adapter.settings).items()}

    @property
    def module(self) -> nn.Module:
        return self.adapter

    def move_to(self, world: World) -> None:
        """Move adapter and base to the device where the model is. Raises: ValueError if the model is sharded."""
        if world.is_sharded:
            raise ValueError(
                "an adapter can't be trained with sharded weights; found MINIGPT_SHARDING=full; set it to none."
            )
        self.adapter.to(world.device)
        self.base = {name: weight.to(world.device) for name, weight in self.base.items()}

    @torch.no_grad()
    def write_weights(self) -> None:
        """Write the matrices that the adapter gives into the model."""
        for name, weight in find_targets(self.model, self.adapter.settings).items():
            weight.copy_(compute_weight(self.base[name], self.adapter.get(name), self.adapter.settings.scale))

    @torch.no_grad()
    def restore_base(self) -> None:
        """Write the matrices of the base into the model."""
        for name, weight in find_targets(self.model, self.adapter.settings).items():
            weight.copy_(self.base[name])

    @torch.no_grad()
    def set_gradients(self) -> None:
        """Set the gradients of the adapter's parameters, from those of the model's matrices."""
        for name, weight in find_targets(self.model, self.adapter.settings).items():
            assert weight.grad is not None
            set_matrix_gradients(self.base[name], self.adapter.get(name), self.adapter.settings.scale, weight.grad)


def set_matrix_gradients(base: Float[Tensor, "O I"], matrix: LowRank, scale: float, grad: Float[Tensor, "O I"]) -> None:
    """Set the gradients of one adapted matrix's parameters, given that of the matrix."""
    if matrix.magnitude is not None:
        whole = torch.addmm(base, matrix.b, matrix.a, alpha=scale)
        norm = compute_row_norms(whole)
        matrix.magnitude.grad = (grad * whole).sum(1) / norm
        grad = grad * (matrix.magnitude / norm)[:, None]
    matrix.b.grad = scale * grad @ matrix.a.T
    matrix.a.grad = scale * matrix.b.T @ grad
