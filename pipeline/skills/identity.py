"""Skills: answer questions about itself (who are you, what can you do) with the words that the answer must contain; ask back
where a question says nothing that could be looked up (`help`, `what does it do?` at the start).

The examples are written by hand: data/seed/chat. The system prompt may give the assistant another name.
"""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item, Skill

ASK_BACK = "ask_back"  # right at the start of a conversation only, so these never continue another one


def _contains_words(item: Item, reply: Message) -> bool:
    return reply.call is None and all(word.lower() in reply.text.lower() for word in item.expected["says"])


IDENTITY = Skill(
    name="identity_right",
    title="Knows its identity",
    meaning="its own, or the one that the system prompt assigns",
    max_drop=0.10,  # 54 items
    applies=lambda item: item.kind == "identity",
    is_right=_contains_words,
    seed_kinds=("identity",),
)
ASKING_BACK = Skill(
    name="asks_back",
    title="Asks which name is meant",
    meaning="“what does it do?” as the first question",
    max_drop=0.15,  # 22 items
    applies=lambda item: item.kind == ASK_BACK,
    is_right=_contains_words,
    seed_kinds=(ASK_BACK,),
)
