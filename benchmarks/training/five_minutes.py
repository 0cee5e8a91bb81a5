"""Held-out bits per byte after five minutes of training on a CPU: ours against the recipes of nanoGPT and minimind.

All train on the same documents of the corpus of params.yaml and are evaluated on the same held-out ones. Ours is the pretrain
stage of params.yaml with as many steps as fit, startup included. nanoGPT runs its recipe for a CPU on our tokens (its own,
characters, would do worse), minimind runs benchmarks/peers/train_minimind.py; for both, time before the first step is not
counted. Needs data/filter, data/train_tokenizer and data/shard.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.measure import ROOT, Result, Row, require_checkout, run_python
from model.data.batches import TokenStream
from pipeline.frame.errors import UserError
from pipeline.storage.tables import list_shards, read_shard

TRIAL_STEPS = 40
NANOGPT = (
    "train.py config/train_shakespeare_char.py --dataset=corpus --device=cpu --compile=False --log_interval=10 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0 --always_save_checkpoint=False"
)


def run(*, nanogpt: Path | None = None, minimind: Path | None = None, minutes: float = 5.0) -> Result:
    """Return bits per byte, ours and the better peer's. Raises: `UserError` without a checkout or a corpus."""
    if nanogpt is None and minimind is None:
        found, todo = "no --nanogpt, no --minimind", "clone a peer and pass --nanogpt PATH or --minimind PATH"
        raise UserError("five_minutes: a checkout of a peer is needed", found, todo)
    peers: dict[str, tuple[Callable[[Path, Path, float], float], Path]] = {}
    if nanogpt is not None:
        peers["nanoGPT's recipe"] = run_nanogpt, require_checkout("five_minutes", "nanogpt", nanogpt)
    if minimind is not None:
        peers["minimind's recipe"] = run_minimind, require_checkout("five_minutes", "minimind", minimind)
    for name in ("filter", "train_tokenizer", "shard"):
        if not (ROOT / "data" / name).is_dir():
            raise UserError("five_minutes: there is no corpus", f"no data/{name}", "run dvc repro shard first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = run_ours(folder / "ours", 60 * minutes)
        losses = {peer: train(path, folder / peer, 60 * minutes) for peer, (train, path) in peers.items()}
    rows: list[Row] = [
        {"": peer, "bits per byte": loss, "ours is lower by": loss - ours} for peer, loss in losses.items()
    ]
    best = min(losses, key=lambda peer: losses[peer])
    work = f"held-out loss after {minutes:g} minutes of training"
    return Result(work, "bits/byte", ours, losses[best], best, is_cost=True, details=rows)


def run_ours(place: Path, seconds: float) -> float:
    """Run the pretrain stage as in dvc.yaml; short runs determine how many steps fit, startup included."""
    place.mkdir()
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    training = params["pretrain"]["training"]
    params["pretrain"]["eval_tokens"] = 1 << 40  # all held-out tokens

    def train(steps: int) -> tuple[float, dict[str, Any]]:
        training["total_steps"], training["eval_every"] = steps, steps
        with (place / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        shutil.rmtree(place / "out", ignore_errors=True)
        data = ROOT / "data"
        inputs = f"--shards {data / 'shard'} --tokenizer {data / 'train_tokenizer'} --out out --metrics metrics.json"
        started = time.perf_counter()
        run_python(["-m", "pipeline", "pretrain", *inputs.split()], place, PYTHONPATH=str(ROOT))
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
    """Return its loss over 400 batches of the held-out tokens, in bits per byte."""
    shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "*.bin", "*.pkl", "out*"))
    corpus = place / "data" / "corpus"
    corpus.mkdir()
    for split in ("train", "val"):
        stream = TokenStream(ROOT / "data" / "shard", split)
        stream.read(0, len(stream)).astype(np.uint16).tofile(corpus / f"{split}.bin")
    manifest = json.loads((ROOT / "data" / "shard" / "manifest.json").read_text(encoding="utf-8"))
    write = f"import pickle; pickle.dump({{'vocab_size': {manifest['vocab_size']}}}, open('meta.pkl', 'wb'))"
    run_python(["-c", write], corpus)

    def train(steps: int, eval_iters: int) -> str:
        flags = f"--max_iters={steps} --lr_decay_iters={steps} --eval_interval={steps} --eval_iters={eval_iters}"
        return run_python([*NANOGPT.split(), *flags.split()], place)

    trial = [float(ms) for ms in re.findall(r"time ([0-9.]+)ms", train(10 * TRIAL_STEPS, 1))]
    steps = int(seconds / (float(np.median(trial)) / 1000))
    printed = train(steps, 400)
    nats = float(re.findall(r"val loss ([0-9.]+)", printed)[-1])
    print(f"nanoGPT: {steps} steps, {steps * 12 * 64 / 1e6:.1f} M tokens", flush=True)
    val = manifest["val"]
    return nats / math.log(2) * val["n_tokens"] / val["n_bytes"]


def run_minimind(checkout: Path, place: Path, seconds: float) -> float:
    """Return bits per byte of the beginnings of the held-out documents: its recipe reads no more of a document."""
    place.mkdir()
    held_out: set[str] = set()
    for batch in read_shard(ROOT / "data" / "shard" / "docs.parquet", ["id", "split"]):
        held_out |= {row["id"] for row in batch.to_pylist() if row["split"] == "val"}
    paths = {split: place / f"{split}.jsonl" for split in ("train", "val")}
    with paths["train"].open("w", encoding="utf-8") as train, paths["val"].open("w", encoding="utf-8") as val:
        for shard in list_shards(ROOT / "data" / "filter"):
            for batch in read_shard(shard, ["id", "text"]):
                for row in batch.to_pylist():
                    (val if row["id"] in held_out else train).write(json.dumps({"text": row["text"]}) + "\n")
    program = str(ROOT / "benchmarks" / "peers" / "train_minimind.py")
    printed = run_python(["-P", program, str(paths["train"]), str(paths["val"]), str(seconds)], checkout)
    found = json.loads(printed.strip().splitlines()[-1])
    print(f"minimind: {found['steps']} steps, {found['parameters'] / 1e6:.2f} M parameters", flush=True)
    return found["nats"] / math.log(2) / found["bytes"]
