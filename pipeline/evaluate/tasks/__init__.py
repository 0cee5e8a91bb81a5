"""Tasks of the evaluation, one file each: what it reads, the items that it scores, its figures.

A new task is one new file, one line in `TASKS`, and its name in pipeline/evaluate/params.py.
"""

from __future__ import annotations

from pipeline.evaluate.task import Task
from pipeline.evaluate.tasks.bias import BIAS
from pipeline.evaluate.tasks.bits_per_byte import BITS_PER_BYTE
from pipeline.evaluate.tasks.cloze import CLOZE
from pipeline.evaluate.tasks.demands import DEMANDS
from pipeline.evaluate.tasks.exact_match import EXACT_MATCH
from pipeline.evaluate.tasks.injections import INJECTIONS
from pipeline.evaluate.tasks.memorization import MEMORIZATION
from pipeline.evaluate.tasks.minimal_pairs import MINIMAL_PAIRS_TASK
from pipeline.evaluate.tasks.multiple_choice import MULTIPLE_CHOICE
from pipeline.evaluate.tasks.robustness import ROBUSTNESS
from pipeline.evaluate.tasks.safety import SAFETY
from pipeline.evaluate.tasks.skill_items import SKILL_ITEMS
from pipeline.evaluate.tasks.speed import SPEED
from pipeline.evaluate.tasks.turns import TURNS

TASKS: tuple[Task, ...] = (  # in the order of the report
    TURNS,
    SKILL_ITEMS,
    INJECTIONS,
    ROBUSTNESS,
    DEMANDS,
    SAFETY,
    BITS_PER_BYTE,
    MEMORIZATION,
    CLOZE,
    MULTIPLE_CHOICE,
    MINIMAL_PAIRS_TASK,
    BIAS,
    EXACT_MATCH,
    SPEED,
)
