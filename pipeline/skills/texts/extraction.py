"""Skill: extract from a text in the message what is asked for: who, where, when, what, how much, one slot of several that fit.

In: a random generator. Out: a short text with several people, places, dates or things, a question about one of them, the span that
answers. Questions whose answer is the only span of its form need no model (model.grounding.text_tasks) and are not made. Held out:
names, wordings, and whole texts (NEW …).
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import NamedTuple

from model.grounding.text_tasks import NOT_STATED
from pipeline.skills.skill import Example, Maker, Skill
from pipeline.skills.texts.given_text import (
    CITIES,
    DAYS,
    ITEMS,
    MONTHS,
    add_demand,
    draw_half,
    draw_name,
    gives_answer,
    lay_out,
    make_text_example,
    make_text_examples,
)

MISSING_FRAC = 0.06


class _Story(NamedTuple):
    """A text with slots a, b (people), p, q (places), d, e (dates), m, n (amounts), x (an item), and questions by slot."""

    texts: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]


# fmt: off
_ITEM = ("Extract the product from this text", "What product does the text name?", "Find the item in this message",
         "Extract the item from the text",
         "Which product is in this message?")
STORIES = (
    _Story(("{a} ordered {x} from {b} on {d}. The parcel goes to {p} and not to {q}.",
            "On {d}, {a} placed an order with {b}: {x}. Send it to {p}, since the office in {q} is closed.",
            "Hello, this is {a}. I ordered {x} and {b} took the call. It should arrive in {p}, I moved there from {q}."),
           {"a": ("Who ordered?", "Who placed the order? Give the name in the text", "Extract the customer from this text",
                  "Which customer is in this message?"),
            "p": ("Where does the parcel go?", "Extract the delivery city from this message",
                  "Which city is the destination in this text?"),
            "x": (*_ITEM, "What was ordered? Extract the product from the text")}),
    _Story(("{a} will meet {b} in {p} on {d}. The meeting was planned for {e} in {q} before.",
            "The meeting of {a} with {b} has moved from {e} to {d}. It is now in {p} instead of in {q}.",
            "Note: {b} can't come to {q} on {e}, so {a} sees everyone in {p} on {d}."),
           {"p": ("Where is the meeting?", "Extract the place of the meeting from this text",
                  "Which city is the meeting in, says this message?"),
            "d": ("When is the meeting?", "Extract the date of the meeting from this note",
                  "What date is the meeting in this message?"),
            "a": ("Who hosts the meeting?", "Extract the host from this text")}),
    _Story(("{a} sold {x} to {b} for {m}. Shipping to {p} costs {n} more.",
            "{b} bought {x} from {a}. The price was {m}, and {n} were added for the way to {p}.",
            "Receipt: {x}, seller {a}, buyer {b}, price {m}, delivery to {p} {n}."),
           {"a": ("Who sold it?", "Who is the seller?", "Extract the seller from this text",
                  "Extract the name of the seller from this message"),
            "b": ("Who bought it?", "Who is the buyer?", "Extract the buyer from this text",
                  "Extract the name of the buyer from this message"),
            "m": ("How much did it cost?", "Extract the price from this text", "What is the price in this message?"),
            "x": (*_ITEM, "What was sold? Extract the product from the text")}),
    _Story(("The train from {p} to {q} leaves on {d}. {a} travels back on {e} together with {b}.",
            "{a} goes from {p} to {q} on {d}, and comes back with {b} on {e}.",
            "Ticket for {a}: from {p} to {q}, out on {d}, return on {e}. Contact: {b}."),
           {"p": ("Where does the trip start?", "Extract the departure city from this text",
                  "Which city does the trip start in, by this text?"),
            "q": ("Where does the trip go?", "Extract the destination from this text",
                  "Which city is the destination in this message?"),
            "d": ("When does the trip start?", "Extract the departure date from this text",
                  "What is the date of departure in this message?"),
            "e": ("When is the return?", "Extract the return date from this text", "What is the return date in this message?")}),
    _Story(("{a} manages the project in {p}. {b} writes the code, and the test is due on {d}, the release on {e}.",
            "The project in {p} is led by {a}; the code is written by {b}. We test on {d} and release on {e}.",
            "Team: manager {a}, developer {b}. Test on {d}, release on {e}, all of it in {p}."),
           {"a": ("Who leads the project?", "Who is the manager?", "Extract the manager from this text"),
            "b": ("Who writes the code?", "Who is the developer?", "Extract the name of the developer from this message"),
            "d": ("When is the test?", "Extract the date of the test from this text", "What is the test date in this note?"),
            "e": ("When is the release?", "Extract the release date from this text",
                  "What is the release date in this message?")}),
)
NEW_STORIES = (
    _Story(("{a} rents the flat in {p} from {b} since {d}. The rent is {m}, and the deposit was {n}.",
            "Lease: tenant {a}, landlord {b}, flat in {p}, from {d}, rent {m}, deposit {n}."),
           {"a": ("Who is the tenant?", "Extract the tenant from this text"), "b": ("Who is the landlord?",
           "Extract the landlord from the message"),
            "m": ("How much is the rent?", "Extract the rent from this text")}),
    _Story(("Doctor {a} saw the patient {b} in {p} on {d}. The next visit is on {e}.",),
           {"b": ("Who is the patient?", "Extract the patient from this note"), "e": ("When is the next visit?",
           "Extract the date of the next visit from this text")}),
    _Story(("{a} teaches French in {p}; {b} is the new student from {q}. Lessons start on {d} and end on {e}.",),
           {"a": ("Who teaches?", "Extract the teacher from this text"), "q": ("Where is the student from?",),
            "d": ("When do the lessons start?", "Extract the start date from this text")}),
)
_ABSENT = {"the phone number": "phone", "the email address": "email", "the website": "url", "the discount": "percent"}
# fmt: on


def make_extraction(rng: Random, is_new: bool) -> Example | None:
    """Return one question about a text; None if what was drawn has no choice."""
    story = rng.choice(NEW_STORIES if is_new else STORIES)
    values = {
        **dict(zip("ab", (draw_name(rng, is_new), draw_name(rng, is_new)), strict=True)),
        **dict(zip("pq", (draw_half(CITIES, rng, is_new), draw_half(CITIES, rng, is_new)), strict=True)),
        **dict(zip("de", (_draw_day(rng), _draw_day(rng)), strict=True)),
        **dict(zip("mn", (_draw_amount(rng), _draw_amount(rng)), strict=True)),
        "x": draw_half(ITEMS, rng, is_new),
    }
    if len(set(values.values())) < len(values):
        return None
    text = rng.choice(story.texts).format(**values)
    if rng.random() < MISSING_FRAC:
        message = lay_out("Extract the product code and the order from this text", text, rng, is_new)
        return make_text_example("extraction", message, NOT_STATED)
    slot = rng.choice(list(story.questions))
    question = rng.choice(story.questions[slot])
    answer = values[slot].removeprefix("a ") if slot == "x" else values[slot]
    question, answer = add_demand(question, answer, rng)
    return make_text_example("extraction", lay_out(question, text, rng, is_new), answer)


def _draw_day(rng: Random) -> str:
    day, month = rng.randint(1, 28), rng.choice(MONTHS)
    forms = (f"{day} {month}", f"{month} {day}", f"2025-{MONTHS.index(month) + 1:02}-{day:02}", rng.choice(DAYS))
    return rng.choice(forms)


def _draw_amount(rng: Random) -> str:
    value = rng.choice((rng.randint(2, 90), rng.randint(100, 990)))
    return rng.choice((f"${value}", f"{value} euros", f"€{value}", f"{value} dollars"))


EXTRACTION = Skill(
    name="extraction_exact",
    title="Extraction from a text",
    meaning="who, where, when, what, how much: the span, where several have the right form",
    max_drop=0.09,  # 200 items
    applies=lambda item: item.kind == "extraction",
    is_right=gives_answer,
    makers=(Maker("extraction", "extraction", partial(make_text_examples, make_extraction)),),
)
