"""python -m pipeline.guard FILE…: what a guard says of prompts in files, such as public sets that it was not trained on.

In: a finished guard, files of prompts (a line each, or JSON lines with a field `prompt`). Out: for each file the fraction of
prompts whose score for harm, and for any category but injection, reaches each threshold. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from model.guard.categories import OUTPUTS
from model.guard.harm_classifier import HarmClassifier

THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8)
INJECTION = OUTPUTS.index("injection")


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file. Raises: ValueError for a file that can't be read, or a broken line, by its number."""
    prompts: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read; found {type(error).__name__}; give a text file in UTF-8") from error
    for number, line in enumerate(lines, 1):
        try:
            prompts.append(str(json.loads(line)["prompt"]) if line.lstrip().startswith("{") else line.strip())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no JSON with a field `prompt`; correct the line") from error
    return [prompt for prompt in prompts if prompt]


def describe(classifier: HarmClassifier, name: str, prompts: list[str]) -> str:
    """Return one line: the fractions that reach each threshold."""
    scores = classifier.score(prompts)
    columns = {"harm": scores[:, -1], "any": np.delete(scores, INJECTION, axis=1).max(axis=1)}
    parts = [
        f"{label} " + ", ".join(f"≥{limit:g}: {(values >= limit).mean():.1%}" for limit in THRESHOLDS)
        for label, values in columns.items()
    ]
    return f"{name}: {len(prompts)} prompts; {'; '.join(parts)}"


def main(argv: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="prompts: lines, or JSON lines with `prompt`"
    )
    parser.add_argument("--guard", type=Path, default=Path("data/guard"), metavar="FOLDER", help="(%(default)s)")
    args = parser.parse_args(argv)
    try:
        classifier = HarmClassifier.load(args.guard)
        for path in args.files:
            if prompts := read_prompts(path):
                print(describe(classifier, path.name, prompts))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
