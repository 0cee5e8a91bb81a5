"""Seconds to nanoGPT's validation loss on Shakespeare's plays, by character, on a CPU: ours against nanoGPT.

nanoGPT trains 4 layers of 128 with a context of 64. Both run in their own process with tokens ready on disk, until the model is
saved and its loss on the last tenth of the text is known; imports and compilation count, and Numba's cache is empty. nanoGPT
runs the command of its README; ours is the pretrain stage with docs/recipes/shakespeare-char.yaml, whose loss is over all
windows of the last tenth, not over a sample. It is an error if our loss is higher.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measure import ROOT, Result, require_checkout, run_python
from model.tokenizer.kinds import train_char
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.storage.arrow import TokenFile
from pipeline.storage.tables import TOKEN_DOCS, TableWriter

RECIPE = ROOT / "docs" / "recipes" / "shakespeare-char.yaml"
TRAIN_FRAC = 0.9
NANOGPT = (
    "train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=100 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def run(*, nanogpt: Path | None = None) -> Result:
    """Return the seconds that each took. Raises: `UserError` without a checkout, or if our loss is higher."""
    source = require_checkout("time_to_loss", "nanogpt", nanogpt)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        checkout = prepare_nanogpt(source, place / "nanogpt")
        text = (checkout / "data" / "shakespeare_char" / "input.txt").read_text(encoding="utf-8")
        write_shards(text, place / "ours")
        our_seconds, our_loss = run_ours(place / "ours")
        their_seconds, their_loss = run_nanogpt(checkout)
    if our_loss > their_loss:
        raise UserError(
            "time_to_loss: our loss is higher", f"{our_loss:.4f} nats, nanoGPT {their_loss:.4f}", "train longer"
        )
    work = f"from start to validation loss {their_loss:.4f} (ours ends at {our_loss:.4f})"
    return Result(work, "s", our_seconds, their_seconds, "nanoGPT, the command of its README for a CPU", is_cost=True)


def prepare_nanogpt(checkout: Path, place: Path) -> Path:
    """Copy the checkout and prepare its data with its own script, which downloads the text if it is missing."""
    shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "*.bin", "*.pkl", "out*"))
    run_python(["prepare.py"], place / "data" / "shakespeare_char")
    return place


def run_nanogpt(checkout: Path) -> tuple[float, float]:
    """Return the seconds, and the last validation loss that it printed."""
    started = time.perf_counter()
    printed = run_python(NANOGPT.split(), checkout)
    seconds = time.perf_counter() - started
    return seconds, float(re.findall(r"val loss ([0-9.]+)", printed)[-1])


def run_ours(place: Path) -> tuple[float, float]:
    """Return the seconds of the stage, and its loss in nats per character."""
    shutil.copy(RECIPE, place / "params.yaml")
    command = "-m pipeline pretrain --shards shards --tokenizer tokenizer --out out --metrics metrics.json"
    started = time.perf_counter()
    run_python(
        command.split(), place, NUMBA_CACHE_DIR=str(place / "numba"), PYTHONPATH=str(ROOT), MINIGPT_PROCESSES="1"
    )
    seconds = time.perf_counter() - started
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    return seconds, metrics["heldout_bpb"] * math.log(2)


def write_shards(text: str, place: Path) -> None:
    """Write the first nine tenths as one training document and the rest as one held-out document: nanoGPT's split."""
    tokenizer = train_char(iter([text]), vocab_size=400)
    (place / "tokenizer").mkdir(parents=True)
    tokenizer.save(place / "tokenizer")
    shards = place / "shards"
    shards.mkdir()
    cut = int(len(text) * TRAIN_FRAC)
    manifest: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_sha256": tokenizer.sha256,
        "dtype": "uint16",
        "bos_id": tokenizer.get_special_id("bos"),
        "seed": 0,
    }
    with TableWriter(shards / "docs.parquet", TOKEN_DOCS) as table:
        for split, part in (("train", text[:cut]), ("val", text[cut:])):
            manifest[split] = _write_split(shards, split, part, tokenizer, table)
    (shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _write_split(shards: Path, split: str, text: str, tokenizer: Tokenizer, table: TableWriter) -> dict[str, Any]:
    file = TokenFile(shards / f"{split}-00000.arrow", pa.uint16())
    ids = [tokenizer.get_special_id("bos"), *tokenizer.encode(text)]
    file.write(pa.array(ids, pa.uint16()))
    file.close()
    size = {"n_tokens": len(ids), "n_bytes": len(text.encode())}
    row = {"id": split, "split": split, "start": 0, "source": "plays", "license": "", "title": "", **size}
    table.write(pa.Table.from_pylist([row], schema=TOKEN_DOCS))
    sha256 = hashlib.sha256(file.path.read_bytes()).hexdigest()
    return {**size, "n_docs": 1, "files": [{"name": file.path.name, "n_tokens": len(ids), "sha256": sha256}]}
