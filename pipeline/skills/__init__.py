"""Skills of the assistant, one file each: example makers, wordings, scorers, titles, tolerances.

A new skill is one new file and one line in `SKILLS`; conversations, evaluate, the report and the gate follow from that.
"""

from __future__ import annotations

from pipeline.skills.calculator import CALCULATOR, CALCULATOR_ANSWER
from pipeline.skills.comparisons import COMPARISON
from pipeline.skills.conversions import DATES, UNITS
from pipeline.skills.facets import FACET_ANSWER, FACET_SEARCH
from pipeline.skills.followups import FOLLOW_UP
from pipeline.skills.identity import ASKING_BACK, IDENTITY
from pipeline.skills.quote import ABSTENTION, QUOTE
from pipeline.skills.refusal import REFUSAL, REFUSAL_NOT_OVERDONE, SCOPE
from pipeline.skills.requests.unsafe import LOOKALIKE, UNSAFE
from pipeline.skills.search import SEARCH, SEARCH_WORDS, WORDS_ANSWER
from pipeline.skills.skill import Maker, Skill
from pipeline.skills.texts.classification import CLASSIFICATION
from pipeline.skills.texts.extraction import EXTRACTION
from pipeline.skills.texts.forms import FORM
from pipeline.skills.texts.spelling import SPELLING
from pipeline.skills.texts.summaries import SUMMARY
from pipeline.skills.tool_choice import TOOL_CHOICE

SKILLS: tuple[Skill, ...] = (  # in the order of the report and of the samples
    TOOL_CHOICE,
    CALCULATOR,
    CALCULATOR_ANSWER,
    UNITS,
    DATES,
    SPELLING,
    SEARCH,
    SEARCH_WORDS,
    FACET_SEARCH,
    FOLLOW_UP,
    COMPARISON,
    QUOTE,
    FACET_ANSWER,
    WORDS_ANSWER,
    ABSTENTION,
    EXTRACTION,
    CLASSIFICATION,
    SUMMARY,
    FORM,
    REFUSAL,
    UNSAFE,
    REFUSAL_NOT_OVERDONE,
    LOOKALIKE,
    SCOPE,
    IDENTITY,
    ASKING_BACK,
)
# The order of makers determines the shuffle, hence the bytes of train.parquet; a maker of the last skill comes first.
MAKERS: tuple[Maker, ...] = tuple(maker for skill in reversed(SKILLS) for maker in skill.makers)
SEED_KINDS: tuple[str, ...] = (*(kind for skill in SKILLS for kind in skill.seed_kinds), "chat")  # chat: small talk
