"""Read the source `http`: files behind http(s) URLs, in any format of the readers of local files.

In: URLs, with their sha256 where it is known. Out: the documents of the fetched files; the provenance record of the source has
each URL, size, sha256, entity tag and date. All files are fetched (pipeline/download/readers/fetch.py) before the first one is
read; they stay in the cache. Memory and time: those of the format's reader.
"""

from __future__ import annotations

from pipeline.download.params import Http
from pipeline.download.readers.document import Reading
from pipeline.download.readers.fetch import Address, fetch_all, get_fetched_folder
from pipeline.download.readers.fetched_file import Fetched
from pipeline.download.readers.formats import Local, open_local


def open_source(params: Http, setting: str) -> Reading:
    """Fetch the files and open them. Raise `UserError` that names the URL that cannot be fetched."""
    addresses = [Address(file.url, file.sha256, file.file_name) for file in params.files]
    files = fetch_all(addresses, f"{setting}.files", get_fetched_folder())
    return open_local(params, setting, [_make_local(file) for file in files])


def _make_local(file: Fetched) -> Local:
    origin = {"url": file.url, "bytes": file.n_bytes, "sha256": file.sha256, **file.validators._asdict()}
    return Local(file.path, {"url": file.url}, file.url, origin)
