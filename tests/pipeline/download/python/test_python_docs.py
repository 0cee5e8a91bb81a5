"""Test reading the documentation of an environment: a synthetic one, and the standard library's `json`."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pipeline.download.params import PythonDocs
from pipeline.download.python.python_docs import get_module_name, open_source
from pipeline.download.readers.document import Document, DocumentBatch, Reject
from pipeline.frame.errors import UserError

FILES = {
    "boxlib/__init__.py": '"""Boxes."""\nfrom ._impl import Box, pack\n__all__ = ["Box", "pack"]\n',
    "boxlib/_impl.py": '''
class Box:
    """A box."""
    def open(self, key: str = "k") -> None:
        """Opens it."""

def pack(things, *, tight=False):
    """Packs things.

    Tightly, maybe.
    """

def unsaid(): pass
''',
    "boxlib/_fast.pyi": 'def weigh(box: Box) -> float:\n    """weigh(box)\n\n    Weighs a box."""\n',
    "boxlib/_impl.pyi": 'def pack():\n    """A stub beside its implementation."""\n',
    "boxlib/bad.py": "def broken(:\n",
    "boxlib/latin.py": b'"""Caf\xe9."""\n',
    "boxlib/lone.py": 'def f():\n    "A \\ud800."\n',
    "boxlib/tests/test_box.py": '"""Tests."""\n',
    "boxlib/_vendor/other.py": '"""Another project."""\n',
    "boxlib/box_pb2.py": '"""Generated."""\n',
    "box_lib-1.2.dist-info/METADATA": "Metadata-Version: 2.4\nName: box-lib\nVersion: 1.2\nLicense-Expression: MIT\n",
}
PARAMS = PythonDocs(kind="python_docs", packages=["box-lib"])


def install(root: Path, files: dict[str, Any] = FILES) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / "box_lib-1.2.dist-info/RECORD").write_text("".join(f"{name},,\n" for name in [*files, "boxlib/gone.py"]))
    return root


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIGPT_WORKERS", "1")
    return install(tmp_path / "site")


def read(site: Path, params: PythonDocs = PARAMS) -> list[DocumentBatch]:
    return list(open_source(params, "download.sources.0", [str(site)]).batches)


def get_documents(batches: list[DocumentBatch]) -> dict[str, Document]:
    return {document.title: document for batch in batches for document in batch.docs}


def get_rejects(batches: list[DocumentBatch]) -> dict[str, Reject]:
    return {json.loads(reject.locator)["file"]: reject for batch in batches for reject in batch.rejects}


def test_documents_have_public_name_text_locator_and_license(site: Path) -> None:
    documents = get_documents(read(site))
    assert {title: document.text for title, document in documents.items()} == {
        "boxlib": "boxlib\n\nBoxes.",
        "boxlib.Box": "boxlib.Box\n\nA box.",
        "boxlib.Box.open": 'boxlib.Box.open(key: str = "k") -> None\n\nOpens it.',
        "boxlib.pack": "boxlib.pack(things, *, tight=False)\n\nPacks things.\n\nTightly, maybe.",
        "boxlib._fast.weigh": "boxlib._fast.weigh(box: Box) -> float\n\nWeighs a box.",
    }
    assert {document.source for document in documents.values()} == {"python_docs/box-lib"}
    assert {document.license for document in documents.values()} == {"MIT"}
    assert documents["boxlib.Box.open"].locator == (
        '{"file":"boxlib/_impl.py","kind":"method","line":4,"module":"boxlib._impl","package":"box-lib",'
        '"qualname":"Box.open","signature":"(key: str = \\"k\\") -> None","version":"1.2"}'
    )


def test_unreadable_files_become_rejects_and_undocumented_symbols_are_counted(site: Path) -> None:
    batches = read(site)
    assert {name: reject.reason for name, reject in get_rejects(batches).items()} == {
        "boxlib/bad.py": "not_python",
        "boxlib/latin.py": "not_utf8",
        "boxlib/lone.py": "not_unicode",
        "boxlib/gone.py": "unreadable",
    }
    # boxlib._impl and unsaid; the modules of lone.py and of the stub
    assert sum(batch.counts.get("undocumented_symbols", 0) for batch in batches) == 4


def test_documents_do_not_depend_on_the_folder_or_the_number_of_workers(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(site, tmp_path / "elsewhere" / "deep")
    monkeypatch.setattr("pipeline.download.python.python_docs.CHUNK_BYTES", 1)
    one = get_documents(read(site))
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    assert list(get_documents(read(moved)).items()) == list(one.items())


def test_progress_sums_to_the_total_bytes(site: Path) -> None:
    reading = open_source(PARAMS, "download.sources.0", [str(site)])
    assert sum(batch.n_bytes for batch in reading.batches) == reading.total_bytes > 0


@pytest.mark.parametrize(
    ("packages", "message"),
    [(["not-there"], "download.sources.0.packages.0: the package is not installed"), (["empty"], "no Python sources")],
)
def test_a_missing_package_is_reported_by_its_setting(packages: list[str], message: str, site: Path) -> None:
    (site / "empty-1.dist-info").mkdir()
    (site / "empty-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: empty\nVersion: 1\n")
    with pytest.raises(UserError, match=message):
        read(site, PythonDocs(kind="python_docs", packages=packages))


def test_json_of_the_real_standard_library_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", "1")
    real = Path(sysconfig.get_path("stdlib"))
    root = tmp_path / "lib"
    shutil.copytree(real / "json", root / "json", ignore=lambda *_: {"__pycache__"})
    (root / "pydoc_data").mkdir()
    (root / "pydoc_data/topics.py").write_text("topics = {'for': 'The \"for\" statement\\n', 'empty': ''}\n")
    (root / "site-packages").mkdir()
    (root / "site-packages/other.py").write_text('"""Not the standard library."""\n')
    reading = open_source(PythonDocs(kind="python_docs", packages=["stdlib"]), "s", stdlib=root)
    documents = get_documents(list(reading.batches))
    assert documents["json.dumps"].text.startswith("json.dumps(obj, *, skipkeys=False, ensure_ascii=True")
    assert "Serialize ``obj``" in documents["json.dumps"].text
    assert documents["json.JSONDecoder.raw_decode"].source == "python_docs/stdlib"
    assert json.loads(documents["for"].locator)["kind"] == "topic"
    assert {document.license for document in documents.values()} == {"PSF-2.0"}
    assert not any("other" in title for title in documents)


@pytest.mark.parametrize(("relative", "name"), [("a/b/__init__.py", "a.b"), ("a/b.pyi", "a.b"), ("a.py", "a")])
def test_a_path_becomes_a_module_name(relative: str, name: str) -> None:
    assert get_module_name(relative) == name


def test_no_package_is_imported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "boxlib/__init__.py").write_text('"""Boxes."""\nraise SystemExit("imported")\n')
    monkeypatch.syspath_prepend(str(site))
    assert "boxlib" in get_documents(read(site))
    assert "boxlib" not in sys.modules
