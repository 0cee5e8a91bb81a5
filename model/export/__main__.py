"""python -m model.export hf MODEL FOLDER | gguf MODEL FILE | merge MODEL FOLDER --adapter FOLDER: export a model folder.

`hf` writes a folder for transformers and vLLM (model/export/hf.py), `gguf` a file and a Modelfile for llama.cpp and Ollama
(model/export/gguf.py). How to serve them: docs/serving.md. `merge` writes a model folder with an adapter's changes in its weights
(docs/adapters.md).

Does not cover: protection against forged turns. Other programs look for special tokens in any text that they encode, so a user
who types <|end|> ends a turn there, unless the program is told not to (model/tokenizer/autotokenizer.py describes how).
model.tokenizer.chat encodes content as ordinary text; send requests through it where that matters.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model.export.gguf import GGUF_TYPES, export_gguf, get_modelfile_path
from model.export.hf import export_hf
from model.network.adapter_folder import merge_adapter


def main(argv: list[str] | None = None) -> int:
    """Run one export. Return the exit code: 0, or 1 for a user error."""
    parser = argparse.ArgumentParser(
        prog="python -m model.export", description="Export a model folder for other programs."
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="hf | gguf | merge")
    folder = kinds.add_parser("hf", help="write a folder for transformers and vLLM")
    file = kinds.add_parser("gguf", help="write a file for llama.cpp and Ollama")
    merged = kinds.add_parser("merge", help="write a model folder that has an adapter in its weights")
    merged.add_argument(
        "--adapter", type=Path, required=True, metavar="ADAPTER", help="a folder that sft wrote with sft.adapter"
    )
    for kind, what in ((folder, "FOLDER"), (file, "FILE"), (merged, "FOLDER")):
        kind.add_argument(
            "model", type=Path, metavar="MODEL", help="a folder that pretrain or sft wrote, e.g. data/sft"
        )
        kind.add_argument("target", type=Path, metavar=what, help="where to write; must not exist")
    file.add_argument("--type", choices=GGUF_TYPES, default="f16", help="format of the weights (default: f16)")
    args = parser.parse_args(argv)
    try:
        if args.kind == "hf":
            export_hf(args.model, args.target)
        elif args.kind == "merge":
            merge_adapter(args.model, args.adapter, args.target)
        else:
            export_gguf(args.model, args.target, args.type)
            print(f"wrote {get_modelfile_path(args.target)}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
