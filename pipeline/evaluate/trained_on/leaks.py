"""Find evaluation items that the model was trained on: their prompts occur, message by message, in a training conversation.

In: prompts by id, and training conversations, both as JSON messages. Out: the ids of those that leaked. A prompt leaked if its
messages (roles, texts, calls; system prompts aside) are consecutive messages of a training conversation and something follows
them there, which is then what the model learned to reply; short ones occur by chance too ("Thank you!"), so the share matters.

Covers: data that were trained on word for word, at any position of a conversation. Does not cover: paraphrases, and training data
that the stage was not given (a base that somebody else has trained). Time: 0.3 s for 30,000 conversations and 3,000 prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.storage.tables import read_table

Turn = tuple[str, str, str]  # role, text, call


def find_leaked(
    prompts: Mapping[str, Sequence[Mapping[str, Any]]], conversations: Iterable[Sequence[Mapping[str, Any]]]
) -> set[str]:
    """Return the ids of the prompts that the conversations contain with a reply."""
    wanted: dict[tuple[Turn, ...], list[str]] = {}
    for id_, messages in prompts.items():
        if turns := _list_turns(messages):
            wanted.setdefault(tuple(turns), []).append(id_)
    lengths_by_first: dict[Turn, set[int]] = {}
    for turns in wanted:
        lengths_by_first.setdefault(turns[0], set()).add(len(turns))
    leaked: set[str] = set()
    for messages in conversations:
        turns = _list_turns(messages)
        for start, turn in enumerate(turns):
            for length in lengths_by_first.get(turn, ()):
                if start + length < len(turns):
                    leaked.update(wanted.get(tuple(turns[start : start + length]), ()))
    return leaked


def read_training_conversations(conversations: Path) -> Iterable[list[dict[str, Any]]]:
    """Yield the messages of each training conversation of the stage conversations."""
    for text in read_table(conversations / "train.parquet", ["messages"]).column("messages").to_pylist():
        yield json.loads(text)


def _list_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    return [
        (message["role"], message.get("content") or "", json.dumps(message.get("call"), sort_keys=True))
        for message in messages
        if message["role"] != "system"
    ]
