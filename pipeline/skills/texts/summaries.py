"""Skill: summarize a text in the message by the sentence of it that says most.

In: a random generator. Out: a text of three to six sentences, one of which says what the text is about and the others give
details of it; the instruction; that sentence. It comes first in half of the texts, else anywhere. Held out: subjects with
their sentences, names, and wordings (NEW …).
"""

from __future__ import annotations

from functools import partial
from random import Random

from pipeline.skills.skill import Example, Maker, Skill
from pipeline.skills.texts.given_text import (
    CITIES,
    DAYS,
    MONTHS,
    add_demand,
    draw_half,
    draw_name,
    gives_answer,
    lay_out,
    make_text_example,
    make_text_examples,
)

FIRST_FRAC = 0.5
# fmt: off
# Central sentences and details about the same subject; {p} a place, {d} a day, {m} a month, {a} a person, {n} a number.
SUBJECTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("The museum in {p} will close in {m} for repairs.", "The city of {p} closes its museum for repairs in {m}."),
     ("The roof has leaked for years.", "Visitors can use their tickets later.", "The work takes about {n} weeks.",
      "{a} leads the team.", "A small café stays open.", "The last tour is on {d}.")),
    (("Our online shop moves to a new server on {d}.", "On {d} the shop will be moved to a new server."),
     ("It is offline for {n} hours.", "Orders are kept.", "{a} can answer questions.", "The old machine was too slow.",
      "Please save your carts before.", "Prices stay the same.")),
    (("The school in {p} is looking for a new teacher of music.", "A new teacher of music is wanted at the school in {p}."),
     ("The job starts in {m}.", "There are {n} lessons a week.", "The choir has won prizes.", "Letters go to {a}.",
      "A piano is in the hall.", "Interviews are on {d}.")),
    (("The company {f} will open a factory in {p}.", "{f} plans to build a new factory in {p}."),
     ("About {n} people will work there.", "The site was a farm before.", "{a} signed the contract on {d}.",
      "The first machines arrive in {m}.", "Trucks will use the northern road.", "Neighbors fear the noise.")),
    (("Bus line {n} no longer stops at the station from {m} on.", "From {m} on, the buses of line {n} skip the station."),
     ("The street is too narrow.", "Passengers can walk from the market.", "Tickets stay valid.",
      "{a} from the office explained it on {d}.", "Other lines are not changed.", "Signs will be put up.")),
    (("The team of {a} has found a way to clean the river in {p}.", "A new method by {a} cleans the river in {p}."),
     ("It uses plants and sand.", "The test took {n} months.", "Fish came back in {m}.", "The city paid for it.",
      "Results were shown on {d}.", "No chemicals are needed.")),
    (("The library in {p} lends tools as well as books now.", "You can now borrow tools at the library in {p}."),
     ("There are {n} drills and saws.", "{a} had the idea.", "A card costs nothing.", "Things come back after two weeks.",
      "On {d} there is a course.", "The shelves were built in {m}.")),
    (("The summer festival in {p} is cancelled because of the storm.",
      "Because of the storm there is no festival in {p} this year."),
     ("Tickets are refunded until {m}.", "{n} bands were invited.", "The field is under water.", "{a} thanks all helpers.",
      "The stage was taken down on {d}.", "Another date is not known.")),
)
NEW_SUBJECTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("The hospital in {p} gets a new ward for children.",),
     ("It has {n} beds.", "The walls are painted with animals.", "{a} gave a speech on {d}.", "Parents can sleep there.",
      "The first patients come in {m}.")),
    (("Our office moves to {p} in {m}.",),
     ("The lease ends on {d}.", "There is room for {n} desks.", "Boxes are in the cellar.", "{a} has the keys.",
      "Plants can be taken along.")),
    (("A power failure has stopped all trains around {p}.",),
     ("It began at noon on {d}.", "Buses run instead.", "{n} people waited at the station.", "{a} speaks for the railway.",
      "The repair may last until evening.")),
)
INSTRUCTIONS = (
    "Summarize this text", "Summarize the following text in one sentence", "Summarize this", "tl;dr",
    "Give me a summary of this text", "Sum up this message in one sentence",
    "What is the main point of this text?", "What is the most important sentence of the text?", "Summarize this in a sentence",
    "Give me the gist of this message",
    "Write a one-sentence summary of this", "Short summary of the following",
    "Which sentence says most? Give the key sentence of this text", "Summarize in one sentence",
)
NEW_INSTRUCTIONS = ("Boil this text down to one sentence", "What is the main message of this text?",
                    "Condense this into one sentence", "In a nutshell, what does this text say? Give one sentence")
FIRMS = ("Alder", "Northwind", "Velo", "Brightly", "Corvus", "Kestrel", "Lumen", "Maple")
# fmt: on


def make_summary(rng: Random, is_new: bool) -> Example | None:
    """Return one text with its central sentence."""
    centrals, details = rng.choice(NEW_SUBJECTS if is_new else SUBJECTS)
    values = {
        "p": draw_half(CITIES, rng, is_new),
        "d": rng.choice(DAYS),
        "m": rng.choice(MONTHS),
        "a": draw_name(rng, is_new),
        "n": rng.randint(2, 90),
        "f": draw_half(FIRMS, rng, is_new),
    }
    central = rng.choice(centrals).format(**values)
    others = [each.format(**values) for each in rng.sample(details, rng.randint(2, min(5, len(details))))]
    position = 0 if rng.random() < FIRST_FRAC else rng.randint(0, len(others))
    text = " ".join([*others[:position], central, *others[position:]])
    instruction = rng.choice(NEW_INSTRUCTIONS if is_new else INSTRUCTIONS)
    instruction, answer = add_demand(instruction, central, rng)
    return make_text_example("summary", lay_out(instruction, text, rng, is_new), answer)


SUMMARY = Skill(
    name="summary_right",
    title="Summary by the central sentence",
    meaning="of three to six sentences; first in half of the texts",
    max_drop=0.09,  # 200 items
    applies=lambda item: item.kind == "summary",
    is_right=gives_answer,
    makers=(Maker("summary", "summary", partial(make_text_examples, make_summary)),),
)
