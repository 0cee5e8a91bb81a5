"""The section `conversations` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Frac, ParamsSection, Seed


class Conversations(ParamsSection):
    """Number and length of conversations. `n_<kind>`: training examples of one kind, in the place of the skill's own number."""

    seed: Seed
    max_tokens: Annotated[int, Field(ge=64)]  # of a whole conversation, so that none is cut in training
    n_quote: Annotated[int, Field(ge=0)]  # by name
    n_abstain: Annotated[int, Field(ge=0)]  # about names that do not exist
    n_facet: Annotated[int, Field(ge=0)]  # about parameters, return values, examples
    n_comparison: Annotated[int, Field(ge=0)]
    n_followup: Annotated[int, Field(ge=0)]
    n_task: Annotated[int, Field(ge=0)]  # in words, which come from the documentation
    n_question: Annotated[int, Field(ge=0)]  # written by hand, in words
    n_search: Annotated[int, Field(ge=0)]  # by name, up to the call
    n_calculator: Annotated[int, Field(ge=0)]
    n_units: Annotated[int, Field(ge=0)]
    n_dates: Annotated[int, Field(ge=0)]
    n_seed_repeats: Annotated[int, Field(ge=1)]  # repetitions of each wording of a hand-written conversation
    joined_frac: Frac  # of the conversations continues with another one, as users' conversations do
    system_frac: Frac  # of the conversations made by program starts with a system prompt
    n_heldout: Annotated[int, Field(ge=1)]  # items per skill, on symbols that training never sees
