"""Main text of web pages: F1 and speed of ours against trafilatura on public pages with known main text, on one core.

`--gold FOLDER` is a collection as its authors publish it (see gold_pages.py), `--trafilatura FOLDER` one with a `.venv` in which
trafilatura is installed. Both read the same bytes; ours also finds the title and the license.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Result, Row, measure_seconds, require_checkout, run_python, use_one_core
from benchmarks.pages.gold_pages import GoldSet, is_held_out, read_gold
from pipeline.download.pages.web_page import PageError, read_html

PEER = ROOT / "benchmarks" / "peers" / "extract_with_trafilatura.py"


def run(*, gold: Path | None = None, trafilatura: Path | None = None, rounds: int = 3) -> Result:
    """Return megabytes of HTML per second of processor time, with F1, precision and recall of both as details."""
    gold_set = read_gold(require_checkout("main_text", "gold", gold))
    peer_folder = require_checkout("main_text", "trafilatura", trafilatura)
    bodies = [page.body for page in gold_set.pages]
    n_megabytes = sum(map(len, bodies)) / 1e6
    with use_one_core():
        texts = [read_text(body) for body in bodies]
        seconds = min(measure_seconds(lambda: [read_text(body) for body in bodies]) for _ in range(rounds))
    found = run_peer(bodies, peer_folder, rounds)
    rows = [describe("ours", gold_set, texts), describe("trafilatura", gold_set, found["texts"])]
    work = f"{len(bodies)} pages, {n_megabytes:.1f} MB of HTML"
    name = f"trafilatura {found['version']}"
    return Result(work, "MB/s", n_megabytes / seconds, n_megabytes / found["seconds"], name, details=rows)


def read_text(body: bytes) -> str:
    """Return the main text, empty for a page that is refused."""
    try:
        return read_html(body).text
    except PageError:
        return ""


def run_peer(bodies: list[bytes], folder: Path, rounds: int) -> dict[str, Any]:
    """Return the texts, seconds and version of trafilatura."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "pages.json")
        path.write_text(json.dumps([base64.b64encode(body).decode("ascii") for body in bodies]), encoding="ascii")
        output = run_python([str(PEER), str(path), str(rounds)], folder)
    return json.loads(output.splitlines()[-1])


def describe(name: str, gold_set: GoldSet, texts: list[str]) -> Row:
    """Return one row of the table of metrics: of all pages, and F1 of the half on which nothing was tuned."""
    f1, precision, recall = gold_set.measure(gold_set.pages, texts)
    held_out = [pair for pair in zip(gold_set.pages, texts, strict=True) if is_held_out(pair[0].name)]
    held_out_f1, _, _ = gold_set.measure([page for page, _ in held_out], [text for _, text in held_out])
    n_empty = sum(not text.strip() for text in texts)
    metrics: Row = {"F1": f1, "precision": precision, "recall": recall, "F1 of held-out half": held_out_f1}
    return {"": name, **metrics, "empty pages": n_empty}
