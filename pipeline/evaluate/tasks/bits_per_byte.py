"""Measure bits per byte of held-out documents, in all and by source, of the pretrained model and of the tuned one.

In: documents of the val split. Out: bits and bytes of each document; documents.parquet (nats of each). Bits per byte compare models
of any vocabulary. Memory: one batch. Time: 8 s on two cores for 400,000 tokens and 3 million parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from pipeline.evaluate import measure
from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.tasks.task import Context, Measured, Task
from pipeline.frame.progress import Bar

CHAT_TOKENS_FRAC = 0.25  # of the held-out documents: the tuned model's bits per byte only show how much tuning cost
BEGINNING_TOKENS = 24  # of a document, for the pretrained model to continue
N_CONTINUATIONS = 3
DOCUMENTS = pa.schema([("id", pa.string()), ("source", pa.string()), ("n_bytes", pa.int64()), ("nats", pa.float64())])


def measure_documents(context: Context) -> Measured:
    """Return the bits of each document, and what the pretrained model writes after the beginnings of some."""
    documents = context.documents
    few = measure.take_first_documents(documents, int(documents.n_tokens * CHAT_TOKENS_FRAC))
    with Bar("evaluate: documents", 0, "windows") as bar:
        nats = measure.measure_heldout_nats(context.pretrained.model, documents, bar.advance)
        chat_nats = measure.measure_heldout_nats(context.tuned.model, few, bar.advance)
    return Measured(
        items=[
            *score_documents("bpb", documents, nats),
            *score_documents("chat_bpb", few, chat_nats),
            *score_sources(documents, nats),
        ],
        figures=[
            Figure("bpb", "Bits per byte", "held-out text; lower is better", is_lower_better=True),
            Figure("chat_bpb", "Bits per byte after tuning", "what tuning cost", is_lower_better=True),
        ],
        counts={
            "n_heldout_docs": len(documents.ids),
            "heldout_tokens": documents.n_tokens,
            "heldout_bytes": sum(documents.n_bytes),
        },
        lines={"samples.jsonl": continue_documents(context)},
        tables={
            "documents.parquet": pa.table([documents.ids, documents.sources, documents.n_bytes, nats], schema=DOCUMENTS)
        },
    )


def score_documents(metric: str, documents: measure.HeldoutDocuments, nats: Sequence[float]) -> list[ItemScore]:
    """Return the bits and bytes of each document."""
    return [
        ItemScore(metric, id_, each / math.log(2), size=n_bytes)
        for id_, each, n_bytes in zip(documents.ids, nats, documents.n_bytes, strict=True)
    ]


def score_sources(documents: measure.HeldoutDocuments, nats: Sequence[float]) -> list[ItemScore]:
    """Return the same as a metric for each source, sorted by name."""
    names = [f"bpb_{source.removeprefix('python_docs/').replace('/', '_')}" for source in documents.sources]
    rows = score_documents("", documents, nats)
    named = [row._replace(metric=name) for row, name in zip(rows, names, strict=True)]
    return sorted(named, key=lambda row: row.metric)


def continue_documents(context: Context) -> list[dict[str, str]]:
    """Return the beginnings of some documents, each with the pretrained model's greedy continuation."""
    model, tokenizer = context.pretrained
    longest = min(BEGINNING_TOKENS, model.config.seq_len // 2)
    tokens = [ids for ids in context.documents.tokens if len(ids) > 8][:N_CONTINUATIONS]
    beginnings = [ids[: min(longest, len(ids) // 2)] for ids in tokens]
    texts = measure.generate_continuations(model, tokenizer, beginnings, context.params.max_new_tokens)
    return [
        {"skill": "continuation", "prompt": tokenizer.decode(ids), "answer": text}
        for ids, text in zip(beginnings, texts, strict=True)
    ]


BITS_PER_BYTE = Task("bits_per_byte", measure_documents)
