"""Install synthetic packages from source texts, and read their documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.download.params import PythonDocs
from pipeline.download.python.python_docs import open_source
from pipeline.download.readers.document import Document

METADATA = "Metadata-Version: 2.4\nName: lib\nVersion: 1.0\nLicense-Expression: MIT\n"


def install_package(site: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write the files of the distribution `lib` and its RECORD."""
    listed = {**files, "lib-1.0.dist-info/METADATA": METADATA}
    for name, content in listed.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (site / "lib-1.0.dist-info/RECORD").write_text("".join(f"{name},,\n" for name in listed))
    return site


def read_package(site: Path, files: Mapping[str, str | bytes]) -> dict[str, Document]:
    """Return the documents of a package with these files, by title."""
    reading = open_source(PythonDocs(kind="python_docs", packages=["lib"]), "s", [str(install_package(site, files))])
    documents = [document for batch in reading.batches for document in batch.docs]
    assert len({document.title for document in documents}) == len(documents)
    return {document.title: document for document in documents}


def get_definition(document: Document) -> str:
    """Return the name of the definition that the locator states."""
    where: dict[str, Any] = json.loads(document.locator)
    return f"{where['module']}.{where['qualname']}"
