"""The section `train_tokenizer` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.frame.settings import ParamsSection, Seed


class TrainTokenizer(ParamsSection):
    """Kind and size of the vocabulary, and the sample that it is trained on."""

    kind: Literal["bpe", "wordpiece", "char"] = "bpe"
    vocab_size: Annotated[int, Field(ge=300, le=1_000_000)]
    pattern: Literal["gpt2", "cl100k", "qwen2"]
    sample_bytes: Annotated[int, Field(ge=10_000)]  # of text to train on, sampled by `seed`
    seed: Seed
    # Prefix of `source` → its weight in the sample. The longest matching prefix counts; sources without one are left out.
    shares: Annotated[dict[str, Annotated[float, Field(gt=0.0)]], Field(min_length=1)] | None = (
        None  # None: as in the corpus
    )
