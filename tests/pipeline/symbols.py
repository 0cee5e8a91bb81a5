"""Make a synthetic package: documents as the source python_docs makes them, a split, a tokenizer, questions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import xxhash

from model.tokenizer.tokenizer import train_bpe
from pipeline.embed.params import Embed, Embedding, Reranking
from pipeline.storage.tables import DOCS, ShardWriter, read_docs, write_table

MODULES = ["alpha.core", "alpha.linear", "beta", "beta.io.text", "gamma.stats"]
VERBS = ["Compute", "Return", "Convert", "Sort", "Read", "Write", "Merge", "Find"]
THINGS = ["the norm of a matrix", "a sorted copy of the list", "every row of the table", "the mean along an axis"]
ENDS = ["", " with a tolerance", " for the given file", " as a string", " without changing it"]

EMBED = Embed(  # the smallest that runs
    seed=1,
    reranker_frac=0.3,
    test_frac=0.2,
    reranker_question_frac=0.5,
    n_test=5,
    embedding=Embedding(
        width=8,
        min_docs=1,
        max_words=1000,
        svd_rounds=1,
        svd_power=0.5,
        total_steps=2,
        batch_pairs=8,
        question_pairs=1,
        title_frac=0.1,
        own_word_frac=0.5,
        dropout_frac=0.0,
        learning_rate=0.1,
        temperature=0.07,
    ),
    reranking=Reranking(
        n_lists=10,
        question_weight=1.0,
        off_topic_frac=0.03,
        hidden=4,
        n_epochs=1,
        batch_lists=4,
        learning_rate=0.01,
        weight_decay=0.0,
    ),
)


class Corpus(NamedTuple):
    """Folders of documents, shards and tokenizer, and the titles of the documents in val."""

    docs: Path
    shards: Path
    tokenizer: Path
    val_titles: set[str]


def make_symbol(number: int, rng: random.Random) -> dict[str, str]:
    verb, thing = rng.choice(VERBS), rng.choice(THINGS)
    name = f"{verb.lower()}_{rng.choice(['row', 'norm', 'list', 'file'])}{number}"
    title = f"{rng.choice(MODULES)}.{name}"
    signature = rng.choice(["(x)", "(x, axis=None)", "(path: str) -> int", ""])
    text = f"{title}{signature}\n\n{verb} {thing}{rng.choice(ENDS)}. It is number {number}.\n\nParameters\n----------\nx : int"
    locator = {"kind": "function", "module": title.rpartition(".")[0], "qualname": name, "signature": signature}
    return make_row(title, text, "python_docs/alpha", json.dumps(locator))


def make_row(title: str, text: str, source: str, locator: str = "{}") -> dict[str, str]:
    id_ = xxhash.xxh3_128_hexdigest(f"{source}\0{title}\0{text}".encode())
    return {"id": id_, "text": text, "source": source, "locator": locator, "title": title, "url": "", "license": "MIT"}


def write_corpus(folder: Path, rows: list[dict[str, str]], val_every: int = 4) -> Corpus:
    """Write documents, docs.parquet with every `val_every`-th document in val, and a tokenizer of 600 tokens."""
    docs, shards, tokenizer = (folder / name for name in ("docs", "shards", "tokenizer"))
    for path in (shards, tokenizer):
        path.mkdir(parents=True)
    with ShardWriter(docs, DOCS) as writer:
        writer.write(pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]), schema=DOCS))
    table = read_docs(docs, ["id", "title"])
    ids, titles = table["id"].to_pylist(), table["title"].to_pylist()
    splits = ["val" if number % val_every == 0 else "train" for number in range(len(ids))]
    write_table(shards / "docs.parquet", pa.table({"id": ids, "split": splits}))
    texts = [row["text"] for row in rows] + ["What does it do? search_docs calculator I can't help with that."]
    train_bpe(texts, 600).save(tokenizer)
    val = {title for title, split in zip(titles, splits, strict=True) if split == "val"}
    return Corpus(docs, shards, tokenizer, val)


def write_package_corpus(folder: Path, n: int = 160) -> Corpus:
    """Write documents of `n` Python symbols."""
    rng = random.Random(5)
    return write_corpus(folder, [make_symbol(number, rng) for number in range(n)])


def write_book_corpus(folder: Path, n: int = 12) -> Corpus:
    """Write `n` long documents of plain text, one of them without a title."""
    rng = random.Random(6)
    rows: list[dict[str, str]] = []
    for number in range(n):
        lines = [f"The {rng.choice(['cat', 'dog', 'fox'])} saw {rng.choice(THINGS)} on day {day}." for day in range(40)]
        text = "\n\n".join(" ".join(lines[start : start + 4]) for start in range(0, 40, 4))
        rows.append(make_row(f"The Book of Days, volume {number}" if number else "", text, "text/books"))
    return write_corpus(folder, rows)


def write_questions(corpus: Corpus, path: Path) -> None:
    """Write a question for each of the first names; those of val are held out."""
    titles = read_docs(corpus.docs, ["title"])["title"].to_pylist()
    rows = [
        {
            "question": f"which of them has the number {title.rpartition('_')[2]} and computes something",
            "titles": [title],
            "split": "heldout" if title in corpus.val_titles else "train",
        }
        for title in titles
        if title and " " not in title
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:40]), encoding="utf-8")
