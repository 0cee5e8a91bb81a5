"""Pages that a package ships as text are documents, with their code as it is; other texts are not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline.download.params import PythonDocs
from pipeline.download.python.guides import MAX_BYTES, clean_guide, find_title
from pipeline.download.python.python_docs import open_source
from pipeline.frame.errors import UserError
from tests.pipeline.download.python.packages import METADATA, install_package, read_package

PROSE = "This page explains how to fit a model to data, in words that a reader of the package understands. " * 3
PAGE = f".. _fitting:\n\nFitting ``models``\n==================\n\n{PROSE}\n\n    >>> fit(x)\n    3\n\nSee also\n--------\nMore.\n"


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", "1")


def test_pages_are_documents_with_their_heading_as_title(tmp_path: Path) -> None:
    others = {
        f"lib/{name}": PAGE
        for name in (
            "LICENSE.md",
            "tests/notes.md",
            "_vendor/x/README.rst",
            "AGENTS.md",
            "CHANGES.rst",
            "templates/page.md",
        )
    }
    documents = read_package(
        tmp_path,
        {
            "lib/__init__.py": '"""Lib."""\n',
            "lib/docs/fitting.rst": PAGE,
            "lib/short.md": "# Moved\n\nSee elsewhere.\n",
            "lib-1.0.dist-info/README.md": PAGE,
            **others,
        },
    )
    assert documents.keys() == {"lib", "Fitting models"}
    page = documents["Fitting models"]
    assert page.text == PAGE.partition("\n\n")[2].strip().replace(" \n", "\n")
    assert "\n    >>> fit(x)\n    3\n" in page.text
    assert json.loads(page.locator) == {
        "package": "lib",
        "version": "1.0",
        "file": "lib/docs/fitting.rst",
        "kind": "guide",
    }
    assert page.license == "MIT"
    assert not page.is_search_only


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# A *title* #\n\nText.", "A title"),
        ("Intro.\n\nFirst\n-----\n\n# Later\n", "First"),
        ("-----\nno heading\n-----\n", "no heading"),
        ("Nothing here.", "how to"),
        ("---\nname: x\n---\n# Real\n", "Real"),
        ("\x1b[31m# Red\x00\n", "how to"),
    ],
)
def test_the_title_is_the_first_heading_or_the_file_name(text: str, title: str) -> None:
    assert find_title(clean_guide(text), "lib/how_to.md") == title


def test_pages_that_cannot_be_read_are_rejects(tmp_path: Path) -> None:
    files = {"lib/__init__.py": '"""Lib."""\n', "lib/latin.md": b"caf\xe9", "lib/huge.rst": "word " * (MAX_BYTES // 4)}
    site = install_package(tmp_path, files)
    with (site / "lib-1.0.dist-info/RECORD").open("a") as record:
        record.write("lib/gone.md,,\n/etc/outside.md,,\nlib/../../up.md,,\n")
    batches = list(open_source(PythonDocs(kind="python_docs", packages=["lib"]), "s", [str(site)]).batches)
    rejects = {json.loads(reject.locator)["file"]: reject.reason for batch in batches for reject in batch.rejects}
    assert rejects == {"lib/latin.md": "not_utf8", "lib/huge.rst": "unreadable", "lib/gone.md": "unreadable"}


@pytest.mark.parametrize("record", [b"lib/caf\xe9.py,,\n", b'lib/x.py,"' + b"y" * 200_000])
def test_a_broken_record_is_named(tmp_path: Path, record: bytes) -> None:
    site = install_package(tmp_path, {"lib/__init__.py": ""})
    (site / "lib-1.0.dist-info/RECORD").write_bytes(record)
    csv.field_size_limit(131_072)  # Python's own; a package that another test imports has perhaps raised it
    with pytest.raises(UserError, match=r"s\.packages\.0: the package's RECORD can't be read"):
        open_source(PythonDocs(kind="python_docs", packages=["lib"]), "s", [str(site)])


def test_a_license_or_module_on_record_alone_is_no_crash(tmp_path: Path) -> None:
    site = install_package(tmp_path, {"lib/__init__.py": '"""Lib."""\n'})
    (site / "lib-1.0.dist-info/METADATA").write_text(METADATA.replace("-Expression: MIT", ": BSD"))
    with (site / "lib-1.0.dist-info/RECORD").open("a") as record:
        record.write("lib-1.0.dist-info/LICENSE,,\nlib/gone.py,,\n")
    [document] = [
        document
        for batch in open_source(PythonDocs(kind="python_docs", packages=["lib"]), "s", [str(site)]).batches
        for document in batch.docs
    ]
    assert document.license == "unknown"
