"""python -m tests.pipeline.download.readers.fuzz [N] [--seed S] [--only NAME]: read N mutated files of every format.

In: small valid files of all formats, mutated: bits flipped, bytes deleted, repeated, inserted or zeroed, the end cut off. Out: the
number of inputs read; an input that raises, or that takes longer than `MAX_SECONDS`, is kept in a folder and named; so is one that
ends the process. A reader may return fewer documents and more rejects, but it never raises anything but `UserError`, and it ends.
Time: 100,000 in about five minutes of one core.
"""

from __future__ import annotations

import argparse
import bz2
import faulthandler
import gzip
import io
import json
import lzma
import random
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import lz4.frame
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import zstandard
from pyarrow import ipc

from pipeline.download.params import Download
from pipeline.download.sources import open_source
from pipeline.frame.errors import UserError
from pipeline.storage import streams
from tests.pipeline.download.readers import sample_archives, sample_dumps

MAX_SECONDS = 20  # on a busy machine; an input takes milliseconds
HANG_SECONDS = 120  # code in C that never returns: the process ends with a traceback
SLACK_BYTES = 3_000_000
EDGE_BYTES = 160
PROSE = "The keeper of the lighthouse wrote the weather into a book, every evening, é and 語. "
WIKITEXT = (
    "'''Fox''' is [[animal|an animal]].<ref>x</ref>\n== Life ==\n* {{convert|5|km}}\n{| class=x\n| a || b\n|}\n" + PROSE
)


class Sample(NamedTuple):
    """A valid file: the kind of source that reads it, its name, its bytes."""

    kind: str
    name: str
    data: bytes


def make_samples() -> list[Sample]:
    """Return valid small files of all formats."""
    rows = [
        {"text": f"{number} {PROSE}", "id": number, "meta": {"url": f"https://a.example/{number}"}}
        for number in range(6)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    table = "text,id\n" + "".join(f'"{row["text"]} ""quoted""\n more",{row["id"]}\n' for row in rows)
    texts = {
        "a.txt": PROSE * 3,
        "a.md": f"\ufeff# A\r\n{PROSE}",
        "a.jsonl": lines,
        "lines.json": lines,
        "array.json": json.dumps(rows, indent=1, ensure_ascii=False),
        "a.csv": table,
        "a.tsv": "text\tid\n" + "".join(f"{row['text']}\t{row['id']}\n" for row in rows),
    }
    plain = [Sample("text", name, text.encode()) for name, text in texts.items()]
    plain += [Sample("text", f"16-{name}", texts[name].encode("utf-16")) for name in ("a.txt", "a.jsonl", "a.csv")]
    packed = [
        Sample("text", f"a.jsonl{ending}", pack(lines.encode()))
        for ending, pack in {
            ".gz": gzip.compress,
            ".bz2": bz2.compress,
            ".xz": lzma.compress,
            ".zst": zstandard.compress,
            ".lz4": lz4.frame.compress,
        }.items()
    ]
    columns = make_column_files()
    archives = make_archives([*plain[:3], packed[0], columns[0]])
    return [*plain, *packed, *columns, *archives, *make_pages()]


def make_column_files() -> list[Sample]:
    """Return files of Parquet and Arrow with columns of many types."""
    table = pa.table(
        {
            "text": pa.array([f"{number} {PROSE}" for number in range(40)]),
            "id": pa.array(
                [datetime(2020, 1, 1 + number % 28, tzinfo=UTC) for number in range(40)], pa.timestamp("ns", "UTC")
            ),
            "title": pa.array(["a", "b", None, "d"] * 10).dictionary_encode(),
            "meta": [{"url": f"https://a/{number}", "day": date(2020, 1, 1), "sizes": [1, 2]} for number in range(40)],
            "price": pa.array([Decimal("1.5")] * 40, pa.decimal128(9, 2)),
        }
    )
    files: list[Sample] = []
    for codec in ("none", "snappy", "zstd"):
        sink: Any = io.BytesIO()
        pq.write_table(table, sink, compression=codec, row_group_size=16)
        files.append(Sample("text", f"{codec}.parquet", sink.getvalue()))
    for codec in (None, "lz4", "zstd"):
        options = ipc.IpcWriteOptions(compression=codec)
        for name, new in (("file.arrow", ipc.new_file), ("stream.arrow", ipc.new_stream)):
            sink = io.BytesIO()
            with new(sink, table.schema, options=options) as writer:
                writer.write_table(table, 16)
            files.append(Sample("text", f"{codec}-{name}", sink.getvalue()))
    sink = io.BytesIO()
    feather.write_feather(table, sink, compression="lz4")
    return [*files, Sample("text", "a.feather", sink.getvalue())]


def make_archives(members: list[Sample]) -> list[Sample]:
    """Return archives of these files."""
    files: list[Sample] = []
    for ending in ("", ".gz", ".bz2"):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode=f"w:{ending[1:]}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for member in members:
                info = tarfile.TarInfo(member.name)
                info.size = len(member.data)
                archive.addfile(info, io.BytesIO(member.data))
        files.append(Sample("text", f"a.tar{ending}", sink.getvalue()))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", method) as archive:
            for member in members:
                archive.writestr(member.name, member.data)
        files.append(Sample("text", f"{method}.zip", sink.getvalue()))
    return files


def make_pages() -> list[Sample]:
    """Return web archives and dumps of wikis."""
    records = sample_archives.make_records(3)
    files = [
        Sample("warc", f"a.warc{ending}", b"".join(pack(record) for record in records))
        for ending, pack in sample_archives.PACKED.items()
    ]
    files.append(Sample("warc", "whole.warc.bz2", bz2.compress(b"".join(records))))
    pages = "".join(sample_dumps.make_page(f"Page {number}", 0, number, WIKITEXT) for number in range(4))
    dump = f"{sample_dumps.HEAD}{pages}{sample_dumps.TAIL}".encode()
    return [*files, Sample("wikipedia", "a.xml", dump), Sample("wikipedia", "a.xml.bz2", bz2.compress(dump))]


def choose_position(n_bytes: int, rng: random.Random) -> int:
    """Return a position anywhere, or near the start or the end, where most formats keep their structure."""
    near = min(rng.randrange(EDGE_BYTES), n_bytes)
    return rng.choice((rng.randrange(n_bytes + 1), rng.randrange(n_bytes + 1), near, n_bytes - near))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return the data with one to four mutations."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, size = choose_position(len(changed), rng), rng.choice((1, 1, 2, 4, 8, 64, 700))
        match rng.randrange(8):
            case 0 | 1:
                for index in range(at, min(at + rng.choice((1, 1, 3)), len(changed))):
                    changed[index] ^= 1 << rng.randrange(8)
            case 2:
                changed[at : at + size] = rng.randbytes(min(size, len(changed) - at))
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = rng.randbytes(size)
            case 5:
                changed[at:at] = changed[at : at + size]
            case 6:
                changed[at : at + size] = bytes([rng.choice((0, 255))]) * min(size, len(changed) - at)
            case _:
                del changed[at:]
    return bytes(changed)


def read_all(path: Path, kind: str) -> int:
    """Read a file to the end and return the number of its documents and rejects."""
    source = {"kind": kind, "name": "fuzz", "path": str(path), "max_member_bytes": 300_000}
    columns = {"id_column": "id", "title_column": "title", "url_column": "meta.url"} if kind == "text" else {}
    params = Download.model_validate({"sources": [source | columns]}).sources[0]
    n_read = 0
    for batch in open_source(params, "download.sources.0").batches:
        for document in batch.docs:
            "".join(document[:-1]).encode()
        for reject in batch.rejects:
            assert reject.reason, reject
            "".join(reject).encode()
        n_read += len(batch.docs) + len(batch.rejects)
    return n_read


def iterate_inputs(n: int, seed: int, only: str = "") -> Iterator[Sample]:
    """Yield `n` mutated samples, of all formats in turn whose names contain `only`."""
    samples, rng = [sample for sample in make_samples() if only in sample.name], random.Random(seed)
    for number in range(n):
        sample = samples[number % len(samples)]
        yield sample._replace(data=mutate(sample.data, rng))


def find_failures(n: int, seed: int, folder: Path, only: str = "") -> list[str]:
    """Read `n` mutated inputs, and return a description of each that raised or took too long; they stay in the folder."""
    failures: list[str] = []
    for number, sample in enumerate(iterate_inputs(n, seed, only)):
        path = folder / f"{seed}-{number}-{sample.name}"
        path.write_bytes(sample.data)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        started = time.monotonic()
        try:
            read_all(path, sample.kind)
        except UserError:
            pass
        except Exception:
            failures.append(f"{path}: {traceback.format_exc()}")
            continue
        finally:
            faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - started > MAX_SECONDS:
            failures.append(f"{path}: took {time.monotonic() - started:.0f} s")
            continue
        path.unlink()
    return failures


def main() -> int:
    """Read mutated inputs, print the failures, and return the exit code."""
    parser = argparse.ArgumentParser(description="Read mutated files of every format.")
    parser.add_argument("n", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="NAME", help="formats whose sample's name contains this")
    args = parser.parse_args()
    faulthandler.enable()
    streams.RATIO_SLACK_BYTES = SLACK_BYTES
    folder = Path(tempfile.mkdtemp(prefix="minigpt-fuzz-"))
    print(f"inputs are in {folder}", flush=True)
    failures = find_failures(args.n, args.seed, folder, args.only)
    print("\n".join(failures))
    if not failures:
        folder.rmdir()
    print(f"{args.n} inputs, {len(failures)} failures" + (f" in {folder}" if failures else ""))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
