"""`download` in params.yaml: the kinds of sources and their settings (docs/sources.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.frame.settings import Count, Section


class PythonDocs(Section):
    """The documentation of the Python environment that runs the pipeline; `stdlib` names the standard library."""

    kind: Literal["python_docs"]
    packages: Annotated[list[str], Field(min_length=1)]


SourceFormat = Literal["text", "warc", "wikipedia"]
SourceName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class TextSettings(Section):
    """How files of text are read, wherever they come from."""

    license: str = "unknown"  # SPDX, for files that carry none
    split_on: str = ""  # cut one file into documents at this separator; empty: one file, one document
    max_member_bytes: Count = 64_000_000  # a longer text is a reject: what one document may take of memory
    text_column: Annotated[str, Field(min_length=1)] = "text"  # of JSON lines and Parquet, like the four below
    id_column: str = ""
    title_column: str = ""
    url_column: str = ""  # `meta.url`: the field url inside meta
    license_column: str = ""


class Text(TextSettings):
    """Files, folders, globs, archives or fsspec URLs of text."""

    kind: Literal["text"]
    name: SourceName
    path: str


class HttpFile(Section):
    """One address. With a `sha256` the file is checked, and never asked for again once it is here."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+\S*$")]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    file_name: Annotated[str, Field(pattern=r"^[\w.-]*$")] = (
        ""  # where the address does not end in one: its ending counts
    )


class Http(TextSettings):
    """Files behind http(s) addresses, kept below var/fetched."""

    kind: Literal["http"]
    name: SourceName
    files: Annotated[list[HttpFile], Field(min_length=1)]
    format: SourceFormat = "text"  # the reader of the fetched files


class HuggingFace(TextSettings):
    """Files of a repository on the Hugging Face hub, at one revision."""

    kind: Literal["huggingface"]
    name: SourceName
    repo: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    repo_type: Literal["dataset", "model"] = "dataset"
    revision: Annotated[
        str, Field(min_length=1)
    ]  # a commit; the commit that a branch or tag means today is put on record
    files: Annotated[list[str], Field(min_length=1)]  # globs, such as data/CC-MAIN-2024-10/*.parquet
    format: SourceFormat = "text"


class Wikipedia(Section):
    """Dumps of a MediaWiki wiki (`pages-articles`): files, folders, globs or fsspec URLs of .xml, also compressed."""

    kind: Literal["wikipedia"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    license: str = "CC-BY-SA-4.0"  # SPDX; dumps don't name it
    max_member_bytes: Count = 16_000_000  # of one page's wikitext; a longer one is a reject


class Warc(Section):
    """Web archives: files, folders, globs or fsspec URLs of WARC and WET, also compressed."""

    kind: Literal["warc"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    license: str = "unknown"  # SPDX, for pages that name none themselves
    max_member_bytes: Count = 16_000_000  # of one page, packed and unpacked; a longer one is a reject


class Download(Section):
    sources: Annotated[
        list[Annotated[PythonDocs | Text | Http | HuggingFace | Wikipedia | Warc, Field(discriminator="kind")]],
        Field(min_length=1),
    ]
