"""Train the embedder and the reranker on the sections of the index, and write the vectors of all units.

In: an index, questions that are hand-written and those of feedback. Out: `embedder.arrow`, `reranker.arrow`, `units.arrow`
(words by part, for the reranker), `vectors.arrow`, `embed.json` (the index that they belong to) and `retrieval.json` (the
evaluation). Both travel in every registered version, so that a rollback takes retrieval back together with the weights.

Pairs are title, first sentence or question ↔ body. Documents are split three ways: the reranker learns from lists of documents
that the embedder never saw, or it would trust the embedder too much. The test is the held-out half of the questions, and first
sentences of the third part that must find their own body. Memory: 1.1 GB at 67,000 units. Time: 60 CPU-s, half of it on two cores.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.retrieval.embedder import Embedder
from model.retrieval.reranker import Reranker
from model.retrieval.reranking.features import FEATURES
from model.retrieval.searcher import ABOUT_EMBED, INDEX_DIGEST
from model.retrieval.segment import Segment
from model.retrieval.word_stems import split_texts, split_words
from pipeline.embed.corpus import EMBEDDER, RERANKER, TEST, UnitCorpus, read_corpus, split_documents
from pipeline.embed.embedder_training import Learner
from pipeline.embed.pairs import PairSampler, Texts
from pipeline.embed.parallel import Threads, open_threads
from pipeline.embed.params import Embed, Embedding
from pipeline.embed.questions import Question, describe_some, find_titles, locate_answers, read_questions
from pipeline.embed.reranker_training import RankedList, find_min_score, train_network
from pipeline.embed.retrieval_metrics import find_rank, name_metrics, score_ranks
from pipeline.embed.svd import find_directions
from pipeline.embed.views import View, open_bare_view, open_view, rerank
from pipeline.embed.word_counts import Counts, count_words, stack_rows
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics, write_json
from pipeline.screening.feedback import read_feedback_questions

log = logging.getLogger(__name__)
Rows = NDArray[np.int64]
MIN_QUERY_WORDS = 3  # of a first sentence without the words of its title: "Return the name." asks for nothing
MIN_BODY_WORDS = 30  # distinct known words of a body that its first sentence must find


def run(params: Embed, *, index: Path, questions: Path, feedback: Path | None = None, out: Path) -> Metrics:
    """Train both, write everything, measure. Raises `UserError` for an index that can't be read or is too small."""
    segment = open_segment(index)
    corpus = read_corpus(segment, params.embedding.min_docs, params.embedding.max_words)
    by_hand = read_questions(questions)
    given = read_feedback_questions(feedback, by_hand)
    written = [*by_hand, *given]
    rows = find_titles(segment, (title for _, titles, _ in written for title in titles))
    asked, missing, unanswered = locate_answers(written, rows)
    if missing:
        log.warning("embed: %d titles of questions are not in the index: %s", len(missing), describe_some(missing))
    if unanswered:
        log.warning("embed: %d questions have no answer there: %s", len(unanswered), describe_some(unanswered))
    sides, question_sides = split_documents(params, corpus, asked)
    by_side = [[q for q, own in zip(asked, question_sides, strict=True) if own == side] for side in range(3)]
    with open_threads() as threads:
        vectors, losses = train_embedder(params, corpus, sides, by_side[EMBEDDER], threads)
        embedder = Embedder(corpus.words, vectors.astype(np.float16))
        view = open_view(segment, corpus, embedder)
        with tempfile.TemporaryDirectory(dir=out) as folder:
            bare = open_bare_view(segment, corpus, embedder, Path(folder))
            packages = list_packages(segment)
            firsts, asked_lists = make_lists(params, corpus, sides, by_side[RERANKER], view, bare, packages, threads)
            lists = [*firsts, *asked_lists]
            weights = train_network(params.reranking, lists, len(FEATURES), params.seed)
            min_score = find_min_score(asked_lists, weights, params.reranking.off_topic_frac)
            weights["min_score"] = np.array([min_score], np.float32)
            reranker = Reranker(weights, packages, embedder, view.units, segment.digest)
            metrics = evaluate(params, corpus, sides, by_side[TEST], view, bare, reranker, threads)
    write_all(out, segment, view, reranker)
    write_json(out / "retrieval.json", metrics)
    return {
        "units": len(sides),
        "words": len(corpus.words),
        "questions_train": len(by_side[EMBEDDER]) + len(by_side[RERANKER]),
        "questions_heldout": len(by_side[TEST]),
        "questions_of_feedback": len(given),
        "questions_without_answer": len(unanswered),
        "titles_missing": len(missing),
        "lists": len(lists),
        "lists_with_answer": sum(bool(each.is_answer.any()) for each in lists),
        "loss_nats": round(losses, 4),
        "embed_bytes": sum(path.stat().st_size for path in out.iterdir()),
        **metrics,
    }


def open_segment(index: Path) -> Segment:
    """Open an index. Raises `UserError` for one that can't be read."""
    try:
        return Segment.open(index)
    except ValueError as error:
        what, _, rest = str(error).partition("; found: ")
        found, _, do = rest.partition("; ")
        raise UserError(f"embed: {what}", found or "another format", do or "run the stage index again") from error


def list_packages(segment: Segment) -> frozenset[str]:
    """Return the names that questions use for a library: the first names of its symbols, but not of the standard library's."""
    columns = [segment.sections.column(name)[: segment.sections.n_units] for name in ("title", "kind", "source")]
    return frozenset(
        title.partition(".")[0].lower()
        for title, kind, source in zip(*columns, strict=True)
        if kind == "symbol" and not source.endswith("/stdlib")
    )


def train_embedder(
    params: Embed, corpus: UnitCorpus, sides: NDArray[np.int8], questions: list[Question], threads: Threads
) -> tuple[NDArray[np.float32], float]:
    """Return a vector per word, and the mean loss of the last tenth of the steps."""
    settings = params.embedding
    texts = corpus.texts
    n_docs = np.maximum(texts.wholes.count_docs(len(corpus.words)), 1)
    rarity = np.log(max(len(corpus.groups), 2) / n_docs).astype(np.float32)
    vectors = start_vectors(settings, choose_texts(texts, sides), rarity, params.seed, threads)
    weights = (rarity / max(float(rarity.mean()) if len(rarity) else 1.0, 1e-6)).astype(np.float32)
    learner = Learner((vectors * weights[:, None]).astype(np.float32), weights, threads)
    learned = np.flatnonzero(sides == EMBEDDER)
    pairs = PairSampler(
        settings, texts, learned, corpus.groups, count_questions(questions, corpus), [q.rows for q in questions]
    )
    n_steps = settings.total_steps
    if pairs.is_empty():
        log.warning("embed: too few documents with a title and a body to learn from; the vectors are those of the SVD")
        n_steps = 0
    random = np.random.default_rng(params.seed)
    losses = [
        learner.step(pairs.draw(random), settings.temperature, settings.learning_rate * (1 - step / n_steps))
        for step in range(n_steps)
    ]
    return learner.vectors, float(np.mean(losses[-max(1, len(losses) // 10) :])) if losses else 0.0


def choose_texts(texts: Texts, sides: NDArray[np.int8]) -> Counts:
    """Return the texts that the SVD reads: all of them, but those of the test without the first sentences that are asked for."""
    is_test = sides == TEST
    order = np.argsort(np.concatenate([np.flatnonzero(~is_test), np.flatnonzero(is_test)]), kind="stable")
    both = stack_rows([texts.wholes.take(np.flatnonzero(~is_test)), texts.bodies.take(np.flatnonzero(is_test))])
    return both.take(order)


def start_vectors(
    settings: Embedding, counts: Counts, rarity: NDArray[np.float32], seed: int, threads: Threads
) -> NDArray[np.float32]:
    """Return the directions of the SVD, of length 1 on average."""
    vectors, values = find_directions(counts, rarity, settings.width, settings.svd_rounds, seed, threads)
    vectors = vectors * values**settings.svd_power
    length = float(np.sqrt((vectors * vectors).sum(axis=1)).mean()) if len(vectors) else 1.0
    return (vectors / max(length, 1e-9)).astype(np.float32)


def count_questions(questions: list[Question], corpus: UnitCorpus) -> Counts:
    """Return the counts of the known words of questions."""
    words = split_texts([question.text for question in questions])
    rows = {word: row for row, word in enumerate(corpus.words)}
    numbers = np.array([rows.get(word, -1) for word in words.words], np.int32)
    return count_words(numbers[words.ids] if len(words.ids) else words.ids, words.offsets[:-1], words.offsets[1:])


def choose_rows(corpus: UnitCorpus, sides: NDArray[np.int8], side: int, n: int, seed: int) -> Rows:
    """Return at most `n` units of a side whose first sentence and rest say enough, one of each text."""
    is_first = np.zeros(len(sides), bool)
    is_first[np.unique(corpus.groups, return_index=True)[1]] = True
    asks = np.diff(corpus.texts.bare_firsts.starts) >= MIN_QUERY_WORDS
    answers = np.diff(corpus.texts.bodies.starts) - np.diff(corpus.texts.titles.starts) >= MIN_BODY_WORDS
    rows = np.flatnonzero((sides == side) & is_first & asks & answers)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:n])


def bare_query(corpus: UnitCorpus, row: int) -> str:
    """Return the first sentence of a unit without the words of its title."""
    own = set(split_words(corpus.parts.titles[row]))
    words = corpus.parts.firsts[row].split()
    return " ".join(word for word in words if not own & set(split_words(word)))


def make_lists(
    params: Embed,
    corpus: UnitCorpus,
    sides: NDArray[np.int8],
    questions: list[Question],
    view: View,
    bare: View,
    packages: frozenset[str],
    threads: Threads,
) -> tuple[list[RankedList], list[RankedList]]:
    """Return the lists that the reranker learns from: those of first sentences, and those of questions."""
    rows = choose_rows(corpus, sides, RERANKER, params.reranking.n_lists, params.seed)
    weight = params.reranking.question_weight
    asked = [(bare, bare_query(corpus, row), (row,), 1.0) for row in rows.tolist()]
    n_firsts = len(asked)
    asked += [(view, each.text, each.rows, weight) for each in questions]
    lists = threads.map(lambda each: each[0].make_list(each[1], each[2], corpus.groups, packages, each[3]), asked)
    firsts, others = lists[:n_firsts], lists[n_firsts:]
    return [each for each in firsts if each is not None], [each for each in others if each is not None]


def evaluate(
    params: Embed,
    corpus: UnitCorpus,
    sides: NDArray[np.int8],
    questions: list[Question],
    view: View,
    bare: View,
    reranker: Reranker,
    threads: Threads,
) -> Metrics:
    """Return the metrics of BM25, vectors, both, and both reranked: on questions, and on first sentences."""
    rows = choose_rows(corpus, sides, TEST, params.n_test, params.seed + 1)
    firsts = [(bare_query(corpus, row), (row,)) for row in rows.tolist()]
    asked = [(question.text, question.rows) for question in questions]
    return {
        **measure_view(view, asked, corpus.groups, reranker, "questions", threads),
        **measure_view(bare, firsts, corpus.groups, reranker, "first_sentences", threads),
        "n_first_sentences": len(firsts),
    }


def measure_view(
    view: View,
    queries: list[tuple[str, tuple[int, ...]]],
    groups: Rows,
    reranker: Reranker,
    name: str,
    threads: Threads,
) -> Metrics:
    """Return the metrics of each ranking over some queries."""

    def rank(query: tuple[str, tuple[int, ...]]) -> list[int | None]:
        text, answers = query
        rankings = (view.rank_words(text), view.rank_vectors(text), *rerank(view, reranker, text))
        return [find_rank(rows, answers, groups) for rows in rankings]

    ranks = threads.map(rank, queries)
    metrics: Metrics = {}
    for at, step in enumerate(("bm25", "vectors", "hybrid", "reranked")):
        metrics |= name_metrics(f"{name}_{step}", score_ranks([line[at] for line in ranks]))
    return metrics


def write_all(out: Path, segment: Segment, view: View, reranker: Reranker) -> None:
    """Write what a search needs."""
    view.embedder.save(out)
    view.units.save(out)
    view.store.snapshot(out)
    reranker.save(out)
    write_json(out / ABOUT_EMBED, {INDEX_DIGEST: segment.digest, "width": view.embedder.width})
