"""Wordings of questions about a name, about a task in words, and of a text given along with the question.

In: a passage and a random generator. Out: what a person might type, and the name or words that it asks for. The
wordings whose names begin with NEW are kept for evaluation.
"""

from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

from pipeline.text.passage import Passage

SYMBOL = (
    *(
        "What does {x} do?",
        "what does {x} do",
        "What is {x}?",
        "what is {x}",
        "What's {x}?",
        "Explain {x}.",
        "explain {x}",
    ),
    *(
        "What is {x} for?",
        "What does {x} mean?",
        "Tell me about {x}.",
        "tell me about {x}",
        "Describe {x}.",
        "describe {x}",
    ),
    *(
        "How do I use {x}?",
        "how do I use {x}",
        "How does {x} work?",
        "how does {x} work?",
        "How to use {x}?",
        "how to use {x}",
    ),
    *("docs for {x}", "Docs for {x}, please.", "documentation of {x}", "Show me the documentation of {x}.", "docs {x}"),
    *(
        "Look up {x}.",
        "look up {x}",
        "Look up {x} for me.",
        "Please look up {x}.",
        "Can you look up {x}?",
        "search {x}",
    ),
    *(
        "Search for {x}.",
        "Find {x} in the docs.",
        "{x}",
        "{x}?",
        "{x} docs",
        "{x} documentation",
        "help {x}",
        "help me with {x}",
    ),
    *(
        "I need help with {x}.",
        "What can I do with {x}?",
        "When do I use {x}?",
        "Why would I use {x}?",
        "Quote the docs on {x}.",
    ),
    *(
        "What do the docs say about {x}?",
        "what do the docs say about {x}",
        "What does the documentation say about {x}?",
    ),
    *("Could you explain {x} to me?", "Can you explain {x}?", "Can you tell me what {x} does?", "Do you know {x}?"),
    *("I don't understand {x}.", "I saw {x} in some code. What is it?", "Someone used {x} here, what does it do?"),
    *(
        "In one sentence, what is {x}?",
        "Give me a short description of {x}.",
        "Summarize {x}.",
        "What happens if I call {x}?",
    ),
    *("Hi, what does {x} do?", "Hello! What is {x}?", "And {x}?", "and what about {x}?", "What about {x}?", "Now {x}."),
    *(
        "Tell me what {x} does.",
        "Tell me how {x} works.",
        "Say what {x} is.",
        "Say what {x} does.",
        "Clarify {x}.",
        "Outline {x}.",
    ),
    *(
        "Introduce {x}.",
        "Characterize {x}.",
        "Interpret {x}.",
        "Check {x}.",
        "Show me {x}.",
        "Let me see {x}.",
        "Open {x}.",
    ),
    *(
        "I want to know what {x} does.",
        "I want to use {x}.",
        "I would like to learn about {x}.",
        "I'm looking for {x}.",
    ),
    *(
        "Could you find {x}?",
        "Could you show me {x}?",
        "Could you describe {x}?",
        "So what is {x}?",
        "So how does {x} work?",
    ),
    *(
        "What exactly is {x}?",
        "What exactly does {x} do?",
        "what's {x} good for?",
        "Give me the docs of {x}.",
        "Which thing is {x}?",
    ),
    *("my code calls {x}, what does that do?", "Is there documentation on {x}?", "Which purpose does {x} have?"),
)
NEW_SYMBOL = (
    *("Tell me what {x} is.", "So what does {x} do exactly?", "Could you look up {x}?", "I want to understand {x}."),
    *("what's the purpose of {x}?", "Define {x}.", "Say something about {x}.", "Which docs exist for {x}?"),
)
TITLE = (
    *(
        "What does {x} say?",
        "what does {x} say",
        "How does {x} begin?",
        "Quote {x}.",
        "quote {x}",
        "Look up {x}.",
        "look up {x}",
    ),
    *(
        "What stands in {x}?",
        "Show me {x}.",
        "Read me {x}.",
        "search {x}",
        "{x}",
        "What is written in {x}?",
        "Find {x}.",
    ),
    *("Tell me how {x} starts.", "Please look up {x}.", "Give me the first sentence of {x}.", "And {x}?"),
)
NEW_TITLE = ("What is the beginning of {x}?", "Please quote {x}.", "Could you look up {x}?")
WORDS = (
    *(
        "How do I {x}?",
        "how do I {x}",
        "How can I {x}?",
        "how to {x}",
        "How to {x}?",
        "how can I {x}?",
        "I want to {x}.",
    ),
    *("Is there a function to {x}?", "Which function lets me {x}?", "What can I use to {x}?", "I need to {x}."),
    *("How would I {x}?", "Can you tell me how to {x}?", "Find me something to {x}.", "What is the way to {x}?"),
)
NEW_WORDS = ("What lets me {x}?", "Please tell me how to {x}.", "How does one {x}?")
WITH_TEXT = (
    *(
        "{text}\n\n{question}",
        "{question}\n\n{text}",
        "Context:\n{text}\n\nQuestion: {question}",
        "Here is a text:\n{text}\n\n{question}",
    ),
    *("Answer from this:\n{text}\n\n{question}", "{question} Use this:\n{text}", "Documentation:\n{text}\n{question}"),
    *("I found this:\n{text}\n\n{question}", "{question}\nContext: {text}"),
)
ALIASES = {
    "numpy": "np",
    "pandas": "pd",
    "polars": "pl",
    "networkx": "nx",
    "sympy": "sp",
    "sqlalchemy": "sa",
    "pyarrow": "pa",
    "matplotlib.pyplot": "plt",
    "torch.nn.functional": "F",
    "tkinter": "tk",
    "matplotlib": "mpl",
}
_VERBS = frozenset(
    re.findall(
        r"\w+",
        "add append apply assign bind build calculate call cast change check clear close collect combine "
        "compare compile compute concatenate configure construct convert copy count create decode delete "
        "detect determine disable display download draw drop dump emit enable encode evaluate execute expand "
        "extract fetch fill filter find fit flatten format generate get group initialize insert install "
        "invert iterate join launch list load log look lock make map mark match measure merge modify move "
        "normalize open parse perform plot predict print process produce put query read rebuild record reduce "
        "register release remove rename render replace represent request reset resolve restore retrieve "
        "return reverse rotate round run sample save scale search select send serialize set show shift "
        "shuffle sort split start stop store strip sum swap switch test transform translate transpose "
        "truncate unpack update upload validate verify wait warn wrap write",
    )
)
_FIRST_WORD = re.compile(r"([A-Z][a-z]+) [a-z]")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ,'-]*")
_TAIL_PHRASE = re.compile(
    r",? (?:along|with|for|using|from|in|on|by|as|if|when|that|which|so|after|before|and return) .*"
)
_RECOGNISABLE = re.compile(r"\w*(_|[a-z][A-Z])\w*")


class Asked(NamedTuple):
    """`question` as typed; `name` is what has to be looked up."""

    question: str
    name: str


def ask(passage: Passage, rng: Random, *, is_new: bool = False) -> Asked:
    """A question about a passage's title, or about a part of the title that people write for it."""
    if not passage.is_symbol:
        wording = rng.choice(NEW_TITLE if is_new else TITLE)
        return Asked(wording.format(x=passage.title), passage.title)
    name = short_name(passage.title, rng)
    return ask_name(name, rng, is_new=is_new, is_called=passage.text.startswith(name.rpartition(".")[2] + "("))


def ask_name(name: str, rng: Random, *, is_new: bool = False, is_called: bool = False) -> Asked:
    dress = rng.random()
    typed = (
        f"`{name}`"
        if dress < 0.1
        else f"'{name}'"
        if dress < 0.14
        else f"{name}()"
        if is_called and dress < 0.24
        else name
    )
    return Asked(rng.choice(NEW_SYMBOL if is_new else SYMBOL).format(x=typed), name)


def short_name(title: str, rng: Random) -> str:
    """Mostly the title; else an alias of its package, its last two names, or its last name if that can't be mistaken for a word."""
    chance = rng.random()
    module = next((prefix for prefix in sorted(ALIASES, key=len, reverse=True) if title.startswith(prefix + ".")), "")
    parts = title.split(".")
    if chance < 0.08 and module:
        return ALIASES[module] + title[len(module) :]
    if 0.08 <= chance < 0.2 and len(parts) > 2:
        return ".".join(parts[-2:])
    if 0.2 <= chance < 0.26 and len(parts) > 1 and _RECOGNISABLE.fullmatch(parts[-1]):
        return parts[-1]
    return title


def is_about(title: str, name: str) -> bool:
    """Whether a passage of this title answers a question about `name`."""
    if title == name or title.endswith("." + name):
        return True
    head, _, tail = name.partition(".")
    return bool(tail) and any(alias == head and title == f"{module}.{tail}" for module, alias in ALIASES.items())


def task_words(sentence: str, rng: Random) -> str | None:
    """`Compute the norm of a matrix, along …` → `compute the norm of a matrix`; None for a sentence that is no such task."""
    match = _FIRST_WORD.match(sentence)
    if match is None or not _PLAIN.fullmatch(sentence.rstrip(".")):
        return None
    verb = match[1].lower()
    stem = next((form for form in (verb, verb.removesuffix("s"), verb.removesuffix("es")) if form in _VERBS), None)
    if stem is None:
        return None
    rest = sentence[len(verb) :].rstrip(".")
    if rng.random() < 0.5:
        rest = _TAIL_PHRASE.sub("", rest, count=1)
    phrase = ("get" if stem == "return" else stem) + rest
    return phrase if 3 <= len(phrase.split()) <= 11 else None


def ask_words(words: str, rng: Random, *, is_new: bool = False) -> Asked:
    return Asked(rng.choice(NEW_WORDS if is_new else WORDS).format(x=words), words)


def with_text(question: str, text: str, rng: Random) -> str:
    return rng.choice(WITH_TEXT).format(text=text, question=question)
