"""python stopping_writer.py PLACE RUN DOCS POINT: begins to add a run, says "here" at a point of it and stays there.

Points: `batch` (some documents are in), `finish` (all are in, the run has no name yet), `removal` and
`scrub` (documents are being removed; are removed and not cleared yet).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.seen import index_folder as folder
from pipeline.dedupe.seen.runs import sketch_docs
from pipeline.dedupe.seen.snapshot import open_index
from tests.pipeline.dedupe.seen.conftest import SETTINGS


def stay(*_: Any, **__: Any) -> Any:
    print("here", flush=True)
    time.sleep(600)


def two_batches(parts: Iterable[Sketches]) -> Iterator[Sketches]:
    for number, part in enumerate(parts):
        if number == 2:
            stay()
        yield part


def main(place: str, run: str, docs: Path, point: str) -> None:
    if point == "batch":
        folder.sketch_docs = lambda *args: two_batches(sketch_docs(*args))
    elif point == "scrub":
        folder.MappedRun.scrub = stay
    else:
        folder._publish = stay
    index = open_index(place)
    if point in ("removal", "scrub"):
        index.remove(["a", "b"])
    else:
        index.add(run, docs, SETTINGS)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
