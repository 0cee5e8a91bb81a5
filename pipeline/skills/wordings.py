"""Wordings of questions about a name, in English and other languages, shared by the skills that look names up.

In: a title and a random generator. Out: the question as a user might type it, and the name to look up. Wordings in tuples
whose names start with NEW are reserved for evaluation.
"""

from __future__ import annotations

import re
from random import Random

from model.grounding.arguments import extract_content_words
from model.grounding.matching import ALIASES
from pipeline.skills.lookups import Asked

# fmt: off
SYMBOL = (
    "What does {x} do?", "what does {x} do", "What is {x}?", "what is {x}", "What's {x}?", "Explain {x}.",
    "explain {x}", "What is {x} for?", "What does {x} mean?", "Tell me about {x}.", "tell me about {x}",
    "Describe {x}.", "describe {x}", "How do I use {x}?", "how do I use {x}", "How does {x} work?",
    "how does {x} work?", "How to use {x}?", "how to use {x}", "docs for {x}", "Docs for {x}, please.",
    "documentation of {x}", "Show me the documentation of {x}.", "docs {x}", "Look up {x}.", "look up {x}",
    "Look up {x} for me.", "Please look up {x}.", "Can you look up {x}?", "search {x}", "Search for {x}.",
    "Find {x} in the docs.", "{x}", "{x}?", "{x} docs", "{x} documentation", "help {x}", "help me with {x}",
    "I need help with {x}.", "What can I do with {x}?", "When do I use {x}?", "Why would I use {x}?",
    "Quote the docs on {x}.", "What do the docs say about {x}?", "what do the docs say about {x}",
    "What does the documentation say about {x}?", "Could you explain {x} to me?", "Can you explain {x}?",
    "Can you tell me what {x} does?", "Do you know {x}?", "I don't understand {x}.",
    "I saw {x} in some code. What is it?", "Someone used {x} here, what does it do?", "In one sentence, what is {x}?",
    "Give me a short description of {x}.", "Summarize {x}.", "What happens if I call {x}?", "Hi, what does {x} do?",
    "Hello! What is {x}?", "And {x}?", "and what about {x}?", "What about {x}?", "Now {x}.", "Tell me what {x} does.",
    "Tell me how {x} works.", "Say what {x} is.", "Say what {x} does.", "Clarify {x}.", "Outline {x}.",
    "Introduce {x}.", "Characterize {x}.", "Interpret {x}.", "Check {x}.", "Show me {x}.", "Let me see {x}.",
    "Open {x}.", "I want to know what {x} does.", "I want to use {x}.", "I would like to learn about {x}.",
    "I'm looking for {x}.", "Could you find {x}?", "Could you show me {x}?", "Could you describe {x}?",
    "So what is {x}?", "So how does {x} work?", "What exactly is {x}?", "What exactly does {x} do?",
    "what's {x} good for?", "Give me the docs of {x}.", "Which thing is {x}?",
    "my code calls {x}, what does that do?", "Is there documentation on {x}?", "Which purpose does {x} have?",
    "{x}???", "{x}!", "wtf is {x}", "whats {x}", "what is {x} used for", "tell me {x}", "explain {x} pls", "{x} meaning",
    "what happens in {x}", "any idea what {x} is?", "ok, {x}", "I keep seeing {x}. What's that?", "read me the docs of {x}",
    "Was macht {x}?", "Was ist {x}?", "was macht {x}", "Erkläre mir {x}.", "Wozu dient {x}?", "Wofür ist {x} gut?",
    "Que fait {x} ?", "Qu'est-ce que {x} ?", "que fait {x}", "Explique-moi {x}.", "À quoi sert {x} ?",
    "¿Qué hace {x}?", "¿Qué es {x}?", "que hace {x}", "Explícame {x}.", "¿Para qué sirve {x}?",
    "Cosa fa {x}?", "Che cos'è {x}?", "A cosa serve {x}?", "O que faz {x}?", "O que é {x}?", "Para que serve {x}?",
    "Wat doet {x}?", "Wat is {x}?", "Vad gör {x}?", "Co robi {x}?", "{x} ne işe yarar?", "Что делает {x}?", "{x}とは何ですか",
    "{x} 是什么？",
)
NEW_SYMBOL = (
    "Tell me what {x} is.", "So what does {x} do exactly?", "Could you look up {x}?", "I want to understand {x}.",
    "what's the purpose of {x}?", "Define {x}.", "Say something about {x}.", "Which docs exist for {x}?",
    "Kannst du mir {x} erklären?", "Pouvez-vous expliquer {x} ?", "¿Me explicas {x}?",
)
TITLE = (  # words that a search in words leaves out
    "What does {x} say?", "what does {x} say", "Show me {x}.", "show {x}", "{x}", "{x}?", "Find {x}.",
    "Tell me about {x}.", "And {x}?",
    "What about {x}?", "What is in {x}?", "I want to see {x}.", "I'm looking for {x}.", "Can you find {x}?",
    "Let me see {x}.",
)
NEW_TITLE = ("Could you show me {x}?", "Please find {x}.", "What would {x} say?")
# fmt: on
VARIABLES = (
    "df",
    "arr",
    "s",
    "x",
    "ax",
    "fig",
    "model",
    "tensor",
    "obj",
    "p",
    "lst",
    "text",
    "result",
    "my_list",
    "session",
)
_DISTINCTIVE = re.compile(r"\w*(_|[a-z][A-Z])\w*")


def ask_title(title: str, rng: Random, *, is_new: bool = False) -> Asked:
    """Return a question about a text of prose, which is searched for in words."""
    question = rng.choice(NEW_TITLE if is_new else TITLE).format(x=title)
    return Asked(question, extract_content_words(question))


def ask_name(name: str, rng: Random, *, is_new: bool = False) -> Asked:
    """Return a question about a name: typed plainly, in quotation marks, or as a call."""
    style = rng.random()
    typed = name
    if style < 0.1:
        typed = f"`{name}`"
    elif style < 0.14:
        typed = f"'{name}'"
    elif style < 0.2:
        typed = f"{name}()"
    return Asked(rng.choice(NEW_SYMBOL if is_new else SYMBOL).format(x=typed), name)


def ask_spoken(title: str, rng: Random, *, is_new: bool = False) -> Asked:
    """Return a question about `numpy sum`, which means numpy.sum; `title` has two parts."""
    return Asked(rng.choice(NEW_SYMBOL if is_new else SYMBOL).format(x=title.replace(".", " ")), title)


def type_member(title: str, rng: Random) -> str:
    """Return a method of a class as people type it in code: of a variable, `df.head` for pandas.DataFrame.head."""
    return f"{rng.choice(VARIABLES)}.{title.rpartition('.')[2]}"


def is_method(title: str) -> bool:
    """Return whether the part before the last is a class, by its capital."""
    return re.search(r"(?:^|\.)[A-Z]\w*\.[a-z]\w*$", title) is not None


def shorten_name(title: str, rng: Random) -> str:
    """Return the title in most cases; else with its package's alias, its last two names, or its last name alone if that
    can't be mistaken for a word."""
    chance = rng.random()
    module = next((prefix for prefix in sorted(ALIASES, key=len, reverse=True) if title.startswith(prefix + ".")), "")
    parts = title.split(".")
    if chance < 0.08 and module:
        return ALIASES[module] + title[len(module) :]
    if 0.08 <= chance < 0.2 and len(parts) > 2:
        return ".".join(parts[-2:])
    if 0.2 <= chance < 0.26 and len(parts) > 1 and _DISTINCTIVE.fullmatch(parts[-1]):
        return parts[-1]
    return title
