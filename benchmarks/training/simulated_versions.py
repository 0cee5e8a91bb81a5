"""Simulate pairs of versions as the gate sees them: scores of items whose noise is that of real runs. Pure but for the generator.

A version is a recipe and a seed. Bits per byte: every document has a level of its own, an effect of the seed on it, and the seed
shifts all documents together. Right and wrong: every item has a difficulty, the seed shifts the skill and decides what is on the
edge. `Recipe` holds how good a recipe is; `SeedSpread` the noise, by default that of default runs. As in practice, the noise of the
policy is measured on five further seeds of the champion's recipe, and is as uncertain as that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import stdev

import numpy as np
from numpy.typing import NDArray

from pipeline.registry.gate import Measurements, Verdict, judge
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.params import Registry, SeedNoise

N_SEEDS = 5
TURNS_PER_CONVERSATION = 2
POLICY = Registry(
    goals=["bpb", "user_turns_acceptable_frac"],
    false_promotion=0.05,
    false_refusal=0.1,
    when_equal="keep",
    noise=None,
    at_most={"leaked_items_frac": 0.02},
)


@dataclass(frozen=True)
class SeedSpread:
    """How much seeds differ: of bits per byte together and per document, of a skill together, and of items on the edge."""

    bpb_sd: float = 0.003  # three seeds of the default: 0.0025 (docs/log.md, 2026-11-20)
    document_bpb_sd: float = 0.05
    skill_sd: float = 0.004  # of the fraction right
    edge_frac: float = 0.03  # of the items: right or wrong by chance


@dataclass(frozen=True)
class Recipe:
    """How good a recipe is. `skills`: fraction right by metric; `turns`: fraction of acceptable turns."""

    bpb: float = 1.4
    turns: float = 0.85
    skills: tuple[float, ...] = (0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.9, 0.86)
    leaked_frac: float = 0.007


@dataclass(frozen=True)
class Items:
    """The held-out items that all versions share: documents with sizes and levels, items with difficulties from 0 to 1."""

    n_bytes: NDArray[np.float64]
    levels: NDArray[np.float64]
    skills: NDArray[np.float64]  # by skill and item
    turns: NDArray[np.float64]
    names: Mapping[str, NDArray[np.str_]]


def draw_items(rng: np.random.Generator, n_docs: int = 300, n_items: int = 200, n_turns: int = 390) -> Items:
    """Return held-out items for versions with as many skills as `Recipe` has by default."""
    numbers = {"document": n_docs, "item": n_items, "turn": n_turns, "conversation": n_turns // TURNS_PER_CONVERSATION}
    names = {kind: np.array([f"{kind}{i:05d}" for i in range(n)]) for kind, n in numbers.items()}
    return Items(
        rng.integers(50, 5_000, n_docs).astype(np.float64),
        0.3 * rng.standard_normal(n_docs),
        rng.random((len(Recipe().skills), n_items)),
        rng.random(n_turns),
        names,
    )


def make_version(rng: np.random.Generator, items: Items, recipe: Recipe, spread: SeedSpread) -> Measurements:
    """Return what evaluate measures for a version of this recipe with a random seed."""
    bpb = recipe.bpb + items.levels + spread.bpb_sd * rng.standard_normal()
    bpb = bpb + spread.document_bpb_sd * rng.standard_normal(len(items.levels))
    names = items.names
    scores = {
        "bpb": ItemScores(
            names["document"], names["document"], items.n_bytes * bpb, items.n_bytes, is_lower_better=True
        )
    }
    conversations = np.repeat(names["conversation"], TURNS_PER_CONVERSATION)
    scores["user_turns_acceptable_frac"] = ItemScores(
        names["turn"], conversations, _answer(rng, items.turns, recipe.turns, spread), np.ones(len(items.turns))
    )
    for index, fraction in enumerate(recipe.skills):
        answers = _answer(rng, items.skills[index], fraction, spread)
        scores[f"skill_{index}_frac"] = ItemScores(names["item"], names["item"], answers, np.ones(len(answers)))
    metrics = {name: each.value for name, each in scores.items()} | {"leaked_items_frac": recipe.leaked_frac}
    return Measurements(metrics, scores)


def _answer(
    rng: np.random.Generator, difficulties: NDArray[np.float64], fraction: float, spread: SeedSpread
) -> NDArray[np.float64]:
    """Return 1 for the items that are easier than the skill is good; those within `edge_frac` of that, by chance."""
    level = min(max(fraction + spread.skill_sd * rng.standard_normal(), 0.0), 1.0)
    noise = spread.edge_frac * (rng.random(len(difficulties)) - 0.5) * 2
    return (difficulties + (noise if fraction < 1 else 0.0) < level).astype(np.float64)


def measure_noise(runs: list[Measurements]) -> SeedNoise:
    """Return the noise of the policy, as `python -m pipeline.registry noise` measures it."""
    return SeedNoise(n_seeds=len(runs), sd={name: stdev(run.metrics[name] for run in runs) for name in runs[0].items})


def judge_pairs(
    n_pairs: int,
    change: Callable[[Recipe], Recipe],
    *,
    seed: int = 1,
    spread: SeedSpread | None = None,
    policy: Registry = POLICY,
) -> list[Verdict]:
    """Return the verdicts on `n_pairs` candidates whose recipe is the champion's, changed; every pair has noise and items anew."""
    rng, spread, champion = np.random.default_rng(seed), spread or SeedSpread(), Recipe()
    verdicts: list[Verdict] = []
    for _ in range(n_pairs):
        items = draw_items(rng)
        noise = measure_noise([make_version(rng, items, champion, spread) for _ in range(N_SEEDS)])
        ours = make_version(rng, items, change(champion), spread)
        theirs = make_version(rng, items, champion, spread)
        verdicts.append(judge(policy.model_copy(update={"noise": noise}), ours, theirs))
    return verdicts


def lose_in_one_skill(points: float) -> Callable[[Recipe], Recipe]:
    """Return a change that loses so many points of 100 in the fifth skill."""

    def change(recipe: Recipe) -> Recipe:
        skills = list(recipe.skills)
        skills[4] -= points / 100
        return replace(recipe, skills=tuple(skills))

    return change


def damage(recipe: Recipe) -> Recipe:
    """Return what noise on a checkpoint does: text and every skill are worse."""
    return replace(recipe, bpb=recipe.bpb + 0.08, skills=tuple(each - 0.05 for each in recipe.skills))


def leak(recipe: Recipe) -> Recipe:
    """Return what training on the answers does: all skills are perfect, and the items are found in training."""
    return replace(recipe, skills=(1.0,) * len(recipe.skills), leaked_frac=1.0)
