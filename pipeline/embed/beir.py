"""Measure search on a public retrieval set: `python -m pipeline.embed.beir FOLDER` compares it with BM25.

In: a folder in the layout of BEIR (Thakur et al., NeurIPS 2021): corpus.jsonl {"_id", "title", "text"}, queries.jsonl {"_id",
"text"} and qrels/test.tsv (query, document, relevance). Out: nDCG@10, R@10 and MRR@10 of BM25, vectors, both, both reranked, and
the ranking of users' own documents (model/retrieval/prose_search.py), with standard errors. The judgments are for measuring only:
embedder and reranker learn from the documents themselves, or with `--embed` come from a finished stage. A file that is missing or
is not JSON is refused by name; rows without an id or a text, repeated ids and judgments of unknown ids are counted.

Memory and time: those of the stages index and embed on the same documents.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from model.retrieval.embedder import Embedder
from model.retrieval.prose_search import rank_prose
from model.retrieval.reranker import Reranker
from model.retrieval.reranking.unit_parts import cut_units
from model.retrieval.reranking.unit_words import describe_units, split_units
from model.retrieval.sections import Section, hash_text
from model.retrieval.segment import Segment, write_segment
from model.retrieval.stores.vectors import ExactStore
from model.retrieval.word_search import MAX_WORDS, Source, WordSearch
from model.retrieval.word_stems import split_content_words
from pipeline.embed.params import Embed
from pipeline.embed.retrieval_metrics import DEPTH
from pipeline.embed.stage import run
from pipeline.embed.views import View, rerank
from pipeline.frame.errors import UserError
from pipeline.frame.settings import load_section
from pipeline.storage.lines import read_json_list, read_list

STEPS = ("bm25", "vectors", "hybrid", "reranked", "prose")


class RetrievalSet(NamedTuple):
    """Documents (title, text) and queries by id, grades by query and document, and how many rows were left out, by reason."""

    documents: dict[str, tuple[str, str]]
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]
    left_out: Counter[str]


def read_set(folder: Path, split: str = "test") -> RetrievalSet:
    """Read a set. Raises `UserError` for a file that is missing, unreadable or without a usable row."""
    left_out: Counter[str] = Counter()
    documents = {
        id_: (str(row.get("title") or "").strip(), text)
        for id_, row, text in _read_texts(folder / "corpus.jsonl", left_out)
    }
    queries = {id_: text for id_, _, text in _read_texts(folder / "queries.jsonl", left_out)}
    path = folder / "qrels" / f"{split}.tsv"
    grades = _read_grades(path, documents, queries, left_out)
    for name, found in {"corpus.jsonl": documents, "queries.jsonl": queries, f"qrels/{split}.tsv": grades}.items():
        if not found:
            counts = ", ".join(f"{reason}: {n}" for reason, n in sorted(left_out.items())) or "an empty file"
            raise UserError(f"{folder / name}: no usable row", counts, "give a set in the layout of BEIR")
    return RetrievalSet(documents, {id_: queries[id_] for id_ in grades}, grades, left_out)


def _read_texts(path: Path, left_out: Counter[str]) -> list[tuple[str, Mapping[str, object], str]]:
    """Return (id, row, text) of the rows that have an id and a text; the first of each id."""
    rows: dict[str, tuple[str, Mapping[str, object], str]] = {}
    for _, row in read_json_list(_check_file(path)):
        id_, text = (row.get("_id"), row.get("text")) if isinstance(row, dict) else (None, None)
        if not isinstance(id_, str | int) or isinstance(id_, bool) or str(id_) == "":
            left_out[f"{path.name}: no _id"] += 1
        elif not isinstance(text, str) or not (text.strip() or str(row.get("title") or "").strip()):
            left_out[f"{path.name}: no text"] += 1
        elif str(id_) in rows:
            left_out[f"{path.name}: repeated _id"] += 1
        else:
            rows[str(id_)] = (str(id_), row, text)
    return list(rows.values())


def _read_grades(
    path: Path, documents: Mapping[str, object], queries: Mapping[str, object], left_out: Counter[str]
) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for at, (_, line) in enumerate(read_list(_check_file(path))):
        query, document, grade = (*line.split("\t"), "", "", "")[:3]
        if at == 0 and not _is_whole_number(grade):
            continue  # the names of the columns
        if not _is_whole_number(grade):
            left_out[f"{path.name}: no relevance"] += 1
        elif query not in queries or document not in documents:
            left_out[f"{path.name}: unknown id"] += 1
        elif int(grade) > 0:
            grades.setdefault(query, {})[document] = int(grade)
    return grades


def _check_file(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: missing", "no such file", "give a folder with corpus.jsonl, queries.jsonl and qrels/")
    return path


def _is_whole_number(text: str) -> bool:
    return text.strip().removeprefix("-").isascii() and text.strip().removeprefix("-").isdigit()


def make_sections(documents: Mapping[str, tuple[str, str]]) -> list[Section]:
    """Return one section per document. Titles are for reading here, so they need not be distinct."""
    return [
        Section(
            id_,
            id_,
            title or text[:60],
            (),
            "text",
            text,
            0,
            len(text),
            0,
            1,
            1,
            1,
            "",
            "beir",
            "",
            hash_text(text),
            "",
            0,
        )
        for id_, (title, text) in documents.items()
    ]


def open_trained(params: Embed, index: Path, folder: Path) -> tuple[View, Reranker]:
    """Train on an index, without any question, and open the result."""
    (folder / "questions").mkdir()
    out = folder / "embed"
    out.mkdir()
    run(params, index=index, questions=folder / "questions", out=out)
    return open_finished(index, out)


def open_finished(index: Path, embed: Path) -> tuple[View, Reranker]:
    """Open an index with the embedder and the reranker of a finished stage, which may belong to another index."""
    segment, reranker = Segment.open(index), Reranker.load(embed)
    embedder: Embedder = reranker.embedder
    parts = cut_units(segment)
    store = ExactStore(embedder.width)
    store.add(np.arange(segment.sections.n_units), embedder.embed_units(parts))
    return View(segment, store, describe_units(split_units(parts), embedder), embedder), reranker


def measure_set(found: RetrievalSet, view: View, reranker: Reranker) -> dict[str, dict[str, tuple[float, float]]]:
    """Return by ranking and metric the mean over the queries and its standard error."""
    ids = view.segment.sections.column("doc_id")
    lines: dict[str, list[tuple[float, float, float]]] = {step: [] for step in STEPS}
    search = WordSearch([Source(view.segment, view.store, has_synonyms=True)], view.embedder, None)
    for query, text in found.queries.items():
        fused, ordered = rerank(view, reranker, text)
        words = list(dict.fromkeys(split_content_words(text)))[:MAX_WORDS]
        prose = rank_prose(search, words, text, []).rows
        rankings = (view.rank_words(text), view.rank_vectors(text), fused, ordered, prose)
        for step, rows in zip(STEPS, rankings, strict=True):
            lines[step].append(score_ranking([ids[row] for row in rows[:DEPTH]], found.grades[query]))
    return {step: _summarize(np.array(values)) for step, values in lines.items()}


def score_ranking(ids: Sequence[str], grades: Mapping[str, int]) -> tuple[float, float, float]:
    """Return nDCG@10 (gain: the grade), R@10 and the reciprocal rank of the first relevant document."""
    gains = [grades.get(id_, 0) for id_ in ids[:DEPTH]]
    ideal = sorted(grades.values(), reverse=True)[:DEPTH]
    ndcg = _discount(gains) / _discount(ideal)
    recall = sum(gain > 0 for gain in gains) / len(grades)
    return ndcg, recall, next((1 / place for place, gain in enumerate(gains, 1) if gain), 0.0)


def _discount(gains: Sequence[int]) -> float:
    return float(sum(gain / np.log2(place + 1) for place, gain in enumerate(gains, 1)))


def _summarize(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> dict[str, tuple[float, float]]:
    means, errors = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))
    names = ("ndcg10", "recall10", "mrr10")
    return {name: (float(mean), float(error)) for name, mean, error in zip(names, means, errors, strict=True)}


def main(argv: list[str] | None = None) -> int:
    """Run the command. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.embed.beir", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="a set in the layout of BEIR")
    parser.add_argument("--split", default="test", help="name of the judgments in qrels/ (default: test)")
    parser.add_argument("--embed", type=Path, help="use this folder of the stage embed in the place of training")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings (default: params.yaml)")
    args = parser.parse_args(argv)
    try:
        found = read_set(args.folder, args.split)
        with tempfile.TemporaryDirectory() as scratch:
            index = Path(scratch) / "index"
            index.mkdir()
            write_segment(index, make_sections(found.documents))
            params = load_section(Embed, "embed", args.params)
            opened = open_finished(index, args.embed) if args.embed else open_trained(params, index, Path(scratch))
            _print_metrics(found, measure_set(found, *opened))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _print_metrics(found: RetrievalSet, metrics: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    table = Table(title=f"{len(found.documents)} documents, {len(found.queries)} queries")
    for name in ("ranking", *next(iter(metrics.values()))):
        table.add_column(name)
    for step, values in metrics.items():
        table.add_row(step, *(f"{mean:.3f} ± {error:.3f}" for mean, error in values.values()))
    Console().print(table)
    for reason, n in sorted(found.left_out.items()):
        print(f"left out: {reason}: {n}")


if __name__ == "__main__":
    sys.exit(main())
