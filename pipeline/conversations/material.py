"""Read what examples are made from, and make them: names and texts of the index, the search of the assistant, written questions.

In: the folders of index, embed, shards and questions. Out: examples by maker. Documents of the val split are held out: while
training examples are made, the search leaves them out. Makers run in several processes; each draws from a random generator of its
own, so the number of processes changes nothing. Memory: titles of all sections, per process. Time: O(examples); a search by
name takes 0.3 CPU-ms, one in words 10 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from model.grounding.answers import NOTHING_FOUND
from model.retrieval.searcher import Searcher
from model.retrieval.sections import Sections
from pipeline.conversations.seeds import LICENSE
from pipeline.frame.errors import UserError
from pipeline.skills import MAKERS
from pipeline.skills.neighbors import NameIndex, Subject
from pipeline.skills.skill import Example, Material, WrittenQuestion
from pipeline.storage.tables import read_shard
from pipeline.storage.written_questions import SPLITS, read_questions
from pipeline.workers.map import map_shards

SOURCE = "skills"  # of the examples
MAX_PASSAGES = 3
QUESTION_SPLITS = {"train": "train", "val": "heldout"}  # of documents → of written questions
SPARE_PASSAGES = 1  # searched for as well while held-out ones are left out
COSTLY = ("followup", "task", "facet", "comparison", "quote", "abstain", "question")  # started first


@dataclass(frozen=True)
class Folders:
    """Where the inputs are."""

    index: Path
    embed: Path
    shards: Path
    questions: Path


class MakerRun(NamedTuple):
    """Examples of one maker, for training or held out."""

    maker: str
    n: int
    is_heldout: bool


class Materials(NamedTuple):
    """What training and held-out examples are made from, and the held-out names."""

    train: Material
    heldout: Material
    heldout_names: frozenset[str]
    licenses: Mapping[str, str]  # of the lines that a search has returned


def make_all(folders: Folders, runs: Sequence[MakerRun], seed: int) -> dict[MakerRun, list[Example]]:
    """Return the examples of each run."""
    ordered = sorted(runs, key=lambda run: COSTLY.index(run.maker) if run.maker in COSTLY else len(COSTLY))
    return dict(zip(ordered, map_shards(partial(make_examples, folders, seed), ordered), strict=True))


def make_examples(folders: Folders, seed: int, run: MakerRun) -> list[Example]:
    """Return the examples of one run."""
    materials = read_materials(folders)
    material = materials.heldout if run.is_heldout else materials.train
    maker = next(maker for maker in MAKERS if maker.name == run.maker)
    sort = "heldout" if run.is_heldout else "train"
    examples = maker.make_examples(run.n, material, Random(f"{seed} {sort} {maker.name}"))
    return [example._replace(source=SOURCE, licenses=_list_licenses(example, materials)) for example in examples]


def _list_licenses(example: Example, materials: Materials) -> tuple[str, ...]:
    """Return ours, of the questions, and those of the passages in a conversation."""
    lines = {line for message in example.messages if message.role == "tool" for line in message.text.splitlines()}
    return LICENSE, *sorted({materials.licenses[line] for line in lines if line in materials.licenses})


@cache
def read_materials(folders: Folders) -> Materials:
    """Read the inputs, once per process. Raises `UserError` for an index or an embedder that can't be read."""
    try:
        searcher = Searcher.open(folders.index, folders.embed)
        sections = Sections.open(folders.index / "sections.arrow")
    except ValueError as error:
        raise UserError(
            "conversations: the index can't be searched", str(error), "run the stages index and embed again"
        ) from error
    splits = _read_splits(folders.shards)
    titles, ids, kinds, mentions = (sections.column(name) for name in ("title", "doc_id", "kind", "n_mentions"))
    facets: dict[str, list[str]] = defaultdict(list)
    for title in titles[sections.n_units :]:
        name, _, facet = title.partition(": ")
        facets[name].append(facet)
    units = list(zip(titles, ids, kinds, mentions, strict=False))[: sections.n_units]
    symbols = [(Subject(title, tuple(facets[title]), n), id_) for title, id_, kind, n in units if kind == "symbol"]
    texts = [(title, id_) for title, id_, kind, _ in units if kind != "symbol"]
    known = NameIndex(symbol for symbol, _ in symbols)
    val = frozenset(id_ for id_, split in splits.items() if split == "val")
    questions = _list_questions(folders.questions, known)
    heldout_names = frozenset(title for title, id_, _, _ in units if id_ in val)

    def select(split: str, shown: NameIndex | None, search: _Search) -> Material:
        own = [symbol for symbol, id_ in symbols if splits.get(id_) == split]
        prose = [title for title, id_ in texts if splits.get(id_) == split]
        asked = questions[QUESTION_SPLITS[split]]
        return Material(own, prose, asked, search, shown or NameIndex(own), known, is_heldout=split == "val")

    licenses: dict[str, str] = {}
    return Materials(
        select("train", None, _Search(searcher, val, licenses)),
        select("val", known, _Search(searcher, frozenset(), licenses)),
        heldout_names,
        licenses,
    )


def _list_questions(folder: Path, known: NameIndex) -> dict[str, list[WrittenQuestion]]:
    """Return the written questions of each split that some symbol of the index answers."""
    listed: dict[str, list[WrittenQuestion]] = {split: [] for split in SPLITS}
    for row in read_questions(folder):
        if any(title in known.symbols for title in row.titles):
            listed[row.split].append(WrittenQuestion(row.text, row.titles))
    return listed


class _Search:
    """The assistant's search, without some documents."""

    def __init__(self, searcher: Searcher, left_out: frozenset[str], licenses: dict[str, str]) -> None:
        self._searcher, self._left_out, self._licenses = searcher, left_out, licenses
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, argument: str, question: str) -> str:
        if (argument, question) not in self._known:  # a written question is asked several times
            self._known[argument, question] = self._run(argument, question)
        return self._known[argument, question]

    def _run(self, argument: str, question: str) -> str:
        n_spare = SPARE_PASSAGES if self._left_out else 0
        found = self._searcher.search(argument, limit=MAX_PASSAGES + n_spare, question=question)
        shown = [result for result in found.results if result.section.doc_id not in self._left_out][:MAX_PASSAGES]
        self._licenses.update({result.line: result.section.license for result in shown})
        return "\n".join(result.line for result in shown) or NOTHING_FOUND


def _read_splits(shards: Path) -> dict[str, str]:
    """Return the split of each document."""
    splits: dict[str, str] = {}
    for batch in read_shard(shards / "docs.parquet", ["id", "split"]):
        splits.update(zip(batch["id"].to_pylist(), batch["split"].to_pylist(), strict=True))
    return splits
