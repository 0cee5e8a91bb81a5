"""Define a task of the evaluation: what it reads, the items that it scores, and the figures that people read.

In: `Context`, everything that evaluate reads, loaded when a task first asks for it. Out: `Measured`: scores of items
(item_scores.py), and what else the task writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from assistant.inference.local import ModelEngine
from model.data.batches import TokenStream
from model.network.folder import load_model
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from pipeline.evaluate import measure
from pipeline.evaluate.heldout.kneser_ney import KneserNey
from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.params import Evaluate
from pipeline.evaluate.user_turns import NewSession, load_engine, open_assistant
from pipeline.frame.environment import read
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics


@dataclass(frozen=True)
class Measured:
    """What a task measured. `counts`: metrics that are no means over items. `lines`: rows of JSON by file. `tables`: by file."""

    items: Sequence[ItemScore] = ()
    figures: Sequence[Figure] = ()
    counts: Metrics = field(default_factory=dict[str, float | int])
    lines: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict[str, Sequence[Mapping[str, Any]]])
    tables: Mapping[str, pa.Table] = field(default_factory=dict[str, pa.Table])

    @classmethod
    def join(cls, parts: Sequence[Measured]) -> Measured:
        """Return what several sets of one task measured, without lines and tables."""
        return cls(
            [item for part in parts for item in part.items],
            [figure for part in parts for figure in part.figures],
            {name: value for part in parts for name, value in part.counts.items()},
        )


class Loaded(NamedTuple):
    """A model in memory with its tokenizer."""

    model: Transformer
    tokenizer: Tokenizer


@dataclass(frozen=True)
class EvaluationInputs:
    """The folders that evaluate reads."""

    base: Path
    chat: Path
    shards: Path
    conversations: Path
    index: Path
    embed: Path
    turns: Path
    sets: Path
    feedback: Path | None = None


@dataclass(frozen=True)
class Context:
    """What tasks read. Each part is loaded once, when it is first asked for."""

    params: Evaluate
    inputs: EvaluationInputs

    @cached_property
    def device(self) -> torch.device:
        """The device that computes."""
        return measure.choose_device(read("MINIGPT_DEVICE"))

    @cached_property
    def pretrained(self) -> Loaded:
        """The pretrained model. Raises `UserError` if it is not ours or can't read the shards."""
        return self._load("base")

    @cached_property
    def tuned(self) -> Loaded:
        """The tuned model. Raises `UserError` if it is not ours or can't read the shards."""
        return self._load("chat")

    @cached_property
    def documents(self) -> measure.HeldoutDocuments:
        """The held-out documents. Raises `UserError` if there are too few."""
        return measure.read_documents(self.inputs.shards, self.params.eval_tokens, self.params.seed)

    @cached_property
    def engine(self) -> ModelEngine:
        """The tuned model as it is served."""
        return load_engine(self.inputs.chat, str(self.device))

    @cached_property
    def new_session(self) -> NewSession:
        """Starts a conversation with the whole assistant."""
        return open_assistant(self.engine, self.inputs.index, self.inputs.embed)

    @cached_property
    def bigram(self) -> KneserNey:
        """A bigram model of the training tokens: what knowing pairs of tokens alone is worth."""
        stream = TokenStream(self.inputs.shards, "train")
        vocab_size = self.pretrained.tokenizer.vocab_size
        return KneserNey(stream.read(0, len(stream)), bos_id=stream.bos_id, vocab_size=vocab_size, order=2)

    def _load(self, name: str) -> Loaded:
        folder: Path = getattr(self.inputs, name)
        try:
            model, tokenizer, _ = load_model(folder, device=self.device)
        except ValueError as error:
            raise UserError(f"evaluate: --{name} can't be loaded", str(error), "name a folder of our models") from error
        wanted = TokenStream(self.inputs.shards, "val").manifest["tokenizer_sha256"]
        if tokenizer.sha256 != wanted:
            raise UserError(
                f"evaluate: the model of --{name} has another tokenizer than the shards",
                f"sha256 {tokenizer.sha256[:12]} in {folder}, {wanted[:12]} in {self.inputs.shards}",
                "evaluate a model with the shards that it was trained on (dvc repro)",
            )
        return Loaded(model, tokenizer)


@dataclass(frozen=True)
class Task:
    """One measurement: a name of `evaluate.tasks`, and the function that takes it."""

    name: str
    measure: Callable[[Context], Measured]
