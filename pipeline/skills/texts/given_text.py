"""Conversations about a text that the message brings along: shared by extraction, classification, summaries and forms of answers.

In: an instruction, a text, the right answer. Out: one message with both (text after a colon, in quotation marks, in other lines,
before or after the instruction) and the answer, which is one of the candidates that model.grounding.text_tasks lists for that
message, so that what is learned is what will be chosen from. One name of people and places in four is held out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from model.grounding.constraints import format_answer, read_constraints
from model.grounding.text_tasks import list_text_answers, read_text_task
from model.tokenizer.chat import Message
from pipeline.skills.skill import Example, Item, Material

DEMAND_FRAC = 0.12
DEMANDS = (
    "Answer in capitals.", "Answer in lower case.", "Put your answer in quotation marks.", "Only the answer.",
    "Answer as a bulleted list.", "Reply as JSON with the key result.", "Use ALL CAPS.", 'Start your answer with "Answer:".',
)  # fmt: skip
TRIES = 20  # attempts per example: where the answer is not among the candidates, another one is drawn
# fmt: off
FIRST_NAMES = (
    "Anna", "Ben", "Carla", "David", "Ella", "Frank", "Gina", "Hans", "Iris", "Jack", "Karen", "Liam", "Mona", "Noah", "Olivia",
    "Paul",
    "Rita", "Sam", "Tina", "Victor", "Wendy", "Yusuf", "Zara", "Adam", "Bella", "Chris", "Diana", "Erik", "Fiona", "George",
)
LAST_NAMES = (
    "Novak", "Silva", "Baker", "Fischer", "Costa", "Moreau", "Jensen", "Khan", "Lopez", "Meyer", "Ortega", "Patel", "Rossi",
    "Schmidt",
    "Tanaka", "Weber", "Young", "Adams", "Brown", "Clark", "Evans", "Green", "Hughes", "Keller",
)
CITIES = (
    "Berlin", "Paris", "Madrid", "Oslo", "Vienna", "Rome", "Lisbon", "Prague", "Dublin", "Warsaw", "Zurich", "Hamburg", "Lyon",
    "Porto",
    "Turin", "Boston", "Denver", "Seattle", "Toronto", "Osaka", "Sydney", "Cairo", "Nairobi", "Lima",
)
ITEMS = (
    "two red mugs", "a desk lamp", "ten notebooks", "a wooden chair", "three blue shirts", "a coffee machine", "a used bicycle",
    "five green plants", "a leather bag", "four winter tires", "a kitchen table", "a rain jacket", "six wine glasses",
    "a garden hose",
    "a wireless keyboard", "two concert tickets", "a box of nails", "a yoga mat", "a steel kettle", "three white towels",
)
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LAYOUTS = (
    "{i}: {t}", "{i}: {t}", "{i}:\n{t}", "{i}\n\n{t}", '{i}: "{t}"', "{t}\n\n{i}", "{t}\n{i}", '{i} "{t}"', "{i}\nText: {t}",
    "Text: {t}\n{i}",
)
NEW_LAYOUTS = ("{i}\n```\n{t}\n```", "{i}\n<text>\n{t}\n</text>", "Message: {t}\n\n{i}", "Please {j}: {t}", "{i}\n\n“{t}”")
# fmt: on


def draw_half(values: tuple[str, ...], rng: Random, is_new: bool) -> str:
    """Return one of the values that training uses, or one of those that are held out: every fourth, of few the last."""
    heldout = values[3::4] or values[-1:]
    return rng.choice(heldout if is_new else [value for value in values if value not in heldout])


def draw_name(rng: Random, is_new: bool) -> str:
    """Return the name of a person: the first name, or both."""
    first = draw_half(FIRST_NAMES, rng, is_new)
    return f"{first} {draw_half(LAST_NAMES, rng, is_new)}" if rng.random() < 0.6 else first


def lay_out(instruction: str, text: str, rng: Random, is_new: bool) -> str:
    """Return a message that has both the instruction and the text."""
    layout = rng.choice(NEW_LAYOUTS if is_new else LAYOUTS)
    plain = instruction.rstrip(".") if "{i}:" in layout and not instruction.endswith("?") else instruction
    lowered = plain[:1].lower() + plain[1:].rstrip(".")
    return layout.format(i=plain, j=lowered, t=text).replace("?:", "?", 1)


def add_demand(instruction: str, answer: str, rng: Random) -> tuple[str, str]:
    """Return, for a part of the examples, the instruction with a demand on the answer's form, and the answer in that form."""
    if rng.random() >= DEMAND_FRAC:
        return instruction, answer
    demand = rng.choice(DEMANDS)
    instruction = instruction if instruction.endswith("?") else f"{instruction.rstrip('.')}."
    return f"{instruction} {demand}", format_answer(read_constraints(demand), [answer])


def make_text_example(kind: str, message: str, answer: str) -> Example | None:
    """Return the conversation; None if the answer is not among several candidates for this message."""
    task = read_text_task(message)
    answers = list_text_answers(task) if task else []
    if answer not in answers or len(answers) < 2:
        return None
    messages = [Message.of("user", message), Message.of("assistant", answer)]
    return Example(kind, messages, {"call": None, "answer": answer})


def make_text_examples(
    make: Callable[[Random, bool], Example | None], n: int, material: Material, rng: Random
) -> list[Example]:
    """Return up to `n` examples of a function that draws one; held out, a part of them in new wordings and with new names."""
    examples: list[Example] = []
    for _ in range(n):
        is_new = material.is_heldout and rng.random() < material.new_wording_frac
        drawn = (make(rng, is_new) for _ in range(TRIES))
        example = next((example for example in drawn if example is not None), None)
        examples += [example] if example else []
    return examples


def gives_answer(item: Item, reply: Message) -> bool:
    """Return whether a reply is the expected answer, to the character."""
    return reply.call is None and reply.text == item.expected["answer"]
