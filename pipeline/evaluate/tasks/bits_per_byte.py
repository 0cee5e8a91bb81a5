"""Measure bits per byte of held-out documents, of the pretrained model beside a 5-gram, by source, and of the tuned model.

In: documents of the val split, the train split. Out: bits and bytes of each document as it is, and clean: without the lines that
a training document has (pipeline/evaluate/heldout); documents.parquet (nats of each). Bits per byte compare models of any
vocabulary. Half of what is held out of a documentation is boilerplate, which a table of training text predicts better than any
small model: the clean set says how text is predicted that is not in training. Memory: 70 bytes per counted training token. Time:
8 s on two cores for 400,000 tokens and 3 million parameters, and 7 s of one core for the 5-gram of 11 million training tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from model.data.batches import TokenStream
from pipeline.evaluate import measure
from pipeline.evaluate.heldout.baselines import Compared, compare_with_ngram
from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.frame.progress import Bar

CHAT_TOKENS_FRAC = 0.25  # of the held-out documents: the tuned model's bits per byte only show how much tuning cost
BEGINNING_TOKENS = 24  # of a document, for the pretrained model to continue
N_CONTINUATIONS = 3
NATS = ("nats", "ngram_nats", "mixture_nats")
DOCUMENTS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "source")),
        ("n_bytes", pa.int64()),
        *((name, pa.float64()) for name in NATS),
        ("clean_bytes", pa.int64()),
        *((f"clean_{name}", pa.float64()) for name in NATS),
    ]
)
BASELINES = {"ngram_bpb": "Kneser-Ney 5-gram", "mixture_bpb": "both mixed"}
FIGURES = (
    Figure("bpb", "Bits per byte", "held-out text; lower is better", is_lower_better=True, baselines=BASELINES),
    Figure(
        "clean_bpb",
        "Bits per byte of new lines",
        "held-out text without the lines that training has",
        is_lower_better=True,
        baselines={f"clean_{metric}": title for metric, title in BASELINES.items()},
    ),
    Figure("chat_bpb", "Bits per byte after tuning", "what tuning cost", is_lower_better=True),
)


def measure_documents(context: Context) -> Measured:
    """Return the bits of each document, and what the pretrained model writes after the beginnings of some."""
    documents = context.documents
    few = measure.take_first_documents(documents, int(documents.n_tokens * CHAT_TOKENS_FRAC))
    with Bar("evaluate: documents", 0, "windows") as bar:
        nats = measure.measure_heldout_nats(context.pretrained.model, documents, bar.advance)
        chat_nats = measure.measure_heldout_nats(context.tuned.model, few, bar.advance)
    training = TokenStream(context.inputs.shards, "train")
    tokenizer = context.pretrained.tokenizer
    whole, clean = compare_with_ngram(
        nats,
        documents.tokens,
        training.read(0, min(len(training), context.params.ngram_tokens)),
        [tokenizer.decode_bytes([index]) for index in range(tokenizer.vocab_size)],
        training.bos_id,
    )
    columns = [documents.ids, documents.sources, documents.n_bytes, *_list_nats(whole)]
    table = pa.table([*columns, clean.n_bytes, *_list_nats(clean)], schema=DOCUMENTS)
    sums = whole.model.tolist()
    return Measured(
        items=[
            *score_documents("bpb", documents, sums),
            *score_baselines("", documents, documents.n_bytes, whole),
            *score_clean(documents, clean),
            *score_documents("chat_bpb", few, [each.sum() for each in chat_nats]),
            *score_sources(documents, sums),
        ],
        figures=FIGURES,
        counts={
            "n_heldout_docs": len(documents.ids),
            "heldout_tokens": documents.n_tokens,
            "heldout_bytes": sum(documents.n_bytes),
            "clean_bytes": int(clean.n_bytes.sum()),
            "mixture_model_frac": whole.model_weight,
            "clean_mixture_model_frac": clean.model_weight,
        },
        lines={"samples.jsonl": continue_documents(context)},
        tables={"documents.parquet": table},
    )


def _list_nats(compared: Compared) -> list[Any]:
    return [compared.model, compared.ngram, compared.mixture]


def score_clean(documents: measure.HeldoutDocuments, clean: Compared) -> list[ItemScore]:
    """Return the bits and bytes of the new lines of each document that has some."""
    n_bytes = clean.n_bytes.tolist()
    own = score_documents("clean_bpb", documents._replace(n_bytes=n_bytes), clean.model.tolist())
    return [row for row in (*own, *score_baselines("clean_", documents, n_bytes, clean)) if row.size]


def score_baselines(
    prefix: str, documents: measure.HeldoutDocuments, n_bytes: list[int], compared: Compared
) -> list[ItemScore]:
    """Return the same of the n-gram and of the mixture."""
    sized = documents._replace(n_bytes=n_bytes)
    named = {"ngram_bpb": compared.ngram, "mixture_bpb": compared.mixture}
    rows = [row for name, nats in named.items() for row in score_documents(prefix + name, sized, nats.tolist())]
    return [row._replace(is_baseline=True) for row in rows]


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
