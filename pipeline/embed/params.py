"""The section `embed` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, ParamsSection, Seed


class Embedding(ParamsSection):
    """How the embedder is trained: symmetric InfoNCE over pairs of a batch, Adagrad, from a truncated SVD."""

    width: Annotated[int, Field(ge=8, le=512)]
    min_docs: Count  # that a word must be in, or it has no vector
    max_words: Annotated[int, Field(ge=100)]
    svd_rounds: Count  # of subspace iteration
    svd_power: Annotated[float, Field(ge=0.0, le=2.0)]  # of the singular values in the first vectors
    total_steps: Annotated[int, Field(ge=0)]
    batch_pairs: Annotated[int, Field(ge=2)]
    question_pairs: Annotated[int, Field(ge=0)]  # of a batch that are hand-written
    title_frac: Frac  # of the other pairs ask with the title instead of the first sentence
    own_word_frac: Frac  # of the first sentences keep the words of their symbol's name
    dropout_frac: Frac  # of the words of both sides are left out, another choice at each step
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)]
    temperature: Annotated[float, Field(gt=0.0, le=1.0)]


class Reranking(ParamsSection):
    """How the reranker is trained: softmax over the candidates of each list, Adam."""

    n_lists: Count  # first sentences of documents that the embedder never saw
    question_weight: Annotated[
        float, Field(ge=0.0)
    ]  # of the list of a hand-written question; that of a first sentence is 1
    off_topic_frac: Frac  # of right answers that may score as if they said nothing about the question
    hidden: Annotated[int, Field(ge=1, le=1024)]
    n_epochs: Count
    batch_lists: Count
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]


class Embed(ParamsSection):
    """Split of the documents, and how both are trained."""

    seed: Seed
    reranker_frac: (
        Frac  # of the documents: their first sentences train the reranker, which must not see what the embedder saw
    )
    test_frac: Frac  # of the documents: their first sentences are the test
    reranker_question_frac: Frac  # of the hand-written questions for training; the embedder learns from the others
    n_test: Count  # first sentences that are measured
    embedding: Embedding
    reranking: Reranking

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.reranker_frac + self.test_frac >= 1:
            raise ValueError("reranker_frac + test_frac must be less than 1, or the embedder has no documents")
        return self
