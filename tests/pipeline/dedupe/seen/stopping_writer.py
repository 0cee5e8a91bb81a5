"""python stopping_writer.py PLACE RUN DOCS POINT: start to write, print "here" at one point and wait there to be killed.

Points: `batch` (some documents are added), `finish` (all are added, the run is not renamed yet), `removal` (documents are being
removed) and `scrub` (they are removed, their shingles are not overwritten yet).
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


def wait_forever(*_: Any, **__: Any) -> Any:
    print("here", flush=True)
    time.sleep(600)


def yield_two_batches(parts: Iterable[Sketches]) -> Iterator[Sketches]:
    for number, part in enumerate(parts):
        if number == 2:
            wait_forever()
        yield part


def main(place: str, run: str, docs: Path, point: str) -> None:
    if point == "batch":
        folder.sketch_docs = lambda *args: yield_two_batches(sketch_docs(*args))
    elif point == "scrub":
        folder.MappedRun.scrub = wait_forever
    else:
        folder._publish = wait_forever
    index = open_index(place)
    if point in ("removal", "scrub"):
        index.remove(["a", "b"])
    else:
        index.add(run, docs, SETTINGS)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
