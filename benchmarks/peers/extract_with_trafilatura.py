"""Extract the main text of pages with trafilatura in its own environment; pages/main_text.py starts it.

python extract_with_trafilatura.py PAGES ROUNDS reads a JSON list of pages (base64) and prints a JSON object: the texts, and the
processor seconds of the fastest round. Options as in trafilatura's own evaluation: no comments, tables, its fallbacks enabled.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import trafilatura


def extract(page: bytes) -> str:
    """Return the main text, empty if there is none."""
    return trafilatura.extract(page, include_comments=False, include_tables=True, include_formatting=False) or ""


def main(path: str, rounds: int) -> None:
    """Print the texts and the seconds."""
    pages = [base64.b64decode(page) for page in json.loads(Path(path).read_text(encoding="ascii"))]
    seconds: list[float] = []
    texts: list[str] = []
    for _ in range(rounds):
        started = time.process_time()
        texts = [extract(page) for page in pages]
        seconds.append(time.process_time() - started)
    print(json.dumps({"version": trafilatura.__version__, "seconds": min(seconds), "texts": texts}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
