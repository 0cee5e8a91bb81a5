"""Tasks of the evaluation, one file each: what it reads, the items that it scores, its figures.

A new task is one new file, one line in `TASKS`, and its name in pipeline/evaluate/params.py.
"""

from __future__ import annotations

from pipeline.evaluate.tasks.bits_per_byte import BITS_PER_BYTE
from pipeline.evaluate.tasks.injections import INJECTIONS
from pipeline.evaluate.tasks.skill_items import SKILL_ITEMS
from pipeline.evaluate.tasks.task import Task
from pipeline.evaluate.tasks.turns import TURNS

TASKS: tuple[Task, ...] = (  # in the order of the report
    TURNS,
    SKILL_ITEMS,
    INJECTIONS,
    BITS_PER_BYTE,
)
