"""Train a smaller model on a teacher's distributions: a teacher, token shards and conversations → a student's model folder.

The student has the teacher's tokenizer and sizes of its own. It learns text first, then conversations (the assistant's tokens
only); the loss mixes cross-entropy with the divergence from the teacher's k most likely tokens (model.network.soft_targets). These
are computed once, into scratch/teacher (pipeline.distill.teacher_cache), and deleted with the scratch folder when the run is done.
With `train_alone` the same student is trained a second time without the teacher, on the same batches, into the folder `alone`;
comparison.json has the sizes and held-out measures of all three.

Resumes like `pretrain` and `sft`. Memory: that of the student's training, and before it the teacher's weights and one batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model.data.batches import Batches, Conversation
from model.machine.distributed import World
from model.network.config import ModelConfig
from model.network.folder import load_model
from model.network.quantize import count_weight_bytes
from model.network.transformer import Transformer
from model.tokenizer.chat import messages_from_json, render
from model.tokenizer.tokenizer import Tokenizer
from model.training.compute import choose_compute
from pipeline.distill.heldout_quality import HeldoutQuality
from pipeline.distill.params import Distill
from pipeline.distill.student_batches import TaughtBatches, make_student_batches, open_text
from pipeline.distill.teacher_cache import TeacherCache, check_cache_size, count_targets
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar
from pipeline.storage.tables import read_table
from pipeline.training.phase import open_world, run_training


@dataclass(frozen=True)
class StudentRun:
    """What the two runs of a student share."""

    params: Distill
    tokenizer: Tokenizer
    config: ModelConfig
    quality: HeldoutQuality
    world: World

    def train(self, batches: Batches, scratch: Path, out: Path) -> Metrics:
        """Train a student from the same initial weights and write its folder."""
        scratch.mkdir(parents=True, exist_ok=True)
        return run_training(
            "distill",
            Transformer(self.config, seed=self.params.training.seed),
            self.tokenizer,
            batches,
            self.params.training,
            evaluate=self.quality.measure,
            documents_of=lambda number: [],
            world=self.world,
            scratch=scratch,
            out=out,
        )


def run(params: Distill, *, teacher: Path, shards: Path, conversations: Path, scratch: Path, out: Path) -> Metrics:
    """Train and write the student's folder.

    Raises: `UserError` for a teacher with another tokenizer than the shards, a cache that would be too large, or no conversations.
    """
    taught_by, tokenizer, _ = load_model(teacher)
    check_window(params, taught_by)
    verified = scratch / "verified.jsonl"
    stream, held_out = (
        open_text(shards, split, tokenizer, params.model.seq_len, verified) for split in ("train", "val")
    )
    talks = read_conversations(conversations / "train.parquet", tokenizer)
    if not talks:
        raise UserError("distill: no conversations to train on", f"none in {conversations}", "raise conversations.n_*")
    batches = make_student_batches(params, stream, talks, tokenizer)
    quality = HeldoutQuality(
        held_out, read_conversations(conversations / "heldout.parquet", tokenizer), tokenizer, params
    )
    config = ModelConfig(vocab_size=taught_by.config.vocab_size, **params.model.model_dump())
    with open_world() as world:
        student = StudentRun(params, tokenizer, config, quality, world)
        cache, n_bytes = fill_cache(params, taught_by, batches, world, scratch / "teacher")
        taught = TaughtBatches(batches, cache, params.share, params.temperature)
        metrics = student.train(taught, scratch, out)
        alone = student.train(batches, scratch / "alone", out / "alone") if params.train_alone else {}
        if not world.is_main:
            return {}
    rows = compare_models(taught_by, out, alone, quality)
    (out / "comparison.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(format_comparison(rows), flush=True)
    flat = {f"{name}_{key}": value for name, row in rows.items() if name != "student" for key, value in row.items()}
    return metrics | rows["student"] | flat | {"teacher_cache_bytes": n_bytes}


def check_window(params: Distill, teacher: Transformer) -> None:
    """Raise `UserError` for rows that are longer than the teacher's window."""
    if params.model.seq_len > teacher.config.seq_len:
        raise UserError(
            "distill.model.seq_len exceeds the teacher's window",
            f"{params.model.seq_len}, the teacher's {teacher.config.seq_len} tokens",
            f"set at most {teacher.config.seq_len}",
        )


def fill_cache(
    params: Distill, teacher: Transformer, batches: Batches, world: World, folder: Path
) -> tuple[TeacherCache, int]:
    """Return the cache of the teacher's distributions, of which each process computes a share, and its bytes."""
    n_steps, vocab_size = params.training.total_steps, teacher.config.vocab_size
    n_bytes = check_cache_size(count_targets(batches, n_steps), params.top_k, vocab_size, params.max_cache_mb)
    cache = TeacherCache(folder, n_steps, params.top_k, vocab_size)
    log = print if world.is_main else (lambda _: None)
    log(f"distill: the teacher's distributions take {n_bytes / 1e6:,.0f} MB in {folder}")
    compute = choose_compute(
        teacher.to(world.device),
        precision="auto",
        use_kernels=True,
        use_compile=False,  # a forward pass over one epoch at most
        log=lambda text: log(f"distill: {text}"),
    )
    compute.update()
    share = cache.list_share(world.rank, world.n_ranks)
    with Bar("teacher", sum(map(len, share)), "steps", is_shown=world.is_main) as bar:
        for n_done in cache.build(batches, compute, teacher.head.weight, params.temperature, share):
            bar.advance(n_done)
    world.barrier()
    return cache, n_bytes


def read_conversations(path: Path, tokenizer: Tokenizer) -> list[Conversation]:
    """Read conversations and render them with the chat template into ids and loss masks."""
    rendered = [
        render(messages_from_json(json.loads(text.as_py())), tokenizer)
        for text in read_table(path, ["messages"]).column("messages")
    ]
    return [Conversation(np.array(ids, dtype=np.int32), np.array(mask)) for ids, mask in rendered]


@torch.no_grad()
def compare_models(teacher: Transformer, out: Path, alone: Metrics, quality: HeldoutQuality) -> dict[str, Metrics]:
    """Return sizes and held-out measures, in fp32, of the teacher, the student and the student without a teacher."""
    models = {"teacher": teacher.cpu(), "student": load_model(out)[0]}
    if alone:
        models["alone"] = load_model(out / "alone")[0]
    return {
        name: {
            "n_params": model.config.n_parameters,
            "float32_bytes": count_weight_bytes(model.config, "float32"),
            **quality.measure(model),
        }
        for name, model in models.items()
    }


def format_comparison(rows: Mapping[str, Metrics]) -> str:
    """Return a printable table of sizes and held-out measures, one line per model."""
    lines = [f"{'':9}{'parameters':>12}{'MB':>8}{'bpb':>8}{'nats':>8}{'right':>8}"]
    lines += [
        f"{name:9}{row['n_params']:>12,}{row['float32_bytes'] / 1e6:>8.2f}{row['bpb']:>8.3f}{row['loss_nats']:>8.3f}"
        f"{row['right_frac']:>8.1%}"
        for name, row in rows.items()
    ]
    return "\n".join(lines)
