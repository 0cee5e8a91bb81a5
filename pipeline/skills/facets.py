"""Skills: answer questions about a part of a name's documentation: parameters, one parameter, defaults, return values, exceptions,
examples, the signature.

In: symbols and their facets, a random generator. Out: a question in many wordings → the search `numpy.sum: returns` → the quotation
of that part. Where the documentation has no such part, the search falls back to the name's main section: the signature answers if
it contains what was asked for, else the answer abstains. Some of the questions are about parts that are missing or about a
parameter that does not exist.
"""

from __future__ import annotations

import re
from functools import partial
from random import Random

from model.grounding.answers import list_answers, parse_passages
from model.grounding.matching import split_facet
from model.tokenizer.chat import Message, call_to_json
from pipeline.skills.lookups import Asked, answer_query, call_search, make_from_symbols, make_turns
from pipeline.skills.neighbors import Subject
from pipeline.skills.skill import Example, Item, Maker, Material, Skill, cut_before_result, has_expected_call
from pipeline.skills.wordings import shorten_name

MISSING_FRAC = 0.2  # of the questions: about a part that this documentation does not have
# fmt: off
FACETS: dict[str, tuple[str, ...]] = {
    "parameters": (
        "What arguments does {x} take?", "what arguments does {x} take", "What are the parameters of {x}?",
        "parameters of {x}",
        "Which arguments does {x} accept?", "which parameters does {x} have", "{x} arguments", "{x} args", "{x} parameters",
        "{x} params", "What do I pass to {x}?", "what can I pass to {x}", "What options does {x} have?",
        "List the arguments of {x}.",
        "list all parameters of {x}", "Show me the arguments of {x}.", "arguments for {x}",
        "What does {x} expect as arguments?",
        "What inputs does {x} take?", "Which keyword arguments does {x} accept?", "{x} kwargs", "{x} options",
        "how many arguments does {x} take",
        "Tell me the parameters of {x}.", "What does {x} take?", "what parameters does {x} accept?",
        "Explain the arguments of {x}.",
        "Welche Parameter hat {x}?", "Welche Argumente nimmt {x}?", "Quels sont les paramètres de {x} ?",
        "Quels arguments prend {x} ?",
        "¿Qué parámetros tiene {x}?", "¿Qué argumentos acepta {x}?", "Quali argomenti accetta {x}?",
        "Quais são os argumentos de {x}?",
    ),
    "returns": (
        "What does {x} return?", "what does {x} return", "What is the return value of {x}?", "return value of {x}",
        "{x} returns what?",
        "What do I get back from {x}?", "What is returned by {x}?", "Which type does {x} return?", "return type of {x}",
        "{x} return type",
        "{x} returns", "{x} return value", "What comes back from {x}?", "What's the output of {x}?",
        "what is the result of {x}",
        "What kind of object does {x} return?", "does {x} return anything?", "Tell me what {x} returns.",
        "What will {x} give back?",
        "Was gibt {x} zurück?", "Que renvoie {x} ?", "Que retourne {x} ?", "¿Qué devuelve {x}?", "Cosa restituisce {x}?",
        "O que {x} retorna?",
    ),
    "raises": (
        "Which errors does {x} raise?", "what errors does {x} raise", "What exceptions does {x} raise?",
        "which exceptions can {x} throw",
        "When does {x} raise an error?", "when does {x} fail", "{x} exceptions", "{x} errors", "{x} raises",
        "What can go wrong with {x}?",
        "Does {x} raise an exception?", "What does {x} raise?", "exceptions of {x}", "which error do I get from {x}",
        "What should I catch around {x}?", "Welche Fehler wirft {x}?", "Quelles erreurs lève {x} ?",
        "¿Qué errores lanza {x}?",
    ),
    "examples": (
        "Show me an example of {x}.", "show an example of {x}", "example of {x}", "{x} example", "{x} examples",
        "Give me an example for {x}.",
        "How is {x} used? Show code.", "code example for {x}", "an example with {x}", "Can you show me how {x} is used?",
        "usage of {x}",
        "{x} usage", "{x} example code", "sample code for {x}", "Show {x} in action.", "examples for {x} please",
        "give me a snippet with {x}",
        "What does code with {x} look like?", "demo of {x}", "Zeig mir ein Beispiel für {x}.", "Ein Beispiel zu {x}?",
        "Montre-moi un exemple de {x}.", "Un exemple avec {x} ?", "Muéstrame un ejemplo de {x}.", "un ejemplo de {x}",
        "Un esempio di {x}?",
    ),
    "signature": (
        "What is the signature of {x}?", "signature of {x}", "{x} signature", "How is {x} called?", "how do I call {x}",
        "How do I call {x}?",
        "What are the defaults of {x}?", "default values of {x}", "What is the call signature of {x}?",
        "Show the signature of {x}.",
        "What does a call of {x} look like?", "{x} defaults", "which defaults does {x} have",
        "Wie ist die Signatur von {x}?",
        "Quelle est la signature de {x} ?", "¿Cuál es la firma de {x}?",
    ),
    "notes": ("Are there notes on {x}?", "notes on {x}", "{x} notes", "Any remarks about {x}?",
              "What should I be careful about with {x}?",
              "caveats of {x}", "any warnings for {x}?"),
}
NEW_FACETS: dict[str, tuple[str, ...]] = {
    "parameters": ("Which inputs can I give to {x}?", "Name the parameters {x} understands.", "args of {x}?"),
    "returns": ("What type of value does {x} return?", "So {x} returns what exactly?", "What do I get as a result of {x}?"),
    "raises": ("Could {x} raise an exception?", "Which exceptions should I expect from {x}?"),
    "examples": ("Could I see an example of {x}?", "Do you have sample code that calls {x}?"),
    "signature": ("Tell me the signature of {x}.", "What default values does {x} use?"),
    "notes": ("Anything to note about {x}?",),
}
PARAMETER = (  # p: one parameter
    "What does the {p} argument of {x} do?", "what does {p} do in {x}", "What is {p} in {x}?",
    "What is the {p} parameter of {x}?",
    "{x} {p}", "Explain the {p} argument of {x}.", "What does {p} mean in {x}?", "what is the default of {p} in {x}",
    "What is the default value of {p} in {x}?", "default {p} of {x}", "Which values can {p} have in {x}?",
    "{p} argument of {x}",
    "{p} parameter of {x}", "{p} in {x}", "What type is {p} in {x}?", "What should I pass as {p} to {x}?",
    "what is {p} for in {x}?",
    "In {x}, what is {p}?", "how does {p} work in {x}", "meaning of {p} in {x}", "When I call {x}, what does {p} do?",
    "Is {p} required in {x}?", "Was macht der Parameter {p} von {x}?", "Was bedeutet {p} in {x}?",
    "À quoi sert {p} dans {x} ?",
    "Que fait le paramètre {p} de {x} ?", "¿Para qué sirve {p} en {x}?", "¿Qué hace el parámetro {p} de {x}?",
)
NEW_PARAMETER = ("Tell me about the {p} option of {x}.", "Why would I set {p} in {x}?",
                 "What can I put into {p} when calling {x}?")
# fmt: on
SHARES = {
    "parameters": 0.2,
    "one": 0.3,
    "returns": 0.18,
    "examples": 0.14,
    "raises": 0.08,
    "signature": 0.08,
    "notes": 0.02,
}
NO_PARAMETERS = (
    "axis",
    "key",
    "timeout",
    "encoding",
    "size",
    "default",
    "verbose",
    "index",
    "strict",
    "mode",
    "sep",
    "out",
)
_PARAMETER_NAME = re.compile(r"([A-Za-z_]\w+)(?=[:.,\s(=]|$)")


def make_facet(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a question about a part of a name's documentation; None if no rule knows the answer."""
    facet = draw_facet(symbol, material, rng)
    if facet is None:
        return None
    name = shorten_name(symbol.title, rng)
    asked = ask_facet(name, facet, rng, is_new=is_new)
    result = material.search(asked.argument, asked.question)
    passages = parse_passages(result)
    answer = answer_query(asked.argument, passages)
    if answer is None or answer not in list_answers(asked.argument, result):
        return None
    expected = {"call": call_to_json(call_search(asked.argument).call), "answer": answer}  # type: ignore[arg-type]
    return Example("facet", make_turns(asked, result, answer, rng), expected)


def draw_facet(symbol: Subject, material: Material, rng: Random) -> str | None:
    """Return a facet to ask for, or the name of a parameter; mostly one that the documentation has."""
    sort = rng.choices(list(SHARES), list(SHARES.values()))[0]
    has_it = "parameters" in symbol.facets if sort == "one" else sort in (*symbol.facets, "signature")
    if not has_it and rng.random() >= MISSING_FRAC:
        return None
    if sort != "one":
        return sort
    names = list_parameters(symbol, material)
    if not names:
        return None
    return rng.choice(names) if rng.random() < 0.9 else rng.choice(NO_PARAMETERS)


def list_parameters(symbol: Subject, material: Material) -> list[str]:
    """Return the names of the parameters that the documentation of a name shows."""
    shown = parse_passages(material.search(f"{symbol.title}: parameters", ""))
    text = next((each.text for each in shown if split_facet(each.title) == (symbol.title, "parameters")), "")
    names = [match[1] for match in map(_PARAMETER_NAME.match, re.split(r'" "|^"', text)) if match]
    return [name for name in dict.fromkeys(names) if name not in FACETS]


def ask_facet(name: str, facet: str, rng: Random, *, is_new: bool = False) -> Asked:
    """Return a question about a facet, or about a parameter, of a name."""
    style = rng.random()
    typed = f"`{name}`" if style < 0.08 else f"{name}()" if style < 0.13 else name
    if facet in FACETS:
        wording = rng.choice((NEW_FACETS if is_new else FACETS)[facet])
        return Asked(wording.format(x=typed), f"{name}: {facet}")
    parameter = f"`{facet}`" if rng.random() < 0.08 else facet
    return Asked(rng.choice(NEW_PARAMETER if is_new else PARAMETER).format(x=typed, p=parameter), f"{name}: {facet}")


def _hold_out(examples: list[Example]) -> list[Example]:
    """Return each example up to the call, and half of them once more up to the answer."""
    return [*cut_before_result(examples), *examples[: (len(examples) + 1) // 2]]


def _answers_exactly(item: Item, reply: Message) -> bool:
    return reply.call is None and reply.text.strip() == item.expected["answer"]


FACET_SEARCH = Skill(
    name="facet_search_exact",
    title="Search for a part of the documentation",
    meaning="“what does X return” → `X: returns`",
    max_drop=0.06,
    applies=lambda item: item.kind == "facet" and item.is_first_turn,
    is_right=has_expected_call,
    makers=(Maker("facet", "facet", partial(make_from_symbols, make_facet), _hold_out),),
)
FACET_ANSWER = Skill(
    name="facet_answer_exact",
    title="Parameters, return values, examples quoted",
    meaning="the entry, the code or the signature verbatim; abstention where the part is missing",
    max_drop=0.09,
    applies=lambda item: item.kind == "facet" and not item.is_first_turn,
    is_right=_answers_exactly,
)
