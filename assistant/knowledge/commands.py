"""The commands of `python -m assistant.knowledge`: parsed arguments in, lines on the terminal out.

Texts from documents are printed without control characters, so that no escape code in a title or a file name reaches the terminal.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

from assistant.knowledge.collection import (
    StoredDocument,
    get_collections_folder,
    list_collections,
    open_collection,
)
from assistant.knowledge.collection_writer import CollectionWriter, open_writer, say_on_stderr
from assistant.knowledge.find_documents import check_paths, count_files, covers, make_root
from assistant.knowledge.importing import Importer, ImportReport, list_reasons
from assistant.knowledge.knowledge_base import Knowledge, describe_place
from assistant.knowledge.parsers.layout import CONTROLS
from assistant.knowledge.pipeline_door import MatchTakedown, load_takedowns, show_bar
from assistant.knowledge.recall import measure_recall, read_expected
from assistant.knowledge.segment_vectors import check_store
from model.retrieval.searcher import ABOUT_EMBED

MAX_LISTED = 20
MAX_TRACED = 3
EMBED_FOLDERS = (Path("var/champion/embed"), Path("data/embed"))


def show(text: str) -> None:
    """Print a line without control characters."""
    print(CONTROLS.sub("", text), flush=True)


def run_add(args: argparse.Namespace) -> None:
    """Add documents to a collection."""
    check_paths(args.paths)
    match_takedown = load_takedowns(args.takedowns)
    started = time.monotonic()
    with open_writer(args.collection, say_on_stderr) as writer, show_bar("files", count_files(args.paths)) as bar:
        importer = Importer(writer, match_takedown, lambda _: bar.advance(), args.license)
        report = importer.run(args.paths)
        manifest = writer.manifest
    for line in describe_import(report, time.monotonic() - started):
        show(line)
    show(
        f"{args.collection}: {manifest.n_documents:,} documents, {manifest.n_sections:,} sections; ask them with: "
        f"python -m assistant --collection {args.collection}"
    )


def describe_import(report: ImportReport, seconds: float) -> list[str]:
    """Return what an import did, in lines."""
    counts = {
        "added": report.n_added,
        "changed": report.n_changed,
        "removed": report.n_removed,
        "unchanged": report.n_unchanged,
    }
    if not report.n_added + report.n_changed + report.n_removed:
        head = f"nothing to do: {report.n_unchanged:,} documents are unchanged"
    else:
        head = ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)
        head += f"; {report.n_sections:,} new sections in {seconds:.1f} s"
    skipped = [f"  not taken: {line}" for line in list_reasons(report)]
    return [head, *skipped]


def run_list(args: argparse.Namespace) -> None:
    """List the collections, or the documents of one."""
    if args.collection is None:
        names = list_collections()
        for name in names:
            show(_describe_collection(name, is_json=args.json))
        if not names and not args.json:
            show(
                f"there is no collection in {get_collections_folder()}; make one with: python -m assistant.knowledge add PATH …"
            )
        return
    for _, document in open_collection(args.collection).iterate_documents():
        if args.json:
            show(json.dumps(document._asdict(), ensure_ascii=False))
        else:
            show(f"{document.doc_id[:12]}  {document.n_sections:5,} sections  {document.title}  {document.key}")


def _describe_collection(name: str, *, is_json: bool) -> str:
    try:
        manifest = open_collection(name).manifest
    except ValueError as error:
        return json.dumps({"name": name, "error": str(error)}) if is_json else f"{name}: {error}"
    if is_json:
        return json.dumps({"name": name, "documents": manifest.n_documents, "sections": manifest.n_sections})
    return f"{name}: {manifest.n_documents:,} documents, {manifest.n_sections:,} sections, {len(manifest.segments)} segments"


def run_remove(args: argparse.Namespace) -> None:
    """Remove documents from a collection, or all of it."""
    open_collection(args.collection)
    with open_writer(args.collection, say_on_stderr) as writer:
        if args.everything:
            n_documents = writer.manifest.n_documents
            writer.drop()
            show(f"removed the collection {args.collection} with {n_documents:,} documents")
            return
        if not args.keys:
            raise ValueError(
                "remove: nothing named; found no DOCUMENT; name paths, folders, URLs or ids, or give --everything"
            )
        documents = [document for _, document in writer.collection.iterate_documents()]
        removed = [each for key in args.keys for each in _find_named(documents, key)]
        writer.commit([], frozenset(each.doc_id for each in removed))
    for each in removed[:MAX_LISTED]:
        show(f"removed {each.key}")
    show(f"{len(removed):,} documents removed; their text is in no file of the collection any more")


def _find_named(documents: Iterable[StoredDocument], name: str) -> list[StoredDocument]:
    """Return the documents that a key, a path, a folder or the beginning of an id names. Raise ValueError if there are none."""
    root = make_root(name)
    named = [each for each in documents if name == each.key or covers(root, each.key)]
    named = named or [each for each in documents if len(name) >= 6 and each.doc_id.startswith(name.lower())]
    if not named:
        raise ValueError(f"remove: no such document; found none at {name}; `list` shows paths and ids")
    return named


def run_rebuild(args: argparse.Namespace) -> None:
    """Write the index of a collection anew."""
    open_collection(args.collection)
    check_store(args.store or "")
    with open_writer(args.collection, say_on_stderr) as writer:
        if args.store is not None:
            writer.set_store(args.store)
        writer.rebuild()
        manifest = writer.manifest
    show(f"rebuilt {args.collection}: {manifest.n_documents:,} documents, {manifest.n_sections:,} sections")


def run_takedown(args: argparse.Namespace) -> None:
    """Remove from all collections what the list of takedowns covers."""
    match_takedown = load_takedowns(args.takedowns)
    total = 0
    for name in list_collections():
        with open_writer(name, say_on_stderr) as writer:
            removed = remove_taken_down(writer, match_takedown)
        for document, stone in removed[:MAX_LISTED]:
            show(f"{name}: removed {document.key} ({stone})")
        total += len(removed)
    show(f"{total:,} documents of {len(list_collections())} collections taken down")


def remove_taken_down(writer: CollectionWriter, match_takedown: MatchTakedown) -> list[tuple[StoredDocument, str]]:
    """Remove the documents that a takedown covers; return them with the takedown's key."""
    documents = [document for _, document in writer.collection.iterate_documents()]
    covered = [(each, stone) for each, stone in zip(documents, match_takedown(documents), strict=True) if stone]
    if covered:
        writer.commit([], frozenset(each.doc_id for each, _ in covered))
    return covered


def run_search(args: argparse.Namespace) -> None:
    """Search a collection as the assistant does."""
    open_collection(args.collection)
    knowledge = _open_knowledge(args)
    started = time.perf_counter()
    found = knowledge.search(args.query, args.limit, args.query)
    milliseconds = (time.perf_counter() - started) * 1000
    for number, result in enumerate(found.results, 1):
        show(f"[{number}] {result.section.title}")
        show(f"    {result.line.partition('] ')[2]}")
        show(f"    {describe_place(result)}")
    for note in found.notes:
        show(f"note: {note}")
    show(f"{len(found.results) or 'no'} of {len(knowledge):,} sections, {milliseconds:.1f} ms")
    for step in found.trace if args.trace else ():
        hits = "; ".join(f"{title} {score:.3f}" for title, score in step.hits[:MAX_TRACED])
        show(f"  {step.name} ({step.milliseconds:.2f} ms): {hits or step.note}")


def run_evaluate(args: argparse.Namespace) -> None:
    """Measure the search of a collection with questions whose sections are known."""
    open_collection(args.collection)
    questions = read_expected(args.file)
    knowledge = _open_knowledge(args)
    measured = measure_recall(knowledge, questions)
    if args.json:
        show(json.dumps(measured._asdict()))
        return
    first, three, ten = (f"{share:.1%}" for share in (measured.recall_1, measured.recall_3, measured.recall_10))
    show(f"{measured.n_questions} questions: the right section is first for {first}, in the first three for {three}")
    show(f"(± {measured.error_3:.1%}), in the first ten for {ten}; MRR@10 {measured.mrr_10:.3f}")
    for question in measured.missed[:MAX_LISTED]:
        show(f"  not in the first three: {question}")


def _open_knowledge(args: argparse.Namespace) -> Knowledge:
    knowledge = Knowledge.open(None, args.embed or find_embed(), [args.collection])
    for notice in knowledge.notices:
        say_on_stderr(notice)
    return knowledge


def find_embed() -> Path | None:
    """Return the embed folder of the champion, else of this workspace, else none."""
    return next((folder for folder in EMBED_FOLDERS if (folder / ABOUT_EMBED).is_file()), None)
