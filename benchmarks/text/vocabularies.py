"""python -m pipeline.compare_tokenizers [--peer NAME=FILE …]: our vocabulary beside GPT-2's and cl100k's, bytes a token by source.

In: the documents and the tokenizer of a finished run; vocabularies that are on this machine: files named by `--peer` (a
tokenizer.json, or a .tiktoken file named like its encoding), and GPT-2's and cl100k's where tiktoken or the Hugging Face hub's
client have left them. Nothing is fetched. Out: a table, and var/tokenizer/report.md and report.json. It is no artifact, because it
says what this machine has. Read by gigatoken, special tokens as ordinary text. Time: as train_tokenizer's, once a vocabulary.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import awkward as ak
import gigatoken
import numpy as np
from rich.console import Console
from rich.table import Table

from model.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.params import load_params
from pipeline.sample import write_sample
from pipeline.stage import write_json
from pipeline.text.encode import Encode, Encoded
from pipeline.tokenizer_report import measure, render, table
from pipeline.train_tokenizer import HELDOUT_FRAC

OUT = Path("var") / "tokenizer"
SHOWN_SOURCES = 24
ENCODINGS = (
    "https://openaipublic.blob.core.windows.net/encodings/"  # tiktoken keeps a file under the SHA-1 of its address
)
TIKTOKEN_NAMES = {"gpt2": "r50k_base", "cl100k": "cl100k_base"}  # r50k_base is GPT-2's vocabulary
HUB_NAMES = {"gpt2": ("openai-community/gpt2", "gpt2")}


def main(argv: list[str] | None = None) -> int:
    """Prints the table; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.compare_tokenizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--docs", type=Path, default=Path("data/filter"), metavar="FOLDER")
    parser.add_argument("--tokenizer", type=Path, default=Path("data/train_tokenizer"), metavar="FOLDER")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE", help="one more vocabulary")
    args = parser.parse_args(argv)
    try:
        compare(args.docs, args.tokenizer, args.params, {**local_peers(os.environ), **named_peers(args.peer)})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: compare_tokenizers: {error}", file=sys.stderr)
        return 1
    return 0


def compare(docs: Path, tokenizer: Path, params_path: Path, peers: Mapping[str, Callable[[], Encode]]) -> None:
    """Raises: `UserError` for documents or a tokenizer that are not there."""
    params = load_params(params_path).train_tokenizer
    reader = Tokenizer.load(tokenizer)
    if not docs.is_dir():
        raise UserError("compare_tokenizers: --docs is missing", f"no {docs}", "run the pipeline up to train_tokenizer")
    with tempfile.TemporaryDirectory(prefix="minigpt-") as name:
        sample = Path(name) / "sample"
        write_sample(docs, sample, params.shares or {"": 1.0}, params.sample_bytes, params.seed, HELDOUT_FRAC)
        report = measure(sample, reader, {name: load() for name, load in peers.items()})
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "report.json", report)
    (OUT / "report.md").write_text(render(report), encoding="utf-8")
    head, rows = table(report, SHOWN_SOURCES)
    shown = Table(*head, title="Bytes a token (* = on the sample itself)")
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)
    missing = [name for name in TIKTOKEN_NAMES if name not in peers]
    if missing:
        print(f"not on this machine: {', '.join(missing)} (--peer NAME=FILE names a vocabulary's file)")
    print(f"written to {OUT / 'report.md'}")


def named_peers(words: Sequence[str]) -> dict[str, Callable[[], Encode]]:
    """Raises: `UserError` for a word that is not NAME=FILE, or a file that is not there."""
    found: dict[str, Callable[[], Encode]] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not (sign and name):
            raise UserError("--peer: not NAME=FILE", repr(word), "for example --peer gpt2=gpt2/tokenizer.json")
        if not Path(path).is_file():
            raise UserError(f"--peer {name}: no such file", path, "name a tokenizer.json or a .tiktoken file")
        found[name] = lambda path=Path(path): peer_encoder(path)
    return found


def local_peers(environment: Mapping[str, str]) -> dict[str, Callable[[], Encode]]:
    """GPT-2's and cl100k's vocabularies, where another program has fetched them."""
    folder = environment.get("TIKTOKEN_CACHE_DIR") or environment.get("DATA_GYM_CACHE_DIR")
    cache = Path(folder) if folder else Path(tempfile.gettempdir()) / "data-gym-cache"
    found: dict[str, Callable[[], Encode]] = {}
    for name, encoding in TIKTOKEN_NAMES.items():
        path = cache / hashlib.sha1(f"{ENCODINGS}{encoding}.tiktoken".encode()).hexdigest()
        hub = [kept for repo in HUB_NAMES.get(name, ()) if (kept := _in_hub_cache(repo))]
        if path.is_file():
            found[name] = lambda path=path, encoding=encoding: tiktoken_encoder(path, encoding)
        elif hub:
            found[name] = lambda path=hub[0]: peer_encoder(path)
    return found


def _in_hub_cache(repo: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(repo, "tokenizer.json")
    return Path(kept) if isinstance(kept, str) else None


def peer_encoder(path: Path) -> Encode:
    """Raises: `UserError` for a file that gigatoken can't read."""
    if path.suffix == ".tiktoken":
        return tiktoken_encoder(path, path.stem)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["added_tokens"] = []
        return _encode_with(gigatoken.Tokenizer.from_json(json.dumps(description)))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        found = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a tokenizer.json of byte-level BPE", found, "name another file") from error


def tiktoken_encoder(path: Path, encoding: str) -> Encode:
    """The split pattern is not in the file: it goes by the encoding's name."""
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


if __name__ == "__main__":
    sys.exit(main())
