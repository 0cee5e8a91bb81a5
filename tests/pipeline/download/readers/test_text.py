"""Test the source `text`: which files are found, read and rejected."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import fsspec
import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.download.params import Text
from pipeline.download.readers import text
from pipeline.download.readers.document import DocumentBatch
from pipeline.download.sources import open_source
from pipeline.frame.errors import UserError
from pipeline.storage import streams


def read_batches(path: Path | str, **settings: object) -> list[DocumentBatch]:
    params = Text.model_validate({"kind": "text", "name": "mine", "path": str(path), **settings})
    reading = open_source(params, "download.sources.1")
    found = list(reading.batches)
    assert sum(batch.n_bytes for batch in found) == reading.total_bytes
    return found


def read_texts(path: Path | str, **settings: object) -> dict[str, str]:
    return {document.title: document.text for batch in read_batches(path, **settings) for document in batch.docs}


def count_reasons(path: Path | str, **settings: object) -> Counter[str]:
    return Counter(reject.reason for batch in read_batches(path, **settings) for reject in batch.rejects)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a folder with one file of each format, a hidden one and an unsupported one."""
    root = tmp_path / "corpus"
    (root / "deep").mkdir(parents=True)
    (root / "b.md").write_text("# B")
    (root / "deep" / "a.rst").write_bytes(b"A\r\n=\r\n")
    (root / "c.txt.gz").write_bytes(gzip.compress(b"C"))
    (root / "rows.jsonl").write_text('{"text": "R1"}\n{"text": "R2"}\n')
    pq.write_table(pa.table({"text": ["P1"]}), root / "rows.parquet")
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / ".hidden.txt").write_text("no")
    with tarfile.open(root / "pack.tgz", "w:gz") as archive:
        archive.add(root / "b.md", "in/b.md")
        archive.add(root / "c.txt.gz", "in/c.txt.gz")
        archive.add(root / "rows.parquet", "in/rows.parquet")
        archive.add(root / "picture.png", "in/picture.png")
    with zipfile.ZipFile(root / "pack.zip", "w") as archive:
        archive.write(root / "b.md", "z.md")
        archive.write(root / "pack.tgz", "inner.tgz")
    return root


def test_a_folder_with_every_format_is_read(folder: Path) -> None:
    assert read_texts(folder) == {
        "b.md": "# B",
        "c.txt.gz": "C",
        "deep/a.rst": "A\n=",
        "pack.tgz/in/b.md": "# B",
        "pack.tgz/in/c.txt.gz": "C",
        "pack.tgz/in/rows.parquet#1": "P1",
        "pack.zip/z.md": "# B",
        "rows.jsonl#1": "R1",
        "rows.jsonl#2": "R2",
        "rows.parquet#1": "P1",
    }
    assert count_reasons(folder) == {"unknown_format": 3}  # a picture twice, an archive inside an archive
    assert sum(batch.counts.get("hidden_files", 0) for batch in read_batches(folder)) == 1


def test_documents_do_not_depend_on_the_location_of_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = read_batches(folder)
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert read_batches("moved") == here
    assert read_batches("moved/") == here
    assert read_batches(f"file://{tmp_path}/moved") == here


@pytest.mark.parametrize(
    ("pattern", "names"), [("*.md", ["b.md"]), ("**/*.rst", ["deep/a.rst"]), ("deep/*", ["a.rst"])]
)
def test_globs_are_expanded(folder: Path, pattern: str, names: list[str]) -> None:
    assert list(read_texts(folder / pattern)) == names


def test_a_file_whose_name_looks_like_a_glob_is_read(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one")
    assert read_texts(tmp_path / "a[1].txt") == {"a[1].txt": "one"}


def test_fsspec_urls_are_read(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/x/a.txt", b"from memory")
    memory.pipe("/bucket/x/b.zip", (folder / "pack.zip").read_bytes())
    assert read_texts("memory://bucket/x") == {"a.txt": "from memory", "b.zip/z.md": "# B"}
    assert read_texts("memory://bucket/x/*.txt") == {"a.txt": "from memory"}
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*.txt", "nosuch://x/y", "only-hidden", "picture.png"])
def test_a_missing_input_is_reported_by_its_setting(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only-hidden").mkdir()
    (tmp_path / "only-hidden" / ".x.txt").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"download\.sources\.1\.path: "):
        read_batches(path)


def test_a_wrong_text_column_is_reported_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "answer": "a"}\n' * 3)
    with pytest.raises(UserError, match=r"download\.sources\.1\.text_column[^$]+answer, question"):
        read_batches(tmp_path / "rows.jsonl")
    assert len(read_texts(tmp_path / "rows.jsonl", text_column="answer")) == 3


def test_split_on_and_license_are_applied(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("One.<|endoftext|>\nTwo.\n<|endoftext|>")
    [batch] = read_batches(tmp_path / "s.txt", split_on="<|endoftext|>", license="CC0-1.0")
    assert [(document.title, document.text, document.license) for document in batch.docs] == [
        ("s.txt#1", "One.", "CC0-1.0"),
        ("s.txt#2", "Two.", "CC0-1.0"),
    ]
    assert json.loads(batch.docs[1].locator) == {"path": "s.txt", "part": 2}
    assert {document.source for document in batch.docs} == {"text/mine"}


def write_truncated_tar(root: Path) -> None:
    with tarfile.open(root / "clipped.tar.gz", "w:gz") as archive:
        for name in ("first.txt", "second.txt"):
            info = tarfile.TarInfo(name)
            data = os.urandom(50_000).hex().encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    whole = (root / "clipped.tar.gz").read_bytes()
    (root / "clipped.tar.gz").write_bytes(whole[: len(whole) * 3 // 4])


def test_broken_files_become_rejects_and_reading_continues(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "clipped.txt.gz").write_bytes(gzip.compress(b"x" * 1000)[:-4])
    (tmp_path / "fake.zip").write_bytes(b"no zip")
    (tmp_path / "fake.parquet").write_bytes(b"no parquet at all")
    (tmp_path / "large.txt").write_bytes(b"x" * 150_000)
    write_truncated_tar(tmp_path)
    found = read_batches(tmp_path, max_member_bytes=120_000)
    rejected = {json.loads(reject.locator)["path"]: reject.reason for batch in found for reject in batch.rejects}
    assert rejected == {
        "latin.txt": "not_utf8",
        "empty.txt": "empty_text",
        "clipped.txt.gz": "unreadable",
        "clipped.tar.gz": "unreadable",
        "fake.zip": "unreadable",
        "fake.parquet": "unreadable",
        "large.txt": "too_large",
    }
    assert [document.title for batch in found for document in batch.docs] == ["clipped.tar.gz/first.txt", "good.txt"]


def test_a_broken_member_does_not_end_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("bad.txt.gz", gzip.compress(b"x" * 100)[:-4])
        archive.writestr("evil/../../../outside.txt", "inside")
        archive.writestr("good.txt", "good")
    data = (tmp_path / "a.zip").read_bytes().replace(b"goodPK", b"gooxPK")  # makes its checksum wrong
    (tmp_path / "b.zip").write_bytes(data)
    assert count_reasons(tmp_path / "a.zip") == {"unreadable": 1}
    assert list(read_texts(tmp_path / "a.zip").values()) == ["inside", "good"]
    assert list(read_texts(tmp_path / "b.zip").values()) == ["inside"]
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_symlink_loop_terminates(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert read_texts(tmp_path) == {"a.txt": "a"}
    assert count_reasons(tmp_path) == {"unknown_format": 1}


def test_many_rows_are_read_in_bounded_batches(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(5_000)))
    found = read_batches(tmp_path / "rows.jsonl")
    assert [len(batch.docs) for batch in found] == [2_048, 2_048, 904]


@pytest.mark.parametrize("pack", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("inner", [".gz", ".lz4", ".zst"])
def test_a_decompression_bomb_inside_an_archive_becomes_a_reject(
    pack: str, inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 100_000)
    zeros = b"\0" * 5_000_000
    packed = {".gz": gzip.compress, ".lz4": lz4.frame.compress, ".zst": zstandard.compress}[inner](zeros)
    path = tmp_path / f"bomb{pack}"
    if pack == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("good.txt", "good")
            archive.writestr(f"bomb.txt{inner}", packed)
    else:
        with tarfile.open(path, f"w:{pack[5:]}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for name, data in (("good.txt", b"good"), (f"bomb.txt{inner}", packed)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    assert count_reasons(path) == {"decompression_bomb": 1}
    assert list(read_texts(path).values()) == ["good"]


def test_nested_fields_and_typed_columns_are_read(tmp_path: Path) -> None:
    meta = [{"url": f"https://a/{number}", "by": {"license": "MIT"}} for number in range(3)]
    table = pa.table(
        {
            "body": pa.array(["one", "two", "three"]).cast(pa.large_string()),
            "key": pa.array([7, 8, 9]),
            "title": pa.array(["T", "T", "U"]).dictionary_encode(),
            "meta": meta,
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    columns = {
        "text_column": "body",
        "id_column": "key",
        "title_column": "title",
        "url_column": "meta.url",
        "license_column": "meta.by.license",
    }
    found = {
        name: [
            document._replace(locator="")
            for batch in read_batches(tmp_path / name, **columns)
            for document in batch.docs
        ]
        for name in ("rows.parquet", "rows.jsonl")
    }
    assert found["rows.parquet"] == found["rows.jsonl"]
    assert [(each.text, each.title, each.url, each.license) for each in found["rows.jsonl"]] == [
        ("one", "T", "https://a/0", "MIT"),
        ("two", "T", "https://a/1", "MIT"),
        ("three", "U", "https://a/2", "MIT"),
    ]


def test_parts_give_the_same_documents_and_are_keyed_by_content(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_keys(**settings: object) -> list[str]:
        params = Text.model_validate({"kind": "text", "name": "mine", "path": str(place), **settings})
        return [part.open().key for part in open_source(params, "s").parts]

    place = folder
    whole = [document for batch in read_batches(folder) for document in batch.docs]
    monkeypatch.setattr(text, "PART_BYTES", 1)
    assert [document for batch in read_batches(folder) for document in batch.docs] == whole
    before = read_keys()
    assert len(set(before)) == len(before) == 8
    assert not set(before) & set(read_keys(license="MIT"))
    place = folder.rename(tmp_path / "moved")
    assert read_keys() == before
    (place / "b.md").write_text("# C")
    assert len(set(before) - set(read_keys())) == 1


JSON_ROWS = [{"text": f"row {number}", "id": number} for number in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in JSON_ROWS).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", LINES),
        ("a.json", json.dumps(JSON_ROWS, indent=1).encode()),
        ("c4-train.00000-of-01024.json.gz", gzip.compress(LINES)),
        ("a.json.zst", zstandard.compress(json.dumps(JSON_ROWS).encode())),
        ("a.jsonl.zstd", zstandard.compress(LINES)),
        ("a.csv", b"id,text\n0,row 0\n1,row 1\n2,row 2\n"),
        ("a.tsv.bz2", bz2.compress(b"id\ttext\r\n0\trow 0\r\n1\trow 1\r\n2\trow 2\r\n")),
        ("a.jsonl", LINES.decode().encode("utf-16")),
        ("a.jsonl", LINES.replace(b"\n", b"\r")),
    ],
)
def test_rows_of_every_ending_are_read(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    documents = [document for batch in read_batches(tmp_path, id_column="id") for document in batch.docs]
    assert [document.text for document in documents] == ["row 0", "row 1", "row 2"]
    assert [json.loads(document.locator)["id"] for document in documents] == ["0", "1", "2"]
    assert count_reasons(tmp_path) == {}


@pytest.mark.parametrize("ending", ["tbz2", "tbz", "txz", "tgz", "tar.bz2", "tar.xz", "tar.gz", "tar"])
def test_archives_of_every_ending_are_read(tmp_path: Path, ending: str) -> None:
    packing = {"b": "bz2", "x": "xz", "g": "gz"}.get(ending.removeprefix("tar.").removeprefix("t")[:1], "")
    with tarfile.open(tmp_path / f"a.{ending}", f"w:{packing}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        info = tarfile.TarInfo("in.json")
        info.size = len(LINES)
        archive.addfile(info, io.BytesIO(LINES))
    assert list(read_texts(tmp_path).values()) == ["row 0", "row 1", "row 2"]


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_the_format_of_a_source_overrides_endings(tmp_path: Path, kind: str) -> None:
    (tmp_path / "part-00000").write_bytes(gzip.compress(LINES))
    (tmp_path / "part-00001.dat").write_bytes(gzip.compress(LINES))
    assert count_reasons(tmp_path) == {"unknown_format": 2}
    assert len(read_texts(tmp_path, format=f"{kind}.gz")) == 6
    assert len(read_texts(tmp_path / "part-00000", format=f"{kind}.gz")) == 3
    assert count_reasons(tmp_path, format="txt") == {"unreadable": 2}


@pytest.mark.parametrize("wrong", ["exe", "gz", "jsonl.zip", ".jsonl", "warc"])
def test_an_unknown_format_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="format"):
        read_texts(tmp_path, format=wrong)


def test_breaks_are_counted_after_the_rows_before_them(tmp_path: Path) -> None:
    packed = gzip.compress(LINES)
    (tmp_path / "behind.jsonl.gz").write_bytes(packed + b"garbage")
    (tmp_path / "behind.txt.gz").write_bytes(gzip.compress(b"a text") + b"garbage")
    (tmp_path / "clipped.jsonl.gz").write_bytes(packed + gzip.compress(LINES)[:-9])
    (tmp_path / "padded.jsonl.gz").write_bytes(packed + bytes(512))
    found = read_batches(tmp_path)
    titles = Counter(document.title.partition("#")[0] for batch in found for document in batch.docs)
    assert titles["behind.jsonl.gz"] == titles["padded.jsonl.gz"] == 3
    assert titles["behind.txt.gz"] == 1
    assert titles["clipped.jsonl.gz"] >= 3
    rejected = {json.loads(reject.locator)["path"]: reject.reason for batch in found for reject in batch.rejects}
    assert rejected == {
        "behind.jsonl.gz": "trailing_bytes",
        "behind.txt.gz": "trailing_bytes",
        "clipped.jsonl.gz": "unreadable",
    }


def test_a_name_that_hides_a_compression_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(LINES))
    [reject] = [reject for batch in read_batches(tmp_path) for reject in batch.rejects]
    assert reject.reason == "unreadable"
    assert "set `format` of the source to jsonl.gz" in reject.detail


def test_a_long_window_of_zstd_is_a_setting(tmp_path: Path) -> None:
    params = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=params).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(packer.compress(LINES) + packer.flush())
    [reject] = [reject for batch in read_batches(tmp_path) for reject in batch.rejects]
    assert "max_window_bytes" in reject.detail
    assert len(read_texts(tmp_path, max_window_bytes=1 << 28)) == 3
    with pytest.raises(ValueError, match="max_window_bytes"):
        read_texts(tmp_path, max_window_bytes=1 << 32)


def test_a_table_beside_texts_is_no_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{\n  "name": "x"\n}\n')
    (tmp_path / "sizes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"text_column: no row has this column"):
        read_batches(tmp_path)
    (tmp_path / "a.txt").write_text("a text")
    assert read_texts(tmp_path) == {"a.txt": "a text"}
    assert count_reasons(tmp_path) == {"no_text_column": 2}
    with pytest.raises(UserError, match=r"text_column: no row has this column"):
        read_batches(tmp_path / "sizes.csv")


def test_a_shard_without_the_text_column_is_counted_and_others_are_read(tmp_path: Path) -> None:
    far = pa.array([2**55], pa.timestamp("us"))
    pq.write_table(pa.table({"when": far, "body": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["good"], "when": far}), tmp_path / "b.parquet")
    assert list(read_texts(tmp_path, id_column="when").values()) == ["good"]
    assert count_reasons(tmp_path) == {"no_text_column": 1}
    with pytest.raises(UserError, match=r"text_column: no row has this column[^$]+body, when"):
        read_batches(tmp_path / "a.parquet")


def test_a_file_name_that_is_not_utf8_is_read_and_escaped(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("coffee")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/th\xe9.png")).write_bytes(b"x")
    for path in (tmp_path, tmp_path / "*.*"):
        [document] = [document for batch in read_batches(path) for document in batch.docs]
        assert (document.text, document.title) == ("coffee", "caf\\udce9.txt")
        [reject] = [reject for batch in read_batches(path) for reject in batch.rejects]
        assert "th\\udce9.png" in json.loads(reject.locator)["path"]
