"""pretrain.data → the batches of pretraining: how documents become rows, and how much of each source.

In: the train split's stream and the shards' table of documents. Out: batches, and what each source's share comes to. Memory: 20
bytes a document while it is read, then what model/data/documents.py says; nothing without a mixture or best_fit. Time: one pass over
three columns of the table.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from model.data.batches import RowBatches, StreamBatches, StreamRows, TokenRows, TokenStream
from model.data.documents import PackedRows, Selection
from model.data.order import make_fair_cycle
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import short
from pipeline.pretrain.params import Data
from pipeline.storage.tables import read_shard

ALL = "all"  # the one source where there is no mixture
REST = "rest"  # what the key "" is called


@dataclass(frozen=True)
class DocumentSpans:
    """Where documents are in their stream."""

    name: str
    starts: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Share:
    """What a run takes from a source."""

    name: str
    n_docs: int
    n_tokens: int
    n_rows: int  # in one epoch
    rows_drawn: int
    row_frac: float  # of the run's rows
    epochs: float


@dataclass(frozen=True)
class DataPlan:
    """How a run goes through its data."""

    batches: RowBatches
    shares: Sequence[Share]  # empty where there is one source and its rows are cut from the stream

    @property
    def metrics(self) -> Metrics:
        """Epochs of each source, and how full packed rows are."""
        named: Metrics = {f"epochs_{share.name}": share.epochs for share in self.shares if share.name != ALL}
        packed = [rows for rows in self.batches.sources if isinstance(rows, PackedRows)]
        if packed:
            n_tokens = sum(rows.n_tokens for rows in packed)
            named["row_fill_frac"] = n_tokens / sum(rows.n_rows * rows.seq_len for rows in packed)
        return named

    def __str__(self) -> str:
        """A table for people; empty without shares."""
        width = max((len(share.name) for share in self.shares), default=0)
        return "\n".join(
            f"  {share.name:<{width}}  {share.row_frac:7.2%} of the rows, {short(share.n_tokens)} tokens in "
            f"{short(share.n_docs)} documents, {share.epochs:.2f} epochs"
            for share in self.shares
        )


def plan_data(
    data: Data, stream: TokenStream, table: Path, *, seq_len: int, pad_id: int, n_steps: int, batch_rows: int, seed: int
) -> DataPlan:
    """Raises: `UserError` for sources and weights that don't fit each other, or more epochs than `max_epochs`."""
    if data.packing == "stream" and data.mixture is None:
        plain = StreamBatches(
            stream, seq_len=seq_len, batch_rows=batch_rows, seed=seed, mask_documents=data.mask_documents
        )
        n_docs, n_drawn = stream.manifest["train"]["n_docs"], n_steps * batch_rows
        check_epochs([_make_share(ALL, n_docs, len(stream), plain.n_rows, n_drawn, n_drawn)], data.max_epochs, n_drawn)
        return DataPlan(plain, [])
    weights = None if data.mixture is None else {key: weight for key, weight in data.mixture.items() if weight}
    parts = read_documents(table, data.mixture)
    if sum(int(part.lengths.sum()) for part in parts) != len(stream):
        raise UserError(
            f"{table} does not describe the shards beside it",
            f"{sum(int(part.lengths.sum()) for part in parts)} tokens in the table, {len(stream)} in the stream",
            "run dvc repro from shard on",
        )
    parts = [part for part in parts if weights is None or part.name in weights]
    sources = [_make_rows(data, part, stream, seq_len, pad_id) for part in parts]
    cycle = [0] if weights is None else make_fair_cycle([weights[part.name] for part in parts])
    batches = RowBatches(sources, batch_rows=batch_rows, seed=seed, cycle=cycle)
    n_drawn = n_steps * batch_rows
    shares = [
        _make_share(part.name or REST, len(part.starts), int(part.lengths.sum()), rows.n_rows, drawn, n_drawn)
        for part, rows, drawn in zip(parts, sources, batches.order.count_drawn(n_drawn), strict=True)
    ]
    check_epochs(shares, data.max_epochs, n_drawn)
    return DataPlan(batches, shares)


def _make_share(name: str, n_docs: int, n_tokens: int, n_rows: int, drawn: int, n_drawn: int) -> Share:
    return Share(name, n_docs, n_tokens, n_rows, drawn, drawn / n_drawn, drawn / n_rows)


def _make_rows(data: Data, part: DocumentSpans, stream: TokenStream, seq_len: int, pad_id: int) -> TokenRows:
    n_tokens, name = int(part.lengths.sum()), f"{stream.name}: {part.name or REST}"
    if data.packing == "best_fit":
        return PackedRows(stream, part.starts, part.lengths, seq_len, pad_id=pad_id, mask_documents=data.mask_documents)
    if n_tokens <= seq_len:
        raise UserError(
            "pretrain.data.mixture: a source does not fill one row",
            f"{n_tokens} tokens of {part.name or REST}, pretrain.model.seq_len = {seq_len}",
            "leave it out (weight 0), weigh it together with others, or set packing: best_fit",
        )
    return StreamRows(
        Selection(stream, part.starts, part.lengths, name=name), seq_len, mask_documents=data.mask_documents
    )


def read_documents(table: Path, weights: Mapping[str, float] | None) -> list[DocumentSpans]:
    """Where the train split's documents are, one entry for each key of `weights`, in its order; without weights one for all."""
    names: dict[str, int] = {}
    starts, lengths, codes = (list[np.ndarray]() for _ in range(3))
    for batch in read_shard(table, ["split", "start", "n_tokens", "source"]):
        batch = batch.filter(pc.equal(batch.column("split"), "train"))
        starts.append(batch.column("start").to_numpy())
        lengths.append(batch.column("n_tokens").to_numpy())
        sources = batch.column("source").dictionary_encode()
        known = [names.setdefault(name, len(names)) for name in sources.dictionary.to_pylist()]
        codes.append(np.array(known, dtype=np.int32)[sources.indices.to_numpy()])
    start, length, code = (np.concatenate(arrays) for arrays in (starts, lengths, codes))
    if weights is None:
        return [DocumentSpans(ALL, start, length)]
    key_of = np.array(list(match_sources(list(names), list(weights)).values()), dtype=np.int64)[code]
    return [DocumentSpans(key, start[key_of == at], length[key_of == at]) for at, key in enumerate(weights)]


def match_sources(sources: Sequence[str], keys: Sequence[str]) -> dict[str, int]:
    """Source → number of the longest key that it begins with. Raises: `UserError` where one has no key, or a key no source."""
    matches = {source: [key for key in keys if source.startswith(key)] for source in sources}
    strangers = sorted(source for source, found in matches.items() if not found)
    if strangers:
        raise UserError(
            "pretrain.data.mixture: sources without a weight",
            ", ".join(strangers),
            'give each one (0 leaves it out); the key "" stands for all others',
        )
    chosen = {source: max(found, key=len) for source, found in matches.items()}
    idle = [key or '""' for key in keys if key not in chosen.values()]
    if idle:
        raise UserError(
            f"pretrain.data.mixture: weights without a source: {', '.join(idle)}",
            f"sources of the train split: {', '.join(sorted(sources))}",
            "correct them, or leave them out",
        )
    return {source: keys.index(key) for source, key in chosen.items()}


def check_epochs(shares: Sequence[Share], max_epochs: float | None, n_drawn: int) -> None:
    """Raises: `UserError` that says what share of the run a source may have."""
    for share in shares:
        if max_epochs is not None and share.epochs > max_epochs:
            raise UserError(
                f"pretrain.data.max_epochs: {share.name} would be repeated more often",
                f"{share.epochs:.2f} epochs ({share.row_frac:.2%} of {n_drawn} rows; it has {share.n_rows}), "
                f"max_epochs = {max_epochs}",
                f"give it at most {max_epochs * share.n_rows / n_drawn:.2%} of the rows, bring more of it, train for fewer "
                "steps, or raise max_epochs",
            )
