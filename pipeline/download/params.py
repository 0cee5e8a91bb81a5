"""Define the section `download` of params.yaml: the kinds of sources and their settings (docs/sources.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.frame.settings import Count, ParamsSection


class PythonDocs(ParamsSection):
    """The documentation of the Python environment that runs the pipeline; `stdlib` names the standard library."""

    kind: Literal["python_docs"]
    packages: Annotated[list[str], Field(min_length=1)]


ENDINGS = r"(txt|md|rst|jsonl|ndjson|json|csv|tsv|parquet|arrow|feather|tar|zip)(\.(gz|bz2|xz|zst|lz4))?"
FileFormat = Annotated[str, Field(pattern=rf"^({ENDINGS})?$")]
SourceFormat = Annotated[str, Field(pattern=rf"^(text|warc|wikipedia|{ENDINGS})$")]
WindowBytes = Annotated[int, Field(ge=1 << 10, le=1 << 31)]
SourceName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class TextSettings(ParamsSection):
    """Settings for reading text files, shared by local and fetched sources."""

    license: str = "unknown"  # SPDX, for files that declare none
    split_on: str = ""  # cut one file into documents at this separator; empty: one file, one document
    max_member_bytes: Count = 64_000_000  # a longer text becomes a reject; bounds the memory of one document
    max_window_bytes: WindowBytes = 1 << 27  # memory that .zst may take; files made with --long=31 need 2 GiB
    text_column: Annotated[str, Field(min_length=1)] = (
        "text"  # of rows (JSON, CSV, Parquet, Arrow), like the four below
    )
    id_column: str = ""
    title_column: str = ""
    url_column: str = ""  # `meta.url`: the field url inside meta
    license_column: str = ""


class Text(TextSettings):
    """Files, folders, globs, archives or fsspec URLs of text."""

    kind: Literal["text"]
    name: SourceName
    path: str
    format: FileFormat = ""  # such as jsonl.gz: read every file as if its name ended so


class HttpFile(ParamsSection):
    """One URL. With a `sha256` the file is verified, and never requested again once it is in the cache."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+\S*$")]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    file_name: Annotated[str, Field(pattern=r"^[\w.-]*$")] = (
        ""  # if the URL does not end in one: its suffix is the format
    )


class Http(TextSettings):
    """Files behind http(s) URLs, cached below var/fetched."""

    kind: Literal["http"]
    name: SourceName
    files: Annotated[list[HttpFile], Field(min_length=1)]
    format: SourceFormat = "text"  # the reader of the fetched files, or an ending: read them as if their names ended so


class HuggingFace(TextSettings):
    """Files of a repository on the Hugging Face hub, at one revision."""

    kind: Literal["huggingface"]
    name: SourceName
    repo: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    repo_type: Literal["dataset", "model"] = "dataset"
    revision: Annotated[str, Field(min_length=1)]  # a commit; for a branch or tag, the current commit is recorded
    files: Annotated[list[str], Field(min_length=1)]  # globs, such as data/CC-MAIN-2024-10/*.parquet
    format: SourceFormat = "text"


class Wikipedia(ParamsSection):
    """Dumps of a MediaWiki wiki (`pages-articles`): files, folders, globs or fsspec URLs of .xml, also compressed."""

    kind: Literal["wikipedia"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    license: str = "CC-BY-SA-4.0"  # SPDX; dumps do not declare it
    max_member_bytes: Count = 16_000_000  # of one page's wikitext; a longer one becomes a reject
    max_window_bytes: WindowBytes = 1 << 27  # memory that .zst may take


class Warc(ParamsSection):
    """Web archives: files, folders, globs or fsspec URLs of WARC and WET, also compressed."""

    kind: Literal["warc"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    license: str = "unknown"  # SPDX, for pages that declare none
    max_member_bytes: Count = 16_000_000  # of one page, compressed and decompressed; a longer one becomes a reject


class Download(ParamsSection):
    """The settings of the stage."""

    sources: Annotated[
        list[Annotated[PythonDocs | Text | Http | HuggingFace | Wikipedia | Warc, Field(discriminator="kind")]],
        Field(min_length=1),
    ]
