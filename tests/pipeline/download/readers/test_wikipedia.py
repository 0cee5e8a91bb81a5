"""Test the source `wikipedia`: which pages become documents, counts or rejects; any compression and number of workers."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from pipeline.download.params import Wikipedia
from pipeline.download.readers import chunks
from pipeline.download.readers.document import Document, DocumentBatch
from pipeline.download.sources import open_source
from pipeline.frame.errors import UserError
from tests.pipeline.download.readers.sample_dumps import HEAD, TAIL, make_page

PAGES = [
    make_page("An article", 0, 1, "'''Text''' with a [[link]].[[Datei:X.jpg|mini]]\n[[Kategorie:Y]]"),
    make_page("Ärger & Co/Teil", 0, 2, "More text{{citation needed}}."),
    make_page("Other name", 0, 3, "#REDIRECT [[An article]]", more='<redirect title="An article" />'),
    make_page("Old name", 0, 4, "#redirect [[An article]]"),
    make_page("Talk:An article", 1, 5, "talk"),
    make_page("Kategorie:Y", -1, 6, "no ns element, as in old dumps"),
    make_page("An article: with a colon", -1, 7, "an article of an old dump"),
    make_page("Common.js", 0, 8, "var x;", model="javascript"),
    make_page("Empty", 0, 9, "{{template}}"),
    make_page("Long", 0, 10, "x" * 3_000),
    make_page("Twice", 0, 12, "old", more="<revision><id>2000</id><text>new</text></revision>"),
]
DUMP = (HEAD + "".join(PAGES) + TAIL).encode()


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")


def read_batches(path: Path | str, **settings: object) -> list[DocumentBatch]:
    values = {"kind": "wikipedia", "name": "made", "path": str(path), "max_member_bytes": 2_500, **settings}
    reading = open_source(Wikipedia.model_validate(values), "download.sources.0")
    found = list(reading.batches)
    assert sum(batch.n_bytes for batch in found) == reading.total_bytes
    return found


def get_documents(found: list[DocumentBatch]) -> list[Document]:
    return [document for batch in found for document in batch.docs]


def count_reasons(found: list[DocumentBatch]) -> Counter[str]:
    return Counter(reject.reason for batch in found for reject in batch.rejects)


def sum_counts(found: list[DocumentBatch]) -> Counter[str]:
    return sum((Counter(dict(batch.counts)) for batch in found), Counter[str]())


def test_articles_become_documents_and_other_pages_are_counted(tmp_path: Path) -> None:
    (tmp_path / "made.xml").write_bytes(DUMP)
    found = read_batches(tmp_path / "made.xml", max_member_bytes=2_500)
    first, second, third, fourth = get_documents(found)
    assert first == Document(
        "wikipedia/made",
        '{"file":"made.xml","page":1,"revision":1001}',
        "Text with a link.",
        "An article",
        "https://made.example/wiki/An_article",
        "CC-BY-SA-4.0",
    )
    assert (second.text, second.url) == ("More text.", "https://made.example/wiki/%C3%84rger_%26_Co/Teil")
    assert (third.title, fourth.text) == ("An article: with a colon", "new")
    assert '"revision":2000' in fourth.locator
    assert count_reasons(found) == {"empty_text": 1, "too_large": 1}
    assert sum_counts(found) == {
        "wikipedia_redirects": 2,
        "wikipedia_other_namespaces": 2,
        "wikipedia_other_models": 1,
        "wikipedia_older_revisions": 1,
    }


def test_a_page_that_would_stall_the_parser_becomes_a_reject(tmp_path: Path) -> None:
    (tmp_path / "made.xml").write_text(HEAD + make_page("A", 0, 1, "{{a|" * 20_000) + make_page("B", 0, 2, "b") + TAIL)
    found = read_batches(tmp_path / "made.xml", max_member_bytes=1_000_000)
    assert ([document.title for document in get_documents(found)], count_reasons(found)) == (["B"], {"bad_wikitext": 1})


@pytest.mark.parametrize(
    "name", ["x.xml.bz2", "x.xml.gz", "x.xml.xz", "x.xml.zst", "x-articles1.xml-p1p2.bz2", "x-16.xml"]
)
def test_compressed_and_utf_16_dumps_are_read(tmp_path: Path, name: str) -> None:
    packs = {"bz2": bz2.compress, "gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
    pack = packs.get(name.rpartition(".")[2], lambda data: data.decode().encode("utf-16"))
    (tmp_path / name).write_bytes(pack(DUMP))
    (tmp_path / "plain.xml").write_bytes(DUMP)
    expected = [document.text for document in get_documents(read_batches(tmp_path / "plain.xml"))]
    assert [document.text for document in get_documents(read_batches(tmp_path / name))] == expected


def test_a_truncated_dump_is_read_up_to_its_end(tmp_path: Path) -> None:
    long = (HEAD + "".join(make_page(f"P{n}", 0, n, f"text {n}") for n in range(2_000)) + TAIL).encode()
    for name, data in (("a.xml", long), ("a.xml.bz2", bz2.compress(long, 1)), ("a.xml.gz", gzip.compress(long))):
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        found = read_batches(tmp_path / name)
        titles = [document.title for document in get_documents(found)]
        assert titles == [f"P{n}" for n in range(len(titles))]
        assert count_reasons(found) == {"unreadable": 1}
        assert name == "a.xml.bz2" or 1_000 < len(titles) < 2_000


def test_decompression_bombs_and_entities_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml.gz").write_bytes(gzip.compress(HEAD.encode() + bytes(150_000_000), 9))
    (tmp_path / "b.xml").write_text('<!DOCTYPE x [<!ENTITY a "ha">]>' + HEAD + TAIL)
    (tmp_path / "c.txt").write_text("no dump")
    assert count_reasons(read_batches(tmp_path)) == {"unreadable": 2, "unknown_format": 1}


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"download\.sources\.0\.path"):
        read_batches(tmp_path / "missing.xml")


@pytest.mark.slow
def test_the_same_documents_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_PAGES", 5)
    text = "A [[link]] and {{a template}} in some ''text''.\n\n" * 20
    made = "".join(make_page(f"P{n}", 0, n, f"{n} {text}") for n in range(120))
    (tmp_path / "a.xml").write_text(HEAD + made + TAIL)
    alone = read_batches(tmp_path / "a.xml", max_member_bytes=1_000_000)
    monkeypatch.setenv("MINIGPT_ENGINE", "process")
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    assert read_batches(tmp_path / "a.xml", max_member_bytes=1_000_000) == alone
    assert len(alone) > 8  # more than this process reads itself


def test_the_head_of_the_dump_declares_the_language_and_the_names_of_files(tmp_path: Path) -> None:
    head = HEAD.replace('xml:lang="de"', 'xml:lang="zh"').replace(
        "</namespaces>",
        '<namespace key="6">Tuxiang</namespace></namespaces><namespacealiases><ns id="14">Fenlei</ns></namespacealiases>',
    )
    text = (
        "這個-{zh-cn:软件;zh-tw:軟體}-的[[Datei:A|a]][[Tuxiang:B|b]][[Fenlei:C]][[Kategorie:D]]。\n\n見[[Foobar:E]]也。"
    )
    (tmp_path / "a.xml").write_text(head + make_page("A", 0, 1, text) + make_page("Tuxiang:B", -1, 2, "x") + TAIL)
    found = read_batches(tmp_path / "a.xml")
    assert [document.text for document in get_documents(found)] == ["這個軟體的。\n\n見Foobar:E也。"]
    assert sum_counts(found) == {"wikipedia_other_namespaces": 1}


def test_without_a_declared_language_the_address_of_the_wiki_tells_it(tmp_path: Path) -> None:
    head = HEAD.replace(' xml:lang="de"', "").replace("made.example", "sr.wikipedia.org")
    (tmp_path / "a.xml").write_text(head + make_page("A", 0, 1, "Ово је -{sr-ec:реч; sr-el:reč}-.") + TAIL)
    assert [document.text for document in get_documents(read_batches(tmp_path / "a.xml"))] == ["Ово је реч."]
