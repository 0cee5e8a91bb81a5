"""Make the batches that a student learns from: text at first, then conversations with text among them.

In: rows of text, encoded conversations. Out: batches as a function of the step; targets of conversations are the assistant's
tokens only. Memory and time: those of model.data.batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.data.batches import Batch, Batches, Conversation, ConversationBatches, RowBatches, StreamRows, TokenStream
from model.data.order import get_rank_slice
from model.tokenizer.tokenizer import Tokenizer
from pipeline.distill.params import Distill
from pipeline.distill.teacher_cache import TeacherCache
from pipeline.frame.errors import UserError


class StudentBatches:
    """The batches of `text` before step `text_steps`, then those of `talks`."""

    def __init__(self, text: RowBatches, talks: RowBatches, text_steps: int) -> None:
        self.text, self.talks, self.text_steps = text, talks, text_steps
        self.n_rows, self.batch_rows = text.n_rows + talks.n_rows, talks.batch_rows

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        if step < self.text_steps:
            return self.text.at(step, rank=rank, n_ranks=n_ranks)
        return self.talks.at(step - self.text_steps, rank=rank, n_ranks=n_ranks)


class TaughtBatches:
    """The batches of `source` with the teacher's distributions from a cache of all steps."""

    def __init__(self, source: Batches, cache: TeacherCache, share: float, temperature: float) -> None:
        self.source, self.cache, self.share, self.temperature = source, cache, share, temperature
        self.n_rows, self.batch_rows = source.n_rows, source.batch_rows

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        whole = self.source.at(step)
        soft = self.cache.read(step, whole.targets, self.share, self.temperature)
        if n_ranks == 1:
            return whole._replace(soft=soft)
        rows = get_rank_slice(len(whole.ids), rank, n_ranks)
        return self.source.at(step, rank=rank, n_ranks=n_ranks)._replace(soft=soft.select(rows))


def make_student_batches(
    params: Distill, stream: TokenStream, conversations: Sequence[Conversation], tokenizer: Tokenizer
) -> StudentBatches:
    """Return the batches of a run."""
    seq_len, training = params.model.seq_len, params.training
    rows = StreamRows(stream, seq_len, mask_documents=True)
    text = RowBatches([rows], batch_rows=training.batch_rows, seed=training.seed)
    talks = ConversationBatches(
        conversations,
        seq_len=seq_len,
        batch_rows=training.batch_rows,
        seed=training.seed,
        pad_id=tokenizer.get_special_id("pad"),
        replay=rows if params.replay_frac else None,
        replay_frac=params.replay_frac,
    )
    return StudentBatches(text, talks, params.text_steps)


def open_text(shards: Path, split: str, tokenizer: Tokenizer, seq_len: int, verified: Path) -> TokenStream:
    """Open a split of the shards. Raises: `UserError` for shards of another tokenizer than the teacher's, or less than a row."""
    stream = TokenStream(shards, split, verify_sha256=True, verified=verified)
    if stream.manifest["tokenizer_sha256"] != tokenizer.sha256:
        raise UserError(
            "distill: the teacher has another tokenizer than the shards",
            f"{shards}: {stream.manifest['vocab_size']} tokens, sha256 {stream.manifest['tokenizer_sha256'][:12]}…; "
            f"the teacher's: {tokenizer.vocab_size} tokens, {tokenizer.sha256[:12]}…",
            "name a teacher that was trained on these shards: a student learns its distributions token by token",
        )
    if len(stream) <= seq_len:
        raise UserError(
            f"distill: {stream.name} does not fill one row",
            f"{len(stream)} tokens, distill.model.seq_len = {seq_len}",
            "add more text, or lower seq_len",
        )
    return stream
