"""Skill: hand counting and spelling to a tool: letters, words, items of a text; a word letter by letter, backwards, in capitals.

In: a random generator. Out: a question in many wordings → a call of count_text or spell_text with what was typed. A model that
reads tokens sees no letters, so the result is the tool's. Held out: words and wordings (NEW …).
"""

from __future__ import annotations

from random import Random

from model.tokenizer.chat import Message, ToolCall, call_to_json
from pipeline.skills.skill import Example, Maker, Material, Skill, cut_before_result, has_expected_call
from pipeline.skills.texts.given_text import draw_half

# fmt: off
WORDS = (
    "strawberry", "banana", "necessary", "rhythm", "bottle", "window", "committee", "letter", "giraffe", "mountain", "receive",
    "coffee", "balloon", "library",
    "success", "address", "elephant", "kitchen", "February", "Wednesday", "separate", "beautiful", "tomorrow", "language",
    "engine", "puzzle", "queue", "cinnamon",
)
PHRASES = (
    "the quick brown fox", "good morning", "to be or not to be", "I like green tea", "see you on Monday",
    "the cat sat on the mat", "time flies like an arrow",
    "an apple a day keeps the doctor away", "nothing is as it seems", "we are late again", "open the door please",
    "rain in the night",
)
LISTS = ("pear, apple, fig", "milk, eggs, bread, tea", "red, blue, green", "Tom, Ana, Zoe, Ben", "desk, lamp, chair",
         "oak, elm, ash, birch, pine")
# Wording, and the tool with its argument; {w} a word, {c} one of its letters, {t} a phrase, {l} an enumeration.
WORDINGS = (
    ("How many {c}'s are in {w}?", 'count_text letter "{c}" in {w}'), ("how many {c} in {w}", 'count_text letter "{c}" in {w}'),
    ("How many times does the letter {c} appear in {w}?", 'count_text letter "{c}" in {w}'), ("How many letters are in {w}?",
    "count_text letters in {w}"),
    ("how many letters does {w} have", "count_text letters in {w}"), ("Count the vowels in {w}.", "count_text vowels in {w}"),
    ('How many words are in "{t}"?', "count_text words in {t}"), ('Count the words in "{t}".', "count_text words in {t}"),
    ("How many items are in this list: {l}", "count_text items in {l}"), ("How do you spell {w}?", "spell_text letters {w}"),
    ("Spell {w}.", "spell_text letters {w}"), ("spell the word {w}", "spell_text letters {w}"), ("Spell {w} backwards.",
    "spell_text backwards {w}"),
    ("Reverse the word {w}.", "spell_text backwards {w}"), ('Write "{t}" in capitals.', "spell_text upper {t}"),
    ('Put "{t}" in lowercase.', "spell_text lower {t}"), ("Sort these words alphabetically: {l}", "spell_text sorted {l}"),
)
NEW_WORDINGS = (
    ("How often does the letter {c} occur in {w}?", 'count_text letter "{c}" in {w}'), ("number of letters in {w}",
    "count_text letters in {w}"),
    ("Number of words in this sentence: {t}", "count_text words in {t}"), ("Can you spell {w}?", "spell_text letters {w}"),
    ("What is '{w}' backwards?", "spell_text backwards {w}"), ('Convert "{t}" to uppercase.', "spell_text upper {t}"),
    ("Arrange these alphabetically: {l}", "spell_text sorted {l}"),
)
# fmt: on


def make_spelling_examples(n: int, material: Material, rng: Random) -> list[Example]:
    """Return `n` questions with their calls; no passage is needed."""
    return [_make_example(rng, material.is_heldout and rng.random() < material.new_wording_frac) for _ in range(n)]


def _make_example(rng: Random, is_new: bool) -> Example:
    wording, asked = rng.choice(NEW_WORDINGS if is_new else WORDINGS)
    word = draw_half(WORDS, rng, is_new)
    values = {
        "w": word,
        "c": rng.choice(word.lower()),
        "t": draw_half(PHRASES, rng, is_new),
        "l": draw_half(LISTS, rng, is_new),
    }
    name, _, argument = asked.format(**values).partition(" ")
    call = ToolCall.of(name, argument)
    messages = [Message.of("user", wording.format(**values)), Message.calling(call)]
    return Example("spelling", messages, {"call": call_to_json(call)})


SPELLING = Skill(
    name="spelling_exact",
    title="Counting and spelling",
    meaning="letters, words, items; what is counted or spelled is exact to the character",
    max_drop=0.05,
    applies=lambda item: item.kind == "spelling",
    is_right=has_expected_call,
    makers=(Maker("spelling", "spelling", make_spelling_examples, cut_before_result),),
)
