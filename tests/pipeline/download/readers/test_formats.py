"""Test that the format of a fetched source chooses the reader, or overrides the ending of its files."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.download.params import Http
from pipeline.download.readers.formats import Local, open_local


@pytest.mark.parametrize("file_format", ["jsonl.gz", "json.gz"])
def test_an_ending_as_format_reads_a_file_without_one(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "download"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    files = [{"url": "https://example.org/download"}]
    params = Http.model_validate({"kind": "http", "name": "web", "files": files, "format": file_format})
    reading = open_local(params, "download.sources.0", [Local(path, {"url": "u"}, "https://example.org/download", {})])
    documents = [document for batch in reading.batches for document in batch.docs]
    assert [document.text for document in documents] == ["one", "two"]
    assert {document.source for document in documents} == {"http/web"}
    assert json.loads(documents[0].locator) == {"path": "download", "row": 1, "url": "u"}


def test_a_format_that_is_no_reader_and_no_ending_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        Http.model_validate({"kind": "http", "name": "web", "files": [{"url": "https://a.b/c"}], "format": "exe"})
