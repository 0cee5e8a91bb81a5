"""Deduplication of ten times the text: at most eleven times the processor time, and the same memory (Linux).

`ours` is the speed of the whole stage, Parquet to Parquet in one process, on 500 MB of generated text; `peer` is its own speed on
50 MB. Anonymous memory (what is not a file's) is read every 20 ms while the stage runs. The memory of Python, its libraries and the
compiled kernels is measured on hardly any text, and part of both figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import Result
from benchmarks.stages import Peak
from pipeline import dedupe
from pipeline.params import Dedupe
from pipeline.tables import DOCS, ShardWriter

SIZES_MB = (1, 50, 500)
MEMORY_MB = 64
N_WORDS, CHUNK, SEED = 300, 1_000, 1


def generate(folder: Path, n_bytes: int) -> int:
    """Documents of 300 words; one in ten is one from far away with three words changed, one in fifty a copy. Returns bytes."""
    rng = np.random.default_rng(SEED)
    words = np.array(["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(20_000)], object)
    n_docs, written = 0, 0
    with ShardWriter(folder, DOCS) as writer:
        while written < n_bytes:
            texts: list[str] = []
            for i in range(n_docs, n_docs + CHUNK):
                source = i * 7 // 11 if i % 10 == 3 or i % 50 == 7 else i
                picked = np.random.Generator(np.random.SFC64(source)).integers(0, len(words), N_WORDS)
                if i % 10 == 3:
                    picked[i % 250 :: 100] = i % len(words)
                texts.append(" ".join(words[picked]))
            columns: dict[str, object] = {field: pa.repeat("", CHUNK) for field in DOCS.names}
            columns |= {"id": [f"{i * 2654435761 % 2**32:08x}" for i in range(n_docs, n_docs + CHUNK)], "text": texts}
            writer.write(pa.table(columns))
            written += sum(map(len, texts))
            n_docs += CHUNK
    return written


def measure(docs: Path, folder: Path) -> dict[str, float]:
    """Runs the stage in a process of its own: its metrics, seconds of processor time, most anonymous memory in MB."""
    command = [sys.executable, "-m", "benchmarks.dedupe_scale", str(docs), str(folder)]
    environment = {**os.environ, "MINIGPT_ENGINE": "serial", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    peak = Peak(process.pid, every_seconds=0.02)
    printed, _ = process.communicate()
    most = peak.stop()
    assert process.returncode == 0, f"exit code {process.returncode}"
    return {**json.loads(printed.splitlines()[-1]), "anonymous_mb": most / 1024**2}


def run() -> Result:
    """Generates, runs, compares. Needs 3 GB of disk and two minutes."""
    found: list[dict[str, float]] = []
    for size in SIZES_MB:
        with tempfile.TemporaryDirectory() as name:
            n_bytes = generate(Path(name) / "docs", size * 1_000_000)
            found.append({**measure(Path(name) / "docs", Path(name)), "mb": n_bytes / 1e6})
        print(" ".join(f"{key}={value:,.1f}" for key, value in found[-1].items()), flush=True)
    small, large = found[1:]
    work = (
        f"{large['mb']:,.0f} MB against {small['mb']:,.0f} MB of text, memory_mb {MEMORY_MB}: {large['seconds']:.1f} s against "
        f"{small['seconds']:.1f} s of processor time, {large['anonymous_mb']:,.0f} MB against {small['anonymous_mb']:,.0f} MB of "
        f"anonymous memory ({found[0]['anonymous_mb']:,.0f} MB with 1 MB of text)"
    )
    return Result(
        work, "MB/s", large["mb"] / large["seconds"], small["mb"] / small["seconds"], "ourselves, a tenth of the text"
    )


def main() -> None:
    """The process that is measured."""
    docs, folder = Path(sys.argv[1]), Path(sys.argv[2])
    params = Dedupe(
        seed=1, ngram_words=5, n_bands=14, n_rows=8, min_jaccard=0.8, source_priority=[], memory_mb=MEMORY_MB
    )
    (folder / "out").mkdir()
    started = time.process_time()
    metrics = dedupe.run(params, docs=docs, scratch=folder / "scratch", out=folder / "out")
    print(json.dumps({**metrics, "seconds": time.process_time() - started}))


if __name__ == "__main__":
    main()
