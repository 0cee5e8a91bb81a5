"""Held-out bits per byte after five minutes of training on two cores, on the corpus of params.yaml.

Ours, nanoGPT's recipe and minimind's learn from the same documents and are asked for the same held-out ones. Ours is the pretrain
stage as params.yaml has it, with as many steps as fit, starting up included. nanoGPT runs its recipe for a CPU on our tokens
(characters, as that recipe has them, would take it further away), minimind runs benchmarks/train_minimind.py; for them what comes
before the first step is not counted. Needs data/filter, data/train_tokenizer, data/shard; MINUTES=5.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.measure import Result, python
from model.batches import TokenStream
from pipeline.errors import UserError
from pipeline.tables import read_shard, shard_paths

ROOT = Path(__file__).parent.parent
TRIAL_STEPS = 40
ALL = 1 << 40  # of the held-out tokens
NANOGPT = (
    "train.py config/train_shakespeare_char.py --dataset=corpus --device=cpu --compile=False --log_interval=10 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0 --always_save_checkpoint=False"
)


def run(*, nanogpt: Path | None = None, minimind: Path | None = None) -> Result:
    """Bits per byte; the better one of the peers counts."""
    if nanogpt is None and minimind is None:
        raise UserError(
            "five_minutes: no peer", "no --nanogpt PATH, no --minimind PATH", "give the folder of a checkout"
        )
    for name in ("filter", "train_tokenizer", "shard"):
        if not (ROOT / "data" / name).is_dir():
            raise UserError("five_minutes: there is no corpus", f"no data/{name}", "run dvc repro shard first")
    seconds = 60 * float(os.environ.get("MINUTES", "5"))
    peers: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ours = run_ours(place / "ours", seconds)
        if nanogpt is not None:
            peers["nanoGPT's recipe"] = run_nanogpt(nanogpt, place / "nanogpt", seconds)
        if minimind is not None:
            peers["minimind's recipe"] = run_minimind(minimind, place, seconds)
    table = Table("", "bits per byte", "ours is lower by", title=f"after {seconds / 60:g} minutes")
    table.add_row("MiniGPT", f"{ours:.3f}", "")
    for name, bpb in peers.items():
        table.add_row(name, f"{bpb:.3f}", f"{bpb - ours:.3f}")
    Console().print(table)
    best = min(peers, key=lambda name: peers[name])
    work = f"held out, after {seconds / 60:g} minutes of training; ours is lower by {peers[best] - ours:.3f}"
    return Result(work, "bits per byte", ours, peers[best], best, is_cost=True)


def run_ours(place: Path, seconds: float) -> float:
    """The pretrain stage, by launch as dvc.yaml has it: a short run tells how many steps fit, starting up included."""
    place.mkdir()
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    training = params["pretrain"]["training"]
    params["pretrain"]["eval_tokens"] = ALL

    def train(steps: int) -> tuple[float, dict[str, Any]]:
        training["total_steps"], training["eval_every"] = steps, steps
        with (place / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        shutil.rmtree(place / "out", ignore_errors=True)
        data = ROOT / "data"
        inputs = f"--shards {data / 'shard'} --tokenizer {data / 'train_tokenizer'} --out out --metrics metrics.json"
        started = time.perf_counter()
        python(["-m", "pipeline.launch", "pretrain", *inputs.split()], place, PYTHONPATH=str(ROOT))
        spent = time.perf_counter() - started
        return spent, json.loads((place / "metrics.json").read_text(encoding="utf-8"))

    short, _ = train(TRIAL_STEPS)
    long, _ = train(3 * TRIAL_STEPS)
    per_step = (long - short) / (2 * TRIAL_STEPS)
    steps = int((seconds - (short - TRIAL_STEPS * per_step)) / per_step)
    spent, metrics = train(steps)
    print(
        f"MiniGPT: {steps} steps, {metrics['tokens'] / 1e6:.1f} M tokens, {spent:.0f} s from start to end", flush=True
    )
    return metrics["heldout_bpb"]


def run_nanogpt(checkout: Path, place: Path, seconds: float) -> float:
    """Its loss over 400 batches of the held-out tokens, in bits per byte."""
    shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "*.bin", "*.pkl", "out*"))
    corpus = place / "data" / "corpus"
    corpus.mkdir()
    for split in ("train", "val"):
        stream = TokenStream(ROOT / "data" / "shard", split)
        stream.read(0, len(stream)).astype(np.uint16).tofile(corpus / f"{split}.bin")
    manifest = json.loads((ROOT / "data" / "shard" / "manifest.json").read_text(encoding="utf-8"))
    write = f"import pickle; pickle.dump({{'vocab_size': {manifest['vocab_size']}}}, open('meta.pkl', 'wb'))"
    python(["-c", write], corpus)

    def train(steps: int, eval_iters: int) -> str:
        flags = f"--max_iters={steps} --lr_decay_iters={steps} --eval_interval={steps} --eval_iters={eval_iters}"
        return python([*NANOGPT.split(), *flags.split()], place)

    trial = [float(ms) for ms in re.findall(r"time ([0-9.]+)ms", train(10 * TRIAL_STEPS, 1))]
    steps = int(seconds / (float(np.median(trial)) / 1000))
    printed = train(steps, 400)
    nats = float(re.findall(r"val loss ([0-9.]+)", printed)[-1])
    print(f"nanoGPT: {steps} steps, {steps * 12 * 64 / 1e6:.1f} M tokens", flush=True)
    val = manifest["val"]
    return nats / math.log(2) * val["n_tokens"] / val["n_bytes"]


def run_minimind(checkout: Path, place: Path, seconds: float) -> float:
    """Bits per byte of the beginnings of the held-out documents, which is all that its recipe reads of a document."""
    held_out: set[str] = set()
    for batch in read_shard(ROOT / "data" / "shard" / "docs.parquet", ["id", "split"]):
        held_out |= {row["id"] for row in batch.to_pylist() if row["split"] == "val"}
    paths = {split: place / f"{split}.jsonl" for split in ("train", "val")}
    with paths["train"].open("w", encoding="utf-8") as train, paths["val"].open("w", encoding="utf-8") as val:
        for shard in shard_paths(ROOT / "data" / "filter"):
            for batch in read_shard(shard, ["id", "text"]):
                for row in batch.to_pylist():
                    (val if row["id"] in held_out else train).write(json.dumps({"text": row["text"]}) + "\n")
    program = str(Path(__file__).with_name("train_minimind.py"))
    printed = python(["-P", program, str(paths["train"]), str(paths["val"]), str(seconds)], checkout)
    found = json.loads(printed.strip().splitlines()[-1])
    print(f"minimind: {found['steps']} steps, {found['parameters'] / 1e6:.2f} M parameters", flush=True)
    return found["nats"] / math.log(2) / found["bytes"]
