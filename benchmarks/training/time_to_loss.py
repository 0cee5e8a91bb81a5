"""Seconds to nanoGPT's validation loss on Shakespeare's plays, a character a token: 4 layers of 128, a window of 64, a CPU.

Both start as processes of their own with tokens ready on disk, and end when the model is saved and its loss on the last tenth of
the text known; importing and compiling count, Numba's cache is empty. nanoGPT runs its README's command; ours is the pretrain stage
with docs/recipes/shakespeare-char.yaml, whose loss is that of all windows of the last tenth, not of a sample. The claim holds only
if ours ends no higher, and is refused otherwise.
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

from benchmarks.measure import Result, python
from model.tokenizer import Tokenizer
from model.vocabulary import train_char
from pipeline.arrow_files import TokenFile
from pipeline.errors import UserError
from pipeline.tables import TOKEN_DOCS, TableWriter

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "docs" / "recipes" / "shakespeare-char.yaml"
TRAIN_FRAC = 0.9
NANOGPT = (
    "train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=100 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def run(*, nanogpt: Path | None = None) -> Result:
    """The seconds that each took. Raises: `UserError` without a checkout (the text is there), or if ours ends higher."""
    if nanogpt is None:
        raise UserError("time_to_loss: no peer", "no --nanogpt PATH", "git clone nanoGPT and give its folder")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        checkout = prepare_nanogpt(nanogpt, place / "nanogpt")
        text = (checkout / "data" / "shakespeare_char" / "input.txt").read_text(encoding="utf-8")
        write_shards(text, place / "ours")
        our_seconds, our_loss = run_ours(place / "ours")
        their_seconds, their_loss = run_nanogpt(checkout)
    if our_loss > their_loss:
        raise UserError(
            "time_to_loss: ours did not get there", f"{our_loss:.4f} nats, nanoGPT {their_loss:.4f}", "train longer"
        )
    work = f"from start to validation loss {their_loss:.4f} (ours ends at {our_loss:.4f})"
    return Result(work, "s", our_seconds, their_seconds, "nanoGPT, its README's command for a CPU", is_cost=True)


def prepare_nanogpt(checkout: Path, place: Path) -> Path:
    """A copy with its data prepared by its own script, which downloads the text where it is not there yet."""
    shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "*.bin", "*.pkl", "out*"))
    python(["prepare.py"], place / "data" / "shakespeare_char")
    return place


def run_nanogpt(checkout: Path) -> tuple[float, float]:
    """Seconds, and the last validation loss it printed."""
    started = time.perf_counter()
    printed = python(NANOGPT.split(), checkout)
    seconds = time.perf_counter() - started
    return seconds, float(re.findall(r"val loss ([0-9.]+)", printed)[-1])


def run_ours(place: Path) -> tuple[float, float]:
    """Seconds of the stage, and its loss in nats a character."""
    shutil.copy(RECIPE, place / "params.yaml")
    command = "-m pipeline pretrain --shards shards --tokenizer tokenizer --out out --metrics metrics.json"
    started = time.perf_counter()
    python(command.split(), place, NUMBA_CACHE_DIR=str(place / "numba"), PYTHONPATH=str(ROOT))
    seconds = time.perf_counter() - started
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    return seconds, metrics["heldout_bpb"] * math.log(2)


def write_shards(text: str, place: Path) -> None:
    """The first nine tenths as one document to train on, the rest as one held out: nanoGPT's split."""
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
        "bos_id": tokenizer.special("bos"),
        "seed": 0,
    }
    with TableWriter(shards / "docs.parquet", TOKEN_DOCS) as table:
        for split, part in (("train", text[:cut]), ("val", text[cut:])):
            manifest[split] = _write_split(shards, split, part, tokenizer, table)
    (shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _write_split(shards: Path, split: str, text: str, tokenizer: Tokenizer, table: TableWriter) -> dict[str, Any]:
    file = TokenFile(shards / f"{split}-00000.arrow", pa.uint16())
    ids = [tokenizer.special("bos"), *tokenizer.encode(text)]
    file.write(pa.array(ids, pa.uint16()))
    file.close()
    size = {"n_tokens": len(ids), "n_bytes": len(text.encode())}
    row = {"id": split, "split": split, "start": 0, "source": "plays", "licence": "", "title": "", **size}
    table.write(pa.Table.from_pylist([row], schema=TOKEN_DOCS))
    sha256 = _sha256(file.path)
    return {**size, "n_docs": 1, "files": [{"name": file.path.name, "n_tokens": len(ids), "sha256": sha256}]}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
