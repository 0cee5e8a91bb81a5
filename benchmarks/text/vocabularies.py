"""Our vocabulary against those of GPT-2 and cl100k: bytes per token by source, on held-out documents.

In: the documents and the tokenizer of a finished run, and vocabularies that are on this machine: files given by `--vocabularies
NAME=FILE,…` (a tokenizer.json, or a .tiktoken file named after its encoding), and GPT-2's and cl100k's where tiktoken or the
client of the Hugging Face hub has stored them. Nothing is downloaded. Out: a table, and var/tokenizer/report.md and
report.json, which are not artifacts because they depend on this machine. All are read with gigatoken, special tokens as
ordinary text.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import awkward as ak
import gigatoken
import numpy as np

from benchmarks.measure import Result, Row
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import write_json
from pipeline.params import load_params
from pipeline.storage.sample import write_sample
from pipeline.text.encode import Encode, Encoded
from pipeline.train_tokenizer.stage import HELDOUT_FRAC
from pipeline.train_tokenizer.tokenizer_report import OURS, make_rows, measure_vocabulary, render_markdown

OUT = Path("var") / "tokenizer"
SHOWN_SOURCES = 24
ENCODINGS = "https://openaipublic.blob.core.windows.net/encodings/"  # tiktoken names a file after the SHA-1 of its URL
TIKTOKEN_NAMES = {"gpt2": "r50k_base", "cl100k": "cl100k_base"}  # r50k_base is GPT-2's vocabulary
HUB_NAMES = {"gpt2": ("openai-community/gpt2", "gpt2")}


def run(
    *,
    docs: Path = Path("data/filter"),
    tokenizer: Path = Path("data/train_tokenizer"),
    params: Path = Path("params.yaml"),
    vocabularies: tuple[str, ...] = (),
) -> Result:
    """Return bytes per token over all sources, ours and the best peer's. Raises: `UserError` for missing or bad inputs."""
    peers = {**find_local_vocabularies(os.environ), **read_vocabulary_options(vocabularies)}
    settings = load_params(params).train_tokenizer
    try:
        reader = Tokenizer.load(tokenizer)
    except ValueError as error:
        raise UserError(
            "vocabularies: --tokenizer is missing", str(error), "run the pipeline up to train_tokenizer"
        ) from error
    if not docs.is_dir():
        raise UserError("vocabularies: --docs is missing", f"no {docs}", "run the pipeline up to train_tokenizer")
    with tempfile.TemporaryDirectory(prefix="minigpt-") as name:
        sample, shares = Path(name) / "sample", settings.shares or {"": 1.0}
        write_sample(docs, sample, shares, settings.sample_bytes, settings.seed, HELDOUT_FRAC)
        report = measure_vocabulary(sample, reader, {name: load() for name, load in peers.items()})
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "report.json", report)
    (OUT / "report.md").write_text(render_markdown(report), encoding="utf-8")
    head, cells = make_rows(report, SHOWN_SOURCES)
    rows: list[Row] = [dict(zip(head, row, strict=True)) for row in cells]
    missing = [name for name in TIKTOKEN_NAMES if name not in peers]
    if missing:
        print(f"not on this machine: {', '.join(missing)} (--vocabularies NAME=FILE adds one)")
    print(f"written to {OUT / 'report.md'}")
    scores: dict[str, float] = report["bytes_per_token"]
    best = max(peers, key=lambda name: scores[name], default=None)
    work = f"{reader.vocab_size:,} tokens on the text of {docs} (* = on the sample itself)"
    return Result(work, "bytes/token", scores[OURS], scores[best] if best else None, best or "", details=rows)


def read_vocabulary_options(words: Sequence[str]) -> dict[str, Callable[[], Encode]]:
    """Return encoders by name. Raises: `UserError` for an option that is not NAME=FILE, or a missing file."""
    found: dict[str, Callable[[], Encode]] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not (sign and name):
            raise UserError(
                "--vocabularies: not NAME=FILE", repr(word), "for example --vocabularies gpt2=gpt2/tokenizer.json"
            )
        if not Path(path).is_file():
            raise UserError(f"--vocabularies {name}: no such file", path, "name a tokenizer.json or a .tiktoken file")
        found[name] = lambda path=Path(path): make_peer_encoder(path)
    return found


def find_local_vocabularies(environment: Mapping[str, str]) -> dict[str, Callable[[], Encode]]:
    """Return encoders for the vocabularies of GPT-2 and cl100k that another program has downloaded."""
    folder = environment.get("TIKTOKEN_CACHE_DIR") or environment.get("DATA_GYM_CACHE_DIR")
    cache = Path(folder) if folder else Path(tempfile.gettempdir()) / "data-gym-cache"
    found: dict[str, Callable[[], Encode]] = {}
    for name, encoding in TIKTOKEN_NAMES.items():
        path = cache / hashlib.sha1(f"{ENCODINGS}{encoding}.tiktoken".encode()).hexdigest()
        hub = [kept for repo in HUB_NAMES.get(name, ()) if (kept := _in_hub_cache(repo))]
        if path.is_file():
            found[name] = lambda path=path, encoding=encoding: make_tiktoken_encoder(path, encoding)
        elif hub:
            found[name] = lambda path=hub[0]: make_peer_encoder(path)
    return found


def _in_hub_cache(repo: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(repo, "tokenizer.json")
    return Path(kept) if isinstance(kept, str) else None


def make_peer_encoder(path: Path) -> Encode:
    """Return the encoder of a vocabulary file. Raises: `UserError` for a file that gigatoken can't read."""
    if path.suffix == ".tiktoken":
        return make_tiktoken_encoder(path, path.stem)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["added_tokens"] = []
        return _encode_with(gigatoken.Tokenizer.from_json(json.dumps(description)))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        found = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a tokenizer.json of byte-level BPE", found, "name another file") from error


def make_tiktoken_encoder(path: Path, encoding: str) -> Encode:
    """Return the encoder of a .tiktoken file; the split pattern is not in it and follows from the encoding's name."""
    pattern = {"r50k_base": "gpt2", "gpt2": "gpt2", "cl100k_base": "cl100k", "o200k_base": "o200k"}.get(encoding)
    if pattern is None:
        raise UserError(f"{path}: an unknown encoding", encoding, "name the file r50k_base, cl100k_base or o200k_base")
    try:
        return _encode_with(gigatoken.Tokenizer.from_tiktoken(path, pretokenizer=pattern))
    except (RuntimeError, ValueError, OSError) as error:
        found = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a vocabulary of tiktoken", found, "fetch it again") from error


def _encode_with(reader: gigatoken.Tokenizer) -> Encode:
    def encode(texts: Sequence[str]) -> Encoded:
        rows = reader.encode_batch(list(texts))
        return np.asarray(ak.flatten(rows), dtype=np.uint32), np.asarray(ak.num(rows), dtype=np.int64)

    return encode
