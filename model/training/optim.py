"""The optimizer: Muon for the matrices inside the layers, AdamW for everything else, behind one object.

In: gradients on the parameters. Out: the parameters updated. Memory: one momentum per Muon matrix, two moments per AdamW
tensor. Time: five Newton-Schulz steps per matrix, O(m n min(m, n)) each; matrices of equal shape (after transposing) are
stacked into one batched product, because at 1-4 M parameters call overhead, not arithmetic, dominates.

Papers: Muon (Jordan et al. 2024), its scaling to AdamW's step size (Liu et al. 2025, Moonlight), AdamW (Loshchilov & Hutter 2019).
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# (torch._foreach_*: one call for many small tensors, 10 times faster here than a loop)
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.machine.distributed import World, count_rows_by_rank, gather_whole, get_local

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """Learning rates by kind of parameter. With `scale` "rms" the update of a matrix has the RMS of an AdamW update
    (0.2 √max(m, n)); with "spectral" its spectral norm is √max(1, m/n)."""

    matrix_lr: float = 0.02
    embedding_lr: float = 0.01
    head_lr: float = 0.01
    norm_lr: float = 0.01
    weight_decay: float = 0.0
    momentum: float = 0.95
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    newton_schulz_steps: int = 5
    scale: Literal["rms", "spectral"] = "rms"

    def __post_init__(self) -> None:
        for name in ("matrix_lr", "embedding_lr", "head_lr", "norm_lr", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"optim.{name} must be at least 0, got {getattr(self, name)}")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optim.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.scale not in ("rms", "spectral"):
            raise ValueError(f"optim.scale must be rms or spectral, got {self.scale!r}")


def get_grad(parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter, which must have one."""
    assert parameter.grad is not None
    return parameter.grad


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients down to a total norm of `limit` if it is larger. Return the norm before clipping, over the rows of all
    ranks if the parameters are sharded."""
    norm = gather_whole(torch.nn.utils.get_total_norm([get_grad(parameter) for parameter in parameters]))
    torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def orthogonalize(
    matrices: Float[Tensor, "N m n"], steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "N m n"]:
    """Return approximately the nearest semi-orthogonal matrix of each: an odd polynomial moves all singular values to about 1
    (cheapest for m ≤ n)."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


class Muon:
    """Muon: momentum, Nesterov, orthogonalization, decoupled weight decay. The state is keyed by parameter name, so that it
    does not depend on the order of parameters.

    With several ranks each orthogonalizes its share of every stack, and one all-reduce combines the shares (2.4 ms for 1.5 M bf16
    values between two CPU processes, where all of Newton-Schulz would take each of them 26 ms).
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        settings: OptimSettings,
        dtype: torch.dtype,
        world: World | None = None,
    ) -> None:
        self.settings, self.dtype, self.world = settings, dtype, world or World()
        self.parameters = dict(named)
        self.momentum = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in self.parameters.items()}
        self.groups: dict[tuple[int, int], list[str]] = {}
        for name, parameter in self.parameters.items():
            m, n = parameter.shape
            self.groups.setdefault((min(m, n), max(m, n)), []).append(name)

    @torch.no_grad()
    def step(self, multiplier: float) -> None:
        """Update every matrix. `multiplier` scales the learning rate."""
        stacks = [self._compute_directions(names) for names in self.groups.values()]
        self.world.sum_tensors(stacks)
        for names, stack in zip(self.groups.values(), stacks, strict=True):
            self._apply_updates(
                names, self._restore_orientation(names, stack.float()), multiplier * self.settings.matrix_lr
            )

    def _compute_directions(self, names: list[str]) -> Float[Tensor, "N m n"]:
        """Return the orthogonalized updates of a group, m ≤ n, with zeros for the matrices that other ranks compute."""
        momenta, grads = self._update_momenta(names)
        rank, n_ranks = self.world.rank, self.world.n_ranks
        mine = slice(len(names) * rank // n_ranks, len(names) * (rank + 1) // n_ranks)
        updates = (
            torch._foreach_lerp(grads[mine], momenta[mine], self.settings.momentum) if grads[mine] else []
        )  # Nesterov
        wide = [update if update.shape[0] <= update.shape[1] else update.T for update in updates]
        if n_ranks == 1:
            return orthogonalize(torch.stack(wide), self.settings.newton_schulz_steps, self.dtype)
        m, n = sorted(grads[0].shape)
        stack = torch.zeros(len(names), m, n, dtype=self.dtype, device=grads[0].device)
        if wide:
            stack[mine] = orthogonalize(torch.stack(wide), self.settings.newton_schulz_steps, self.dtype)
        return stack

    def _update_momenta(self, names: list[str]) -> tuple[list[Tensor], list[Tensor]]:
        """Update the momenta of a group. Return momenta and gradients, this rank's rows of them if they are sharded."""
        momenta = [get_local(self.momentum[name]) for name in names]
        grads = [get_local(get_grad(self.parameters[name])) for name in names]
        torch._foreach_lerp_(momenta, grads, 1 - self.settings.momentum)
        return momenta, grads

    def _restore_orientation(self, names: list[str], wide: Iterable[Tensor]) -> list[Tensor]:
        """Return each matrix in the shape of its parameter."""
        shapes = [self.parameters[name].shape for name in names]
        return [update if m <= n else update.T for update, (m, n) in zip(wide, shapes, strict=True)]

    def _apply_updates(self, names: list[str], updates: list[Tensor], lr: float) -> None:
        parameters: list[Tensor] = [get_local(self.parameters[name]) for name in names]
        if self.settings.weight_decay:
            torch._foreach_mul_(parameters, 1 - lr * self.settings.weight_decay)
        for name, parameter, update in zip(names, parameters, updates, strict=True):
            m, n = self.parameters[name].shape
            scale = 0.2 * max(m, n) ** 0.5 if self.settings.scale == "rms" else max(1.0, m / n) ** 0.5
            parameter.add_(update, alpha=-lr * scale)


class ShardedMuon(Muon):
    """The same updates for matrices whose rows are sharded over the ranks. A rank owns its share of every group: it receives their
    rows, orthogonalizes the whole matrices, and sends back to each rank the rows it holds. Groups are processed one at a time, so
    that beside the state a rank holds only a few copies of its share of one group. Communication: 2 × (1 - 1 / ranks) values per
    value of the matrices.
    """

    @torch.no_grad()
    def step(self, multiplier: float) -> None:
        for names in self.groups.values():
            momenta, grads = self._update_momenta(names)
            rows = [each.to(self.dtype) for each in torch._foreach_lerp(grads, momenta, self.settings.momentum)]
            self._apply_updates(names, self._orthogonalize_rows(names, rows), multiplier * self.settings.matrix_lr)

    def _orthogonalize_rows(self, names: list[str], rows: list[Tensor]) -> list[Tensor]:
        """Return this rank's rows of the orthogonalized updates, given its rows of each update."""
        rank, n_ranks = self.world.rank, self.world.n_ranks
        owned = [names[len(names) * r // n_ranks : len(names) * (r + 1) // n_ranks] for r in range(n_ranks)]
        mine, by_name = owned[rank], dict(zip(names, rows, strict=True))
        parts = self._exchange_rows(
            [[by_name[name] for name in part] for part in owned], [mine] * n_ranks, range(n_ranks)
        )
        gathered = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
        whole = [flat.view(self.parameters[name].shape) for name, flat in zip(mine, gathered, strict=True)]
        results: list[Tensor] = []
        if whole:
            stack = torch.stack([each if each.shape[0] <= each.shape[1] else each.T for each in whole])
            results = self._restore_orientation(
                mine, orthogonalize(stack, self.settings.newton_schulz_steps, self.dtype)
            )
        back = [result.reshape(-1).split(self._count_values(name)) for name, result in zip(mine, results, strict=True)]
        parts = self._exchange_rows([[pieces[r] for pieces in back] for r in range(n_ranks)], owned, [rank] * n_ranks)
        flat = [piece for part in parts for piece in part]
        return [piece.view(row.shape).float() for piece, row in zip(flat, rows, strict=True)]

    def _exchange_rows(
        self, sent: list[list[Tensor]], names: list[list[str]], whose: Iterable[int]
    ) -> list[list[Tensor]]:
        """Send `sent[r]` to rank r. Return what rank r sent here: the rows of each of `names[r]` that rank `whose[r]` holds,
        flat."""
        sizes = [[self._count_values(name)[holder] for name in each] for each, holder in zip(names, whose, strict=True)]
        empty = torch.empty(0, dtype=self.dtype, device=self.world.device)
        flat = [torch.cat([empty, *(tensor.reshape(-1) for tensor in part)]) for part in sent]
        received = self.world.exchange(flat, [sum(size) for size in sizes])
        return [list(part.split(size)) if size else [] for part, size in zip(received, sizes, strict=True)]

    def _count_values(self, name: str) -> list[int]:
        """Return how many values of a matrix each rank holds."""
        m, n = self.parameters[name].shape
        return [count * n for count in count_rows_by_rank(m, self.world.n_ranks)]


class FusedAdamW:
    """AdamW by torch's fused operator, one call per group, with the state of torch.optim.AdamW(fused=True).

    An optimizer of torch.optim imports torch._dynamo when it is made: 0.8 s, a tenth of the shortest runs.
    """

    def __init__(self, groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float) -> None:
        self.param_groups, self.betas, self.eps = groups, betas, eps
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            states = [self._get_state(parameter) for parameter in parameters]
            averages, squares, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                parameters,
                [get_grad(parameter) for parameter in parameters],
                averages,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=group["weight_decay"],
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def _get_state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


class Optimizer:
    """Both optimizers over one model. The state is a flat dict of tensors by parameter name, which safetensors stores as it is."""

    def __init__(
        self,
        model: nn.Module,
        settings: OptimSettings,
        *,
        muon_dtype: torch.dtype = torch.float32,
        world: World | None = None,
    ) -> None:
        self.settings = settings
        self.named = dict(model.named_parameters())  # a tied embedding appears once
        kinds = {name: classify_parameter(name, parameter) for name, parameter in self.named.items()}
        matrices = [(name, p) for name, p in self.named.items() if kinds[name] == "matrix"]
        muon = ShardedMuon if world is not None and world.is_sharded else Muon
        self.muon = muon(matrices, settings, muon_dtype, world)
        self.lrs = {"embedding": settings.embedding_lr, "head": settings.head_lr, "norm": settings.norm_lr}
        groups: list[dict[str, Any]] = []
        for kind, lr in self.lrs.items():
            parameters = [p for name, p in self.named.items() if kinds[name] == kind]
            decay = 0.0 if kind == "norm" else settings.weight_decay
            groups.append({"params": parameters, "kind": kind, "lr": lr, "weight_decay": decay})
        self.adam = FusedAdamW(groups, betas=(settings.beta1, settings.beta2), eps=settings.adam_eps)

    def step(self, multiplier: float) -> None:
        """Update every parameter. `multiplier` comes from the schedule and scales every learning rate."""
        for group in self.adam.param_groups:
            group["lr"] = self.lrs[group["kind"]] * multiplier
        self.muon.step(multiplier)
        self.adam.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return every tensor of the state, not copied."""
        state = {f"momentum.{name}": tensor for name, tensor in self.muon.momentum.items()}
        for name, parameter in self.named.items():
            for key, tensor in self.adam.state.get(parameter, {}).items():
                state[f"{key}.{name}"] = tensor
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy a state into this optimizer. Raises: ValueError if it belongs to another model."""
        expected = {f"momentum.{name}" for name in self.muon.momentum}
        given = {key for key in state if key.startswith("momentum.")}
        if expected != given:
            raise ValueError(
                f"the optimizer state belongs to another model: it has {len(given)} matrices instead of {len(expected)}; "
                "start with an empty checkpoint folder"
            )
        for name, tensor in self.muon.momentum.items():
            tensor.copy_(state[f"momentum.{name}"])
        for key, tensor in state.items():
            kind, _, name = key.partition(".")
            if kind != "momentum":
                device = "cpu" if kind == "step" and not self.named[name].is_cuda else self.named[name].device
                self.adam.state[self.named[name]][kind] = tensor.detach().clone().to(device)


def classify_parameter(name: str, parameter: Tensor) -> Literal["matrix", "embedding", "head", "norm"]:
    """Return which learning rate a parameter has."""
    if parameter.ndim < 2:
        return "norm"
    if name.startswith("embedding."):
        return "embedding"
    return "head" if name.startswith("head.") else "matrix"
