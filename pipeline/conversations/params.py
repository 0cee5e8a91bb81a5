"""Settings of `conversations` in params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Frac, Section, Seed


class Conversations(Section):
    seed: Seed
    max_tokens: Annotated[int, Field(ge=64)]  # a whole conversation, so that none is cut in training
    n_quote: Annotated[int, Field(ge=0)]
    n_abstain: Annotated[int, Field(ge=0)]
    n_search: Annotated[int, Field(ge=0)]  # half of them by name, half in words
    n_calculator: Annotated[int, Field(ge=0)]
    n_seed_repeats: Annotated[int, Field(ge=1)]  # how often each wording of a hand-written conversation is shown
    joined_frac: Frac  # of the conversations that go on with another one, as people's do
    system_frac: Frac  # of the conversations made by program that begin with a system prompt
    n_heldout: Annotated[int, Field(ge=1)]  # of each skill, on symbols that training never saw
