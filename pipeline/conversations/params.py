"""The section `conversations` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import Frac, InputPath, ParamsSection, Seed
from pipeline.screening.params import Decontamination, Licenses

Name = Annotated[str, Field(min_length=1)]
MAX_WEIGHT = 100.0
FEEDBACK = "feedback"  # the source of what people said about answers


class ChatColumns(ParamsSection):
    """Fields of rows in a format of their own, by what they hold; `answer.text` is the field `text` in `answer`."""

    messages: Name | None = None  # a list of turns; or …
    user: Name | None = None  # … what the user says, and …
    assistant: Name | None = None  # … the reply
    context: Name | None = None  # what `user` refers to, appended to it
    system: Name | None = None
    license: Name | None = None

    @model_validator(mode="after")
    def _check_complete(self) -> ChatColumns:
        has_turns, has_pair = self.messages is not None, self.user is not None and self.assistant is not None
        if has_turns == has_pair or (has_turns and (self.user or self.assistant or self.context)):
            raise ValueError("name either messages, or user and assistant")
        return self


class ChatSource(ParamsSection):
    """Conversations that people have: files below the stage's input `chats` (docs/chats.md)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # in the column `source` and in the metrics
    path: InputPath  # a file, a folder or a glob below --chats
    license: Name  # an SPDX expression or a name in `licenses`; a row's own field `license` takes precedence
    format: Literal[
        "auto", "messages", "chatml", "sharegpt", "alpaca", "dolly", "self_instruct", "gsm8k", "t0", "prompt", "columns"
    ] = "auto"  # auto: each row by its fields
    columns: ChatColumns | None = None  # of the format `columns`
    ignore: list[Name] = []  # fields that other programs need
    weight: Annotated[float, Field(ge=0.0, le=MAX_WEIGHT)] = 1.0  # copies of each conversation; 0.5: every second one
    heldout_frac: Frac = 0.0  # of the conversations, for evaluation only; 1.0: all of them

    @model_validator(mode="after")
    def _check_columns(self) -> ChatSource:
        if (self.format == "columns") != (self.columns is not None):
            raise ValueError("format: columns and the setting columns belong together; give both or neither")
        return self


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
    n_spelling: Annotated[int, Field(ge=0)] = 0  # and counting
    n_extraction: Annotated[int, Field(ge=0)] = 0  # out of a text in the message
    n_classification: Annotated[int, Field(ge=0)] = 0
    n_summary: Annotated[int, Field(ge=0)] = 0
    n_unsafe: Annotated[int, Field(ge=0)] = 0  # requests by verb and object
    n_lookalike: Annotated[int, Field(ge=0)] = 0  # the same forms, harmless
    n_seed_repeats: Annotated[int, Field(ge=1)]  # repetitions of each wording of a hand-written conversation
    joined_frac: Frac  # of the conversations continues with another one, as users' conversations do
    system_frac: Frac  # of the conversations made by program starts with a system prompt
    n_heldout: Annotated[int, Field(ge=1)]  # items per skill, on symbols that training never sees
    sources: list[ChatSource] = []  # conversations in files below --chats
    feedback_weight: Annotated[float, Field(ge=0.0, le=MAX_WEIGHT)] = 8.0  # copies of each corrected conversation
    licenses: Licenses | None = None  # that `sources` may have
    decontamination: Decontamination | None = (
        None  # evaluation sets whose text no conversation of `sources` may contain
    )

    @model_validator(mode="after")
    def _check_sources(self) -> Conversations:
        names = [source.name for source in self.sources]
        if FEEDBACK in names:
            raise ValueError(f"the name {FEEDBACK} is taken by the input feedback; choose another one")
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        if self.sources and self.licenses is None:
            raise ValueError("sources need licenses: list those that may be trained on")
        return self
