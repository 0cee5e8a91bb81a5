"""Skills: the right reply is right, near misses are wrong, each item counts where it should; a new skill needs one file."""

from __future__ import annotations

import importlib
from pathlib import Path
from random import Random

import pytest

from model.grounding.answers import format_abstention, format_quote
from model.tokenizer.chat import Message, ToolCall, call_from_json
from pipeline.conversations.params import Conversations
from pipeline.conversations.stage import count_examples
from pipeline.skills import MAKERS, SEED_KINDS, SKILLS
from pipeline.skills.calculator import CALCULATOR
from pipeline.skills.identity import IDENTITY
from pipeline.skills.quote import ABSTENTION, QUOTE
from pipeline.skills.refusal import REFUSAL, REFUSAL_NOT_OVERDONE
from pipeline.skills.skill import Example, Item, Maker, Material, Skill
from pipeline.skills.tool_choice import TOOL_CHOICE
from tests.conftest import ROOT

PARAMS = Conversations(
    seed=1,
    max_tokens=100,
    n_quote=5,
    n_abstain=4,
    n_facet=3,
    n_comparison=3,
    n_followup=3,
    n_task=3,
    n_question=3,
    n_search=3,
    n_calculator=2,
    n_units=2,
    n_dates=2,
    n_seed_repeats=1,
    joined_frac=0.0,
    system_frac=0.0,
    n_heldout=1,
)
USER = [Message.of("user", "What is 1 + 2?")]
CALL = {"name": "calculator", "argument": "1 + 2"}
TOOL = [*USER, Message.calling(call_from_json(CALL)), Message.result("3")]


def reply(text: str) -> Message:
    return Message.of("assistant", text)


def call_calculator(argument: str = "1 + 2") -> Message:
    return Message.calling(ToolCall.of("calculator", argument))


def make_item(kind: str, prompt: list[Message] = USER, **expected: object) -> Item:
    return Item("1", kind, prompt, expected)


def test_a_call_needs_the_tool_and_the_argument() -> None:
    wanted = make_item("calculator", call=CALL)
    assert CALCULATOR.is_right(wanted, call_calculator())
    assert not CALCULATOR.is_right(wanted, call_calculator("1 +  2"))
    assert not CALCULATOR.is_right(wanted, reply("3"))
    assert TOOL_CHOICE.is_right(wanted, call_calculator("nonsense"))
    assert TOOL_CHOICE.is_right(make_item("chat", call=None), reply("hi"))
    assert not TOOL_CHOICE.is_right(make_item("chat", call=None), call_calculator())


def test_quotes_need_the_sentence_and_the_source() -> None:
    wanted = make_item("quote", TOOL, quote="A norm.", source="a.norm", symbol="norm")
    assert QUOTE.is_right(wanted, reply(format_quote("norm", "A norm.", "a.norm")))
    assert not QUOTE.is_right(wanted, reply(format_quote("norm", "A norm.", "b.norm")))
    assert not QUOTE.is_right(wanted, reply(format_quote("norm", "A norm", "a.norm")))
    assert not QUOTE.is_right(wanted, call_calculator())


def test_abstentions_refusals_and_identity_need_their_words() -> None:
    wanted = make_item("abstain", TOOL, symbol="a.norm")
    assert ABSTENTION.is_right(wanted, reply(format_abstention("a.norm")))
    assert not ABSTENTION.is_right(wanted, reply(format_abstention("a.sum")))
    assert not ABSTENTION.is_right(wanted, reply(format_quote("a.norm", "x", "y")))
    no = reply("I can't help with that.")
    assert REFUSAL.is_right(make_item("refusal"), no)
    assert not REFUSAL_NOT_OVERDONE.is_right(make_item("harmless"), no)
    assert REFUSAL_NOT_OVERDONE.is_right(make_item("harmless"), call_calculator())
    assert not REFUSAL_NOT_OVERDONE.is_right(make_item("harmless"), reply(" "))
    assert IDENTITY.is_right(make_item("identity", says=["Ada"]), reply("I am ada."))
    assert not IDENTITY.is_right(make_item("identity", says=["Ada"]), reply("I am MiniGPT."))


def test_each_item_counts_where_it_should() -> None:
    def count_for(one: Item) -> set[str]:
        return {skill.name for skill in SKILLS if skill.applies(one)}

    assert count_for(make_item("calculator", call=CALL)) == {"tool_chosen", "calculator_exact"}
    assert count_for(make_item("calculator", TOOL, answer="1 + 2 = 3")) == {"calculator_answer_exact"}
    assert count_for(make_item("search", call=CALL)) == {"tool_chosen", "search_exact"}
    for kind in ("task", "question"):
        assert count_for(make_item(kind, call=CALL)) == {"tool_chosen", "search_words_exact"}
        assert count_for(make_item(kind, TOOL, sources=[])) == {"words_answer_right"}
    assert count_for(make_item("facet", call=CALL)) == {"tool_chosen", "facet_search_exact"}
    assert count_for(make_item("facet", TOOL, answer="")) == {"facet_answer_exact"}
    assert count_for(make_item("comparison", call=CALL)) == {"tool_chosen", "comparison_exact"}
    assert count_for(make_item("comparison", TOOL, answer="")) == {"comparison_exact"}
    assert count_for(make_item("followup", call=CALL)) == {"tool_chosen", "followup_exact"}
    assert count_for(make_item("units", call=CALL)) == {"tool_chosen", "units_exact"}
    assert count_for(make_item("dates", call=CALL)) == {"tool_chosen", "dates_exact"}
    assert count_for(make_item("out_of_scope", call=None)) == {"tool_chosen", "out_of_scope_right"}
    assert count_for(make_item("ask_back", call=None)) == {"tool_chosen", "asks_back"}
    assert count_for(make_item("quote", TOOL)) == {"quote_exact"}
    assert count_for(make_item("quote", call=CALL)) == {"quote_exact", "tool_chosen"}
    assert count_for(make_item("harmless")) == {"refusal_not_overdone"}
    assert count_for(make_item("refusal", call=None)) == {"tool_chosen", "refusal_right"}
    assert count_for(make_item("identity", call=None)) == {"tool_chosen", "identity_right"}
    assert count_for(make_item("unsafe", call=None)) == {"tool_chosen", "unsafe_refused"}
    assert count_for(make_item("lookalike")) == {"lookalike_answered"}
    assert count_for(make_item("extraction", call=None, answer="")) == {"tool_chosen", "extraction_exact"}
    assert count_for(make_item("spelling", call=CALL)) == {"tool_chosen", "spelling_exact"}
    assert count_for(make_item("chat", call=None)) == {"tool_chosen"}


def test_names_titles_and_tolerances_are_set_and_unique() -> None:
    for values in (
        [skill.name for skill in SKILLS],
        [skill.title for skill in SKILLS],
        [maker.name for maker in MAKERS],
    ):
        assert all(values)
        assert len(set(values)) == len(values)
    assert all(0 < skill.max_drop < 0.5 for skill in SKILLS)
    assert set(SEED_KINDS) == {"identity", "ask_back", "refusal", "harmless", "out_of_scope", "chat"}
    assert not set(SEED_KINDS) & {maker.kind for maker in MAKERS}


def test_every_file_of_the_room_that_defines_a_skill_is_listed() -> None:
    defined = {
        id(value)
        for path in (ROOT / "pipeline" / "skills").rglob("[a-z]*.py")
        for value in vars(importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))).values()
        if isinstance(value, Skill)
    }
    assert defined == {id(skill) for skill in SKILLS}


def test_the_examples_of_a_kind_are_split_over_its_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.conversations import stage

    again = Maker("search again", "search", lambda _n, _material, _rng: [])
    monkeypatch.setattr(stage, "MAKERS", (*MAKERS, again))
    for n, expected in ((0, (0, 0)), (7, (4, 3)), (8, (4, 4))):
        counts = count_examples(PARAMS.model_copy(update={"n_search": n}))
        assert (counts["search"], counts["search again"]) == expected
        assert (counts["quote"], counts["abstain"], counts["calculator"]) == (5, 4, 2)


def test_a_new_skill_needs_its_file_and_its_line_only(monkeypatch: pytest.MonkeyPatch, nothing: Material) -> None:
    """A made-up skill in the list: its examples are made, its items held out and scored, its number is its own."""
    from pipeline.conversations import material, mixture, stage
    from pipeline.evaluate.tasks import skill_items

    def make_greetings(n: int, material: Material, _rng: Random) -> list[Example]:
        word = "hello" if material.is_heldout else "hi"
        return [Example("greeting", [Message.of("user", word), reply("welcome")], {"call": None})] * n

    maker = Maker("greeting", "greeting", make_greetings, n_examples=3)
    greeting = Skill(
        "greeting_right",
        "Greets",
        "politely",
        0.1,
        applies=lambda item: item.kind == "greeting",
        is_right=lambda _item, reply: reply.text == "welcome",
        makers=(maker,),
    )
    for module in (mixture, stage, material):
        monkeypatch.setattr(module, "MAKERS", (*MAKERS, maker))
    monkeypatch.setattr(skill_items, "SKILLS", (*SKILLS, greeting))
    materials = material.Materials(nothing, nothing._replace(is_heldout=True), frozenset(), {})
    monkeypatch.setattr(material, "read_materials", lambda _folders: materials)
    folders, seeds = material.Folders(*[Path()] * 4), mixture.Seeds([], [], [])
    counts = stage.count_examples(PARAMS)
    train = material.make_examples(folders, 1, material.MakerRun("greeting", counts["greeting"], is_heldout=False))
    assert len(mixture.mix_train_examples([train], 1, seeds, system_frac=0.0, seed=1)) == counts["greeting"] == 3
    tests = {maker.name: list[Example]() for maker in mixture.MAKERS}
    tests["greeting"] = material.make_examples(folders, 1, material.MakerRun("greeting", 2, is_heldout=True))
    heldout = mixture.hold_out_examples(tests, seeds, seed=1)
    items = [Item(str(n), e.kind, e.messages[:-1], e.expected) for n, e in enumerate(heldout) if e.kind == "greeting"]
    scores = skill_items.score_items(items, [reply("welcome"), reply("what?")])
    assert [score.score for score in scores if score.metric == "greeting_right_frac"] == [1.0, 0.0]


def test_a_maker_without_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.conversations import stage

    monkeypatch.setattr(stage, "MAKERS", (Maker("greeting", "greeting", lambda _n, _material, _rng: []),))
    with pytest.raises(ValueError, match=r"conversations\.n_greeting"):
        stage.count_examples(PARAMS)
