"""Read fetched files with the reader of their format, and attach to the documents where the files were fetched from.

In: local files, each with what to add to its documents. Out: a reading. A document's source is that of the fetched source; its
locator includes the URL or repository, which is also its url if it has none. Memory and time: those of the format's reader.
A format that is none of `FORMATS` is an ending for the reader of text.
To add a format: its params class and reader in `FORMATS`, its name in `SourceFormat` (pipeline/download/params.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.download.params import Http, HuggingFace, Text, TextSettings, Warc, Wikipedia
from pipeline.download.readers import text, warc, wikipedia
from pipeline.download.readers.document import (
    DocumentBatch,
    Opened,
    Reading,
    RowFormat,
    SourcePart,
    dump_canonical_json,
    read_parts,
)
from pipeline.frame.errors import UserError
from pipeline.frame.settings import ParamsSection

FORMATS: dict[str, tuple[type[ParamsSection], Callable[[Any, str], Reading]]] = {
    "text": (Text, text.open_source),
    "warc": (Warc, warc.open_source),
    "wikipedia": (Wikipedia, wikipedia.open_source),
}


class Local(NamedTuple):
    """A fetched file: what to add to its documents' locators, their default url, and its provenance record."""

    path: Path
    where: Mapping[str, object]
    url: str
    origin: Mapping[str, object]


def open_local(params: Http | HuggingFace, setting: str, files: Sequence[Local]) -> Reading:
    """Open the files of a fetched source with the reader of its format."""
    source = f"{params.kind}/{params.name}"
    section, reader = FORMATS.get(params.format, FORMATS["text"])
    parts: list[SourcePart] = []
    checks: list[Callable[[RowFormat], None] | None] = []
    has_workers = False
    for file in files:
        settings = _make_settings(params, setting, section, file.path)
        reading = reader(settings, setting)
        has_workers |= not reading.parts  # a reader without parts uses the workers within a file
        inner = reading.parts or [SourcePart(reading.total_bytes, partial(_open_whole, settings, file, reading))]
        parts += [SourcePart(part.n_bytes, partial(_open_part, part.open, source, file)) for part in inner]
        checks.append(reading.check)
    check = next(iter(checks), None)
    return Reading(sum(part.n_bytes for part in parts), read_parts(parts, check), parts, check, has_workers)


def _open_whole(settings: ParamsSection, file: Local, reading: Reading) -> Opened:
    """Open a file that its reader does not split into parts, under a key of its hash."""
    content = {"settings": settings.model_dump(exclude={"path"}), "origin": file.origin}
    return Opened(dump_canonical_json(content), reading.batches)


def _make_settings(params: Http | HuggingFace, setting: str, section: type[ParamsSection], path: Path) -> ParamsSection:
    """Return the settings of the format's reader. Raise `UserError` for a setting that it does not have."""
    given = {name: getattr(params, name) for name in TextSettings.model_fields if name in params.model_fields_set}
    unsupported = sorted(given.keys() - section.model_fields.keys())
    if unsupported:
        raise UserError(
            f"{setting}.{unsupported[0]}: not supported by the format {params.format}",
            repr(given[unsupported[0]]),
            "remove the setting, or correct the format",
        )
    kind = params.format if params.format in FORMATS else "text"
    ending = {} if params.format in FORMATS else {"format": params.format}
    return section.model_validate({"kind": kind, "name": params.name, "path": str(path), **ending, **given})


def _open_part(open_part: Callable[[], Opened], source: str, file: Local) -> Opened:
    opened = open_part()
    key = dump_canonical_json({"inner": opened.key, "source": source, "where": file.where, "url": file.url})
    return Opened(key if opened.key else "", _relocate(opened.batches, source, file))


def _relocate(batches: Iterator[DocumentBatch], source: str, file: Local) -> Iterator[DocumentBatch]:
    """Yield the batches with the source and location that the file was fetched from."""

    def extend_locator(inner: str) -> str:
        return dump_canonical_json({**json.loads(inner), **file.where})

    for batch in batches:
        docs = [
            document._replace(source=source, locator=extend_locator(document.locator), url=document.url or file.url)
            for document in batch.docs
        ]
        rejects = [reject._replace(source=source, locator=extend_locator(reject.locator)) for reject in batch.rejects]
        yield batch._replace(docs=docs, rejects=rejects, origins=())
    yield DocumentBatch([], [], {}, 0, [file.origin])
