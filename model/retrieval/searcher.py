"""Search sections: exact names ∪ BM25 ∪ vectors → fusion → reranker, with a trace of every step.

In: a query, and the user's question if it is known. The query is a name (`np.sum`), a name with a facet (`numpy.sum: returns`) or
with one parameter (`numpy.sum: axis`), two of these joined with `; `, whose results alternate, or words. Out: at most `limit`
sections with the line that the model reads of each. A name that exists decides alone: a weaker match beside a better one only
misleads a small model. A name that was corrected, or that does not exist, is named in the trace. Threads may share a searcher.

Covers: any text as query; its length and number of words are bounded, and there is no query syntax to inject into. Results with
the same text under several names are shown once. Does not cover: the content of sections. It is untrusted: never execute it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from model.grounding.matching import is_identifier, split_facet, split_queries
from model.retrieval.cutting.docstring_fields import FACETS
from model.retrieval.naming.names import WAYS, Match, NameResolver, clean_name, find_identifiers
from model.retrieval.prose_search import MixedSearch
from model.retrieval.rendering import WITH_ENTRIES, has_entry, render_line
from model.retrieval.search_results import Search, SearchResult, TraceStep
from model.retrieval.sections import Section
from model.retrieval.segment import Segment
from model.retrieval.stores.vectors import ExactStore
from model.retrieval.word_search import Embeds, Reranks, Source
from model.retrieval.word_stems import split_words

MAX_QUERY_CHARS = 300
MAX_QUESTION_CHARS = 2_000
MAX_PARTS = 4  # queries that are joined with `; `
ABOUT_EMBED = "embed.json"
INDEX_DIGEST = "index_sha256"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ONE = ("exact", "alias", "case", "inherited", "variable", "typo")  # such a match means one thing


class Searcher:
    """Searches some segments. `notices` are for people: what could not be opened."""

    def __init__(
        self,
        sources: Sequence[Source],
        embedder: Embeds | None = None,
        reranker: Reranks | None = None,
    ) -> None:
        self.sources = list(sources)
        self._words = MixedSearch(self.sources, embedder, reranker)
        self._resolvers = [NameResolver(source.segment) for source in self.sources]

    @classmethod
    def open(cls, index: Path, embed: Path | None = None) -> Searcher:
        """Open an index folder, with the folder of the stage embed if there is one.

        Raises: ValueError for a folder that is missing, damaged, of an earlier version, or trained on another index.
        """
        segment = Segment.open(index)
        if embed is None:
            return cls([Source(segment)])
        check_embed(embed, segment)
        from model.retrieval.embedder import Embedder
        from model.retrieval.reranker import Reranker

        embedder = Embedder.load(embed)
        return cls([Source(segment, ExactStore.open(embed, embedder.width))], embedder, Reranker.load(embed))

    def __len__(self) -> int:
        """Return the number of sections."""
        return sum(len(source.segment) for source in self.sources)

    def has_name(self, name: str) -> bool:
        """Return whether a name as typed is documented: by its title, by an abbreviation of its module, or in another case."""
        cleaned = clean_name(_clean(name, MAX_QUERY_CHARS))
        ways = (each.resolve(cleaned, with_typos=False).how for each in self._resolvers) if cleaned else ()
        return any(how in ("exact", "alias", "case") for how in ways)

    def search(self, query: str, limit: int = 3, question: str = "") -> Search:
        """Return at most `limit` sections, best first."""
        query = _clean(query, MAX_QUERY_CHARS)
        question = _clean(question, MAX_QUESTION_CHARS)
        trace: list[TraceStep] = []
        parts = split_queries(query)[:MAX_PARTS]
        found = [self._search_part(part, limit, question if len(parts) == 1 else "", trace) for part in parts]
        alternating = (result for results in zip_longest(*found) for result in results if result is not None)
        unique = {result.line: result for result in reversed(list(alternating))}
        return Search(query, tuple(reversed(unique.values()))[:limit], tuple(trace))

    def _search_part(self, part: str, limit: int, question: str, trace: list[TraceStep]) -> list[SearchResult]:
        name, facet = split_facet(part)
        started = time.perf_counter()
        matches = self._match_title(part)
        name, facet = (part, "") if matches else (name, facet)
        matches = matches or self._match_name(clean_name(name))
        if matches:
            chosen = list(self._interleave(matches))[: 1 if matches[0][1].how in _ONE else limit]
            results = [self._show(at, row, matches[0][1].how, facet, trace) for at, row in chosen]
            trace.append(_describe_names(name, matches[0][1], results, started))
            return results
        if (unknown := clean_name(name)) and is_identifier(unknown) and not self._is_word(unknown):
            trace.append(TraceStep("names", _elapsed(started), note=f"{unknown} is not in the documentation"))
            return []
        return self._search_words(part, limit, question, trace)

    def _match_title(self, part: str) -> list[tuple[int, Match]]:
        """Return the sources that have this very title: `A Book §3`, `ssl: Certificates`."""
        rows = [(at, source.segment.names.find(part)) for at, source in enumerate(self.sources)]
        is_title = [(at, [row for row in own if self._get(at, row).title == part]) for at, own in rows]
        return [(at, Match(part, "exact", own)) for at, own in is_title if own]

    def _match_name(self, name: str) -> list[tuple[int, Match]]:
        """Return the best matches of a name: those of the way that comes first, by source."""
        if not name:
            return []
        with_typos = is_identifier(name) or not self._is_word(name)
        matches = [(at, each.resolve(name, with_typos=with_typos)) for at, each in enumerate(self._resolvers)]
        best = min((WAYS.index(match.how) for _, match in matches if match.rows), default=-1)
        return [(at, match) for at, match in matches if match.rows and WAYS.index(match.how) == best]

    def _is_word(self, name: str) -> bool:
        """Return whether the texts have a word, so that it need not be a name."""
        stem = next(iter(split_words(name)), "")
        return any(source.segment.bm25.find_word(stem) >= 0 for source in self.sources)

    def _interleave(self, matches: Sequence[tuple[int, Match]]) -> Iterator[tuple[int, int]]:
        """Yield (source, row), the best of each source first; a text that was there already is left out."""
        bodies: set[str] = set()
        lines = [[(at, row) for row in match.rows] for at, match in matches]
        for at, row in (pair for pairs in zip_longest(*lines) for pair in pairs if pair is not None):
            body = _get_body(self._get(at, row))
            if body not in bodies:
                bodies.add(body)
                yield at, row

    def _search_words(self, part: str, limit: int, question: str, trace: list[TraceStep]) -> list[SearchResult]:
        """Return names inside the words first, then what the words find."""
        results: dict[tuple[str, str], SearchResult] = {}
        for name in find_identifiers(part)[:limit]:
            started = time.perf_counter()
            matches = [(at, each.resolve(name, with_typos=False)) for at, each in enumerate(self._resolvers)]
            pairs = list(self._interleave([pair for pair in matches if pair[1].rows]))[:1]
            shown = [self._show(at, row, "name", "", trace) for at, row in pairs]
            results |= {(result.collection, result.section.id): result for result in shown}
            trace.append(_describe_names(name, matches[0][1], shown, started))
        ranked = self._words.rank(part, question, trace)
        bodies: set[str] = {_get_body(result.section) for result in results.values()}
        for unit, score in zip(ranked.rows, ranked.scores, strict=True):
            if len(results) >= limit:
                break
            source, row = self._words.locate(int(unit))
            section = source.segment.sections[row]
            if (body := _get_body(section)) not in bodies:
                bodies.add(body)
                is_off_topic = not source.has_synonyms and score < self._words.min_score
                results[source.name, section.id] = SearchResult(
                    section, render_line(section), "words", source.name, float(score), bool(is_off_topic)
                )
        return list(results.values())

    def _show(self, at: int, row: int, how: str, facet: str, trace: list[TraceStep]) -> SearchResult:
        """Return a unit, or the facet of it that was asked for."""
        source, unit = self.sources[at], self._get(at, row)
        if facet:
            chosen = choose_facet(source.segment, row, facet)
            if chosen is not None:
                section, entry = chosen
                return SearchResult(section, render_line(section, entry), how, source.name)
            if facet != "signature" and facet not in re.findall(r"\w+", unit.signature):
                trace.append(TraceStep("facet", 0.0, note=f"the documentation of {unit.title} has no part {facet}"))
        return SearchResult(unit, render_line(unit), how, source.name)

    def _get(self, at: int, row: int) -> Section:
        return self.sources[at].segment.sections[row]


def choose_facet(segment: Segment, row: int, facet: str) -> tuple[Section, str] | None:
    """Return the facet of a unit that a word means, and the entry of it that it names; None if there is none.

    The word is the name of a part (`returns`, `args`), the heading of a guide's section, or one parameter (`axis`).
    """
    sections = segment.sections
    facets = [sections[at] for at in segment.list_facets(row)]
    wanted = FACETS.get(facet.lower(), facet.lower())
    for section in facets:
        if section.facet.lower() == wanted:
            return section, ""
    for name in WITH_ENTRIES:
        for section in facets:
            if section.facet == name and has_entry(section, facet):
                return section, facet
    for at in segment.names.find(f"{sections.value('title', row)}: {facet}"):
        return sections[at], ""
    return None


def check_embed(embed: Path, segment: Segment) -> None:
    """Check that a folder of the stage embed was trained on this index. Raises: ValueError."""
    path = embed / ABOUT_EMBED
    try:
        digest = json.loads(path.read_text(encoding="utf-8"))[INDEX_DIGEST]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{embed} is not a folder of the stage embed; found: {type(error).__name__}: {error}; run the stages index and "
            "embed (make run), or pull the version again"
        ) from error
    if digest != segment.digest:
        raise ValueError(
            f"{embed} was trained on another index; found {str(digest)[:12]} instead of {segment.digest[:12]} of "
            f"{segment.folder}; name folders that were made together, or run the stage embed again"
        )


def _clean(text: str, max_chars: int) -> str:
    """Return the beginning of a text on one line, without lone surrogates and control characters."""
    text = _CONTROL.sub(" ", text[: 4 * max_chars].encode("utf-8", "ignore").decode())
    return " ".join(text.split())[:max_chars].strip()


def _get_body(section: Section) -> str:
    """Return the text without a symbol's signature: what is the same under several names."""
    return section.text.partition("\n")[2].strip() or section.text if section.kind == "symbol" else section.text


def _describe_names(name: str, match: Match, results: Sequence[SearchResult], started: float) -> TraceStep:
    titles = ", ".join(result.section.name for result in results)
    notes = {
        "typo": f"{name} is not in the documentation; the closest name is {titles}",
        "variable": f"{name} is understood as {titles}",
        "member": f"{name} is not in the documentation; members of this name: {titles}",
        "package": f"{name} is not in the documentation; in the same package: {titles}",
        "inherited": f"{name} is inherited: {titles}",
    }
    hits = tuple((result.section.title, 1.0) for result in results)
    return TraceStep(f"names: {match.how}", _elapsed(started), hits, notes.get(match.how, ""))


def _elapsed(started: float) -> float:
    return (time.perf_counter() - started) * 1000
