"""The gate keeps equal models out, lets better ones in and refuses planted regressions: real short runs, judged in real pairs.

Trains small models on the shards of the corpus: `n_seeds` of one recipe measure the noise of seeds as `pipeline.registry noise`
does; `n_pairs` pairs of further seeds are equal; the same champions against candidates with `better_steps` instead of `steps` are
better by what the table says. Regressions are planted into the equal candidates: noise on all weights, and a tokenizer in which
some entries are exchanged. Each candidate is judged by bits per byte of the same held-out documents. Needs data/shard and
data/train_tokenizer. Time: 8 seconds of one core per run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

from benchmarks.measure import ROOT, Result, Row
from model.network.folder import load_model
from model.network.score import compute_document_nats
from model.network.transformer import Transformer
from pipeline.evaluate.measure import HeldoutDocuments, read_documents
from pipeline.frame.errors import UserError
from pipeline.params import load_params
from pipeline.pretrain import stage
from pipeline.pretrain.params import Pretrain
from pipeline.registry.gate import Measurements, judge
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.params import Registry, SeedNoise

ARCHITECTURE = {"n_layer": 2, "n_head": 2, "n_kv_head": 1, "d_model": 64, "d_head": 32, "d_ff": 160, "seq_len": 128}
EVAL_TOKENS = 30_000
NOISE_FRAC = 0.25  # of each matrix's own standard deviation
SWAPPED_FRAC = 0.02  # of the vocabulary


@dataclass(frozen=True)
class Bench:
    """What all runs have in common."""

    params: Pretrain
    data: Path
    folder: Path
    documents: HeldoutDocuments

    def train(self, seed: int, steps: int) -> Transformer:
        """Return a model of this seed, trained for `steps`."""
        out = self.folder / f"{seed}-{steps}"
        training = self.params.training.model_copy(update={"seed": seed, "total_steps": steps, "eval_every": steps})
        for path in (out, out / "scratch", out / "model"):
            path.mkdir()
        stage.run(
            self.params.model_copy(update={"training": training}),
            shards=self.data / "shard",
            tokenizer=self.data / "train_tokenizer",
            scratch=out / "scratch",
            out=out / "model",
        )
        return load_model(out / "model")[0]

    def measure(self, model: Transformer) -> Measurements:
        """Return bits per byte of the held-out documents."""
        bits = compute_document_nats(model, self.documents.tokens).astype(np.float64) / np.log(2)
        ids = np.asarray(self.documents.ids)
        scores = ItemScores(ids, ids, bits, np.asarray(self.documents.n_bytes, dtype=np.float64), is_lower_better=True)
        return Measurements({"bpb": scores.value}, {"bpb": scores})


def run(
    *, n_seeds: int = 5, n_pairs: int = 6, steps: int = 60, better_steps: int = 75, data: Path = ROOT / "data"
) -> Result:
    """Return the share of candidates that were judged right, with a row per kind. Raises `UserError` without shards."""
    for name in ("shard", "train_tokenizer"):
        if not (data / name).is_dir():
            raise UserError("gate_errors: there is no corpus", f"no {data / name}", "run dvc repro shard first")
    settings = load_params(ROOT / "params.yaml")
    params = settings.pretrain.model_copy(
        update={
            "model": settings.pretrain.model.model_copy(update=ARCHITECTURE),
            "training": settings.pretrain.training.model_copy(update={"batch_rows": 16}),
            "data": settings.pretrain.data.model_copy(update={"growth": []}),
            "eval_tokens": 1_000,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        documents = read_documents(data / "shard", EVAL_TOKENS, 1)
        return _judge_all(Bench(params, data, Path(folder), documents), n_seeds, n_pairs, steps, better_steps)


def _judge_all(bench: Bench, n_seeds: int, n_pairs: int, steps: int, better_steps: int) -> Result:
    seeds = [bench.measure(bench.train(seed, steps)) for seed in range(1, n_seeds + 1)]
    sd = stdev(run.metrics["bpb"] for run in seeds)
    policy = Registry(
        goals=["bpb"],
        false_promotion=0.05,
        false_refusal=0.1,
        when_equal="keep",
        noise=SeedNoise(n_seeds=n_seeds, sd={"bpb": sd}),
    )
    champions = [bench.measure(bench.train(100 + index, steps)) for index in range(n_pairs)]
    equal = [bench.train(200 + index, steps) for index in range(n_pairs)]
    better = [bench.train(300 + index, better_steps) for index in range(n_pairs)]
    kinds: dict[str, tuple[Sequence[Transformer], bool]] = {
        "another seed": (equal, False),
        f"{better_steps} steps instead of {steps}": (better, True),
        f"noise of {NOISE_FRAC:.0%} on the weights": ([add_noise_to_weights(model) for model in equal], False),
        f"{SWAPPED_FRAC:.0%} of the tokenizer exchanged": ([swap_tokens(model) for model in equal], False),
    }
    rows: list[Row] = []
    n_right = 0
    for name, (models, is_better) in kinds.items():
        candidates = [bench.measure(model) for model in models]
        verdicts = [judge(policy, ours, theirs) for ours, theirs in zip(candidates, champions, strict=True)]
        n_right += sum(verdict.is_passed is is_better for verdict in verdicts)
        change = mean(
            ours.metrics["bpb"] - theirs.metrics["bpb"] for ours, theirs in zip(candidates, champions, strict=True)
        )
        outcomes = [verdict.outcome for verdict in verdicts]
        counts = {name: float(outcomes.count(name)) for name in ("better", "equal", "worse")}
        rows.append({"candidate": name, "bits/byte, mean change": change, "noise of seeds": sd, **counts})
    return Result("candidates judged right", "share", n_right / (len(kinds) * n_pairs), details=rows)


def add_noise_to_weights(model: Transformer) -> Transformer:
    """Return a copy with noise on every matrix: a checkpoint that was damaged."""
    copy, generator = deepcopy(model), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in copy.parameters():
            if weights.ndim > 1:
                weights += NOISE_FRAC * weights.std() * torch.randn(weights.shape, generator=generator)
    return copy


def swap_tokens(model: Transformer) -> Transformer:
    """Return a copy in which pairs of entries have each other's embedding: a tokenizer that is not the model's in some entries."""
    copy, vocab_size = deepcopy(model), model.config.vocab_size
    n = int(SWAPPED_FRAC * vocab_size / 2) * 2
    chosen = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(1))[:n]
    order = torch.arange(vocab_size)
    order[chosen] = chosen.flip(0)
    with torch.no_grad():
        copy.embedding.weight.copy_(copy.embedding.weight[order].clone())
    return copy
