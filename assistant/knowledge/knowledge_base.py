"""Search the index and a user's collections together, as they are now.

In: an index folder, a folder of the stage embed, names of collections. Out: what model.retrieval's searcher returns; each result
carries the name of its collection. Before each search the manifests are compared: documents that were added or removed meanwhile
count from the next question on, and nothing of a removed one stays in memory. A collection that is missing or broken is said to be
so once, and the search goes on without it until it is there. Memory: as its segments, mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

from assistant.knowledge.collection import MANIFEST, Collection, get_collection_folder, open_collection
from assistant.knowledge.segment_vectors import LoadedEmbed, load_embed, open_vectors
from model.retrieval.search_results import Search, SearchResult, TraceStep
from model.retrieval.searcher import MAX_QUESTION_CHARS, Searcher
from model.retrieval.sections import Section
from model.retrieval.segment import Segment
from model.retrieval.stores.vectors import ExactStore, VectorStore
from model.retrieval.synonyms import list_content_words, list_synonyms
from model.retrieval.word_search import Source
from model.retrieval.word_stems import STOP_STEMS, split_words

ANSWERING_FRAC = (
    0.6  # of a question's content words: a section with so many is quoted from, whatever the model would rather do
)
N_TRIES = 5  # to open a collection while a writer replaces its segments


class Knowledge:
    """What `search_docs` searches: an index, collections, or both. `notices` are for the user: what could not be opened."""

    def __init__(
        self,
        index: Source | None,
        embed: LoadedEmbed | None,
        collections: Sequence[Collection],
        missing: Sequence[Path] = (),
    ) -> None:
        """`missing` are folders of collections that may come into being later."""
        self.notices: list[str] = []
        self._index, self._embed = index, embed
        self._collections = list(collections)
        self._missing = {path: _read_manifest(path) for path in missing}  # opened when its manifest is another one
        self._lock = Lock()
        self._searcher = self._open_searcher()

    @classmethod
    def open(
        cls, index: Path | None, embed: Path | None, names: Sequence[str], folder: Path | None = None
    ) -> Knowledge:
        """Open what there is. A collection that is missing or broken is in `notices`, and the others are searched. `folder` has
        the collections (default: MINIGPT_COLLECTIONS).

        Raises: ValueError for what is no name of a collection, and for an index or embed folder that is missing, damaged or of an
        earlier version.
        """
        loaded = load_embed(embed) if embed is not None else None
        source = _open_index(index, embed, loaded) if index is not None else None
        collections: list[Collection] = []
        missing: dict[Path, str] = {}
        for name in dict.fromkeys(names):
            path = get_collection_folder(name, folder)  # a wrong name is an error, not a missing collection
            try:
                collections.append(open_collection(name, folder))
            except ValueError as error:
                missing[path] = f"{error}; answering without it"
        knowledge = cls(source, loaded, collections, list(missing))
        knowledge.notices[:0] = missing.values()
        return knowledge

    def __len__(self) -> int:
        return len(self._searcher)

    @property
    def collection_names(self) -> tuple[str, ...]:
        """The names of the collections that are searched."""
        return tuple(collection.name for collection in self._collections)

    def search(self, query: str, limit: int = 3, question: str = "") -> Search:
        """Return at most `limit` sections, best first. What could not be opened any more is a note of the trace."""
        n_before = len(self.notices)
        self._update()
        found = self._searcher.search(query, limit, question)
        notes = [TraceStep("collections", 0.0, note=notice) for notice in self.notices[n_before:]]
        return replace(found, trace=(*notes, *found.trace))

    def has_name(self, name: str) -> bool:
        """Return whether the index or a collection has this very name."""
        return self._searcher.has_name(name)

    def covers(self, question: str) -> bool:
        """Return whether a question may be about the collections: they have half of its content words, or synonyms of them.

        Then it should be searched for, whatever the model was trained on: nobody names a collection to chat about something else.
        """
        self._update()
        content = _list_content(question)
        indexes = [source.segment.bm25 for source in self._searcher.sources if source.name]
        n_known = sum(
            any(index.find_word(each) >= 0 for index in indexes for each in list_synonyms(word)) for word in content
        )
        return bool(content) and 2 * n_known >= len(content)

    def list_answering(self, question: str, search: Search) -> tuple[str, ...]:
        """Return the titles of the results of collections that certainly answer: those with most of the question's content words,
        or synonyms of them, if that is at least `ANSWERING_FRAC`."""
        content = _list_content(question)
        shares = [_measure_coverage(content, result.section) if result.collection else 0.0 for result in search.results]
        most = max(shares, default=0.0)
        if most < ANSWERING_FRAC:
            return ()
        return tuple(
            result.section.title for result, share in zip(search.results, shares, strict=True) if share == most
        )

    def _update(self) -> None:
        with self._lock:
            if self._refresh():
                self._searcher = self._open_searcher()

    def _refresh(self) -> bool:
        """Read changed manifests again, and open collections that are there now. Return whether anything changed."""
        is_changed = False
        for path, known in list(self._missing.items()):
            if (manifest := _read_manifest(path)) == known:
                continue
            self._missing[path] = manifest
            try:
                self._collections.append(open_collection(path.name, path.parent))
            except ValueError:  # still broken, which has been said
                continue
            del self._missing[path]
            is_changed = True
        for collection in list(self._collections):
            try:
                is_changed |= collection.refresh()
            except ValueError as error:
                self._drop(collection, error)
                is_changed = True
        return is_changed

    def _drop(self, collection: Collection, error: ValueError) -> None:
        self.notices.append(f"{error}; answering without it")
        self._collections.remove(collection)
        self._missing[collection.folder] = _read_manifest(collection.folder)

    def _open_searcher(self) -> Searcher:
        sources = [self._index] if self._index is not None else []
        for collection in list(self._collections):
            try:
                sources += self._open_sources(collection)
            except ValueError as error:
                self._drop(collection, error)
        embedder, reranker = (self._embed.embedder, self._embed.reranker) if self._embed else (None, None)
        return Searcher(sources, embedder, reranker)

    def _open_sources(self, collection: Collection) -> list[Source]:
        """Open the segments that the manifest names; a writer may remove them meanwhile, then the new manifest counts."""
        for left in reversed(range(N_TRIES)):
            try:
                folders = [collection.get_segment_folder(entry) for entry in collection.manifest.segments]
                segments = [Segment.open(folder) for folder in folders]
                break
            except ValueError:
                if not collection.refresh() and not left:
                    raise
        else:
            raise ValueError(
                f"the collection {collection.name} is being rewritten all the time; found no complete state; ask again"
            )
        stores = open_vectors(collection, segments, self._embed, self.notices.append)
        return [
            Source(segment, store, collection.name, has_synonyms=True)
            for segment, store in zip(segments, stores, strict=True)
        ]


def _read_manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError:
        return b""


def _list_content(question: str) -> list[str]:
    """Return the stems of a question's content words."""
    words = dict.fromkeys(split_words(question[:MAX_QUESTION_CHARS]))
    return [word for word in list_content_words(list(words)) if word not in STOP_STEMS and not word.isdigit()]


def _measure_coverage(content: Sequence[str], section: Section) -> float:
    """Return the share of these words that a section has, itself or as a synonym."""
    own = set(split_words(" ".join([section.title, *section.heading, section.text])))
    n_known = sum(any(each in own for each in list_synonyms(word)) for word in content)
    return n_known / len(content) if content else 0.0


def _open_index(index: Path, embed: Path | None, loaded: LoadedEmbed | None) -> Source:
    from model.retrieval.searcher import check_embed

    segment = Segment.open(index)
    vectors: VectorStore | None = None
    if embed is not None and loaded is not None:
        check_embed(embed, segment)
        vectors = ExactStore.open(embed, loaded.embedder.width)
    return Source(segment, vectors)


def describe_place(result: SearchResult) -> str:
    """Return where a section is: collection, headings, page, lines, file or URL."""
    section = result.section
    lines = f"lines {section.line_start}–{section.line_end}" if section.line_end > section.line_start else ""
    lines = lines or (f"line {section.line_start}" if section.line_start else "")
    path = " › ".join(section.heading)
    parts = [path, f"page {section.page}" if section.page else "", lines, f"paragraph {section.paragraph}", section.url]
    place = ", ".join(part for part in parts if part)
    return f"{result.collection}: {place}" if result.collection else place
