"""Make the batches of pretraining from pretrain.data: how documents are packed into rows, and the share of each source.

In: the stream of the train split and the table of documents of the shards. Out: batches, and the resulting share of each source.
Memory: 20 bytes per document while the table is read, then as in model/data/documents.py; nothing without a mixture or best_fit.
Time: one pass over three columns of the table.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute creates its functions at run time)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from model.data.batches import RowBatches, StreamBatches, StreamRows, TokenRows, TokenStream
from model.data.documents import PackedRows, Selection
from model.data.growth import GrowingBatches, GrowthStage
from model.data.order import make_fair_cycle
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import short
from pipeline.pretrain.budgeted import list_stages
from pipeline.pretrain.params import Data
from pipeline.storage.tables import read_shard

ALL = "all"  # name of the only source if there is no mixture
REST = "rest"  # name of the source with the key ""


@dataclass(frozen=True)
class DocumentSpans:
    """The positions of a source's documents in the stream."""

    name: str
    starts: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Share:
    """How much a run reads from a source."""

    name: str
    n_docs: int
    n_tokens: int
    n_rows: int  # per epoch
    rows_drawn: int
    row_frac: float  # fraction of the run's rows
    epochs: float


@dataclass(frozen=True)
class DataPlan:
    """The batches of a run and the share of each source."""

    batches: GrowingBatches
    shares: Sequence[Share]  # empty if there is one source whose rows are cut from the stream

    @property
    def metrics(self) -> Metrics:
        """Epochs of each source, and the fill of packed rows."""
        named: Metrics = {f"epochs_{share.name}": share.epochs for share in self.shares if share.name != ALL}
        packed = [rows for rows in self.batches.source.sources if isinstance(rows, PackedRows)]
        if packed:
            n_tokens = sum(rows.n_tokens for rows in packed)
            named["row_fill_frac"] = n_tokens / sum(rows.n_rows * rows.seq_len for rows in packed)
        return named

    def __str__(self) -> str:
        """Return a printable table; empty without shares."""
        width = max((len(share.name) for share in self.shares), default=0)
        return "\n".join(
            f"  {share.name:<{width}}  {share.row_frac:7.2%} of the rows, {short(share.n_tokens)} tokens in "
            f"{short(share.n_docs)} documents, {share.epochs:.2f} epochs"
            for share in self.shares
        )


def plan_data(
    data: Data, stream: TokenStream, table: Path, *, seq_len: int, pad_id: int, n_steps: int, batch_rows: int, seed: int
) -> DataPlan:
    """Return the batches of a run. Raises: `UserError` if sources and weights don't match, or for more epochs than `max_epochs`."""
    sizes = list_stages(data.growth, seq_len=seq_len, n_steps=n_steps, batch_rows=batch_rows)
    stages = [GrowthStage(*each) for each in sizes]
    n_drawn = sum(stage.n_steps * stage.batch_rows for stage in stages)
    if data.packing == "stream" and data.mixture is None:
        plain = StreamBatches(
            stream, seq_len=seq_len, batch_rows=batch_rows, seed=seed, mask_documents=data.mask_documents
        )
        n_docs = stream.manifest["train"]["n_docs"]
        check_epochs([_make_share(ALL, n_docs, len(stream), plain.n_rows, n_drawn, n_drawn)], data.max_epochs, n_drawn)
        return DataPlan(GrowingBatches(plain, seq_len, stages), [])
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
    shares = [
        _make_share(part.name or REST, len(part.starts), int(part.lengths.sum()), rows.n_rows, drawn, n_drawn)
        for part, rows, drawn in zip(parts, sources, batches.order.count_drawn(n_drawn), strict=True)
    ]
    check_epochs(shares, data.max_epochs, n_drawn)
    return DataPlan(GrowingBatches(batches, seq_len, stages), shares)


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
            "exclude it (weight 0), combine it with other sources under one key, or set packing: best_fit",
        )
    return StreamRows(
        Selection(stream, part.starts, part.lengths, name=name), seq_len, mask_documents=data.mask_documents
    )


def read_documents(table: Path, weights: Mapping[str, float] | None) -> list[DocumentSpans]:
    """Return the positions of the train documents, one entry per key of `weights` in its order; without weights one for all."""
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
    """Return the index of the longest matching key prefix of each source. Raises: `UserError` for a source without a key, or a key
    without a source."""
    matches = {source: [key for key in keys if source.startswith(key)] for source in sources}
    unmatched = sorted(source for source, prefixes in matches.items() if not prefixes)
    if unmatched:
        raise UserError(
            "pretrain.data.mixture: sources without a weight",
            ", ".join(unmatched),
            'give each one a weight (0 excludes it); the key "" matches all others',
        )
    chosen = {source: max(prefixes, key=len) for source, prefixes in matches.items()}
    unused = [key or '""' for key in keys if key not in chosen.values()]
    if unused:
        raise UserError(
            f"pretrain.data.mixture: weights without a source: {', '.join(unused)}",
            f"sources of the train split: {', '.join(sorted(sources))}",
            "correct or remove them",
        )
    return {source: keys.index(key) for source, key in chosen.items()}


def check_epochs(shares: Sequence[Share], max_epochs: float | None, n_drawn: int) -> None:
    """Raise `UserError` if a source would be repeated more than `max_epochs` times; it contains the largest possible share."""
    for share in shares:
        if max_epochs is not None and share.epochs > max_epochs:
            raise UserError(
                f"pretrain.data.max_epochs: {share.name} would be repeated too often",
                f"{share.epochs:.2f} epochs ({share.row_frac:.2%} of {n_drawn} rows; it has {share.n_rows}), "
                f"max_epochs = {max_epochs}",
                f"give it at most {max_epochs * share.n_rows / n_drawn:.2%} of the rows, add more of it, train for fewer "
                "steps, or raise max_epochs",
            )
