"""Make conversations from the index and hand-written seeds: chat data to tune on and to evaluate with.

In: the index, what searches it, the split of the stage shard, the tokenizer, data/seed; the conversations of `sources` below
data/chats (docs/chats.md) and of data/feedback (docs/feedback.md), and the evaluation sets that these must not contain. Out:
train.parquet and heldout.parquet (messages as JSON, source, license), rejects.parquet. What a question finds is what the
assistant's search returns. Documents of the val split are held out: their names occur in no training conversation. A held-out
row ends with the reply to score or, where many replies are right, before it. Memory: the titles of the index in each process; 1
kB per conversation made by program, 200 bytes per one of data/chats, which are sorted on disk. Time: O(conversations).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path

from model.tokenizer.chat import format_content
from pipeline.conversations.chat_screen import ChatScreen, CountTokens, Evaluated, index_turns
from pipeline.conversations.chats import SourceChat, find_source_files, read_chat_file, read_sources
from pipeline.conversations.intake import KIND, Intake, write_heldout, write_train
from pipeline.conversations.material import Folders, MakerRun, make_all, read_materials
from pipeline.conversations.mixture import (
    drop_examples_with_names,
    drop_examples_with_prompts,
    hold_out_examples,
    join_short_conversations,
    mix_train_examples,
)
from pipeline.conversations.params import FEEDBACK, ChatSource, Conversations
from pipeline.conversations.seeds import read_seeds
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.screening.evaluation_sets import read_leaks
from pipeline.screening.feedback import CHATS, LICENSE, find_feedback_file
from pipeline.screening.license_policy import ALLOWED, judge_license, make_license_policy
from pipeline.skills import MAKERS
from pipeline.skills.skill import Example
from pipeline.storage.files import find_texts
from pipeline.storage.lines import read_json_list
from pipeline.storage.tables import HELDOUT, TableWriter
from pipeline.text.encode import make_fast_encoder

TokenCounter = Callable[[Sequence[Example]], list[int]]


def run(
    params: Conversations,
    *,
    index: Path,
    embed: Path,
    shards: Path,
    tokenizer: Path,
    seeds: Path,
    questions: Path,
    chats: Path,
    sets: Path,
    turns: Path,
    feedback: Path | None = None,
    out: Path,
) -> Metrics:
    """Write all files. Raises `UserError` for an index that can't be searched, a broken seed, or a file that can't be used."""
    check_sources(params, chats)
    count_tokens = make_token_counter((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    written = read_seeds(seeds)
    folders, seed = Folders(index, embed, shards, questions), params.seed
    materials = read_materials(folders)
    n_examples = count_examples(params)
    runs = [MakerRun(name, n, False) for name, n in n_examples.items()]
    tests = [MakerRun(name, params.n_heldout, True) for name in n_examples]
    made = make_all(folders, [*runs, *tests], seed)

    examples = mix_train_examples(
        [made[run] for run in runs], params.n_seed_repeats, written, system_frac=params.system_frac, seed=seed
    )
    heldout = hold_out_examples({run.maker: made[run] for run in tests}, written, seed=seed)
    unnamed = drop_examples_with_names(examples, materials.heldout_names)
    clean = drop_examples_with_prompts(unnamed, heldout)
    fitting = _drop_long(clean, params.max_tokens, count_tokens)
    rows = join_short_conversations(fitting, count_tokens(fitting), params.max_tokens, params.joined_frac, seed=seed)

    fitting_heldout = _drop_long(heldout, params.max_tokens, count_tokens)
    with TableWriter(out / "heldout.parquet", HELDOUT) as table:
        write_heldout(table, fitting_heldout)
        intake = Intake(out, table, len(fitting_heldout), seed)
        given = make_feedback_source(feedback, params.feedback_weight)
        sources = [*params.sources, *([given] if given else [])]
        items = [*list_typed_turns(turns), *list_heldout_turns(fitting_heldout)] if sources else []
        screen = make_screen(params, count_tokens, materials.heldout_names, sets, items)
        intake.take_all(
            chain(read_sources(chats, params.sources, screen), read_feedback(feedback, given, screen)), sources
        )
    n_rows = write_train(out / "train.parquet", rows, intake)
    metrics: Metrics = {
        "n_names_train": len(materials.train.symbols) + len(materials.train.texts),
        "n_names_heldout": len(materials.heldout.symbols) + len(materials.heldout.texts),
        "n_train": n_rows,
        "n_train_tokens": sum(count_tokens(rows)) + intake.n_tokens,
        "n_train_joined": len(fitting) - len(rows),
        "n_train_not_made": sum(n_examples.values()) - sum(len(made[run]) for run in runs),
        "n_train_named_heldout": len(examples) - len(unnamed),
        "n_train_same_prompt": len(unnamed) - len(clean),
        "n_train_too_long": len(clean) - len(fitting),
        "n_heldout": len(fitting_heldout) + intake.counts["n_chats_heldout"],
        "n_heldout_too_long": len(heldout) - len(fitting_heldout),
    }
    kinds = _count_kinds("n_train", fitting, intake.counts["n_chat_rows"])
    kinds |= _count_kinds("n_heldout", fitting_heldout, intake.counts["n_chats_heldout"])
    return metrics | kinds | intake.make_metrics()


def make_feedback_source(folder: Path | None, weight: float) -> ChatSource | None:
    """Return the source of what people said about answers; None if there is nothing."""
    if find_feedback_file(folder, CHATS) is None:
        return None
    return ChatSource(name=FEEDBACK, path=CHATS, license=LICENSE, format="messages", ignore=["feedback"], weight=weight)


def read_feedback(folder: Path | None, source: ChatSource | None, screen: ChatScreen) -> Iterator[SourceChat]:
    """Yield the corrected conversations and rejects. Who gave them has consented: their license needs no permission."""
    if folder is not None and source is not None:
        yield from read_chat_file(folder / CHATS, f"{FEEDBACK}/{CHATS}", source, screen.without_policy())


def check_sources(params: Conversations, chats: Path) -> None:
    """Raise `UserError` for a source whose license is not permitted or whose files are not there, before anything is made."""
    find_source_files(chats, params.sources)
    for number, source in enumerate(params.sources):
        assert params.licenses is not None
        if judge_license(source.license, make_license_policy(params.licenses)) != ALLOWED:
            raise UserError(
                f"conversations.sources.{number}.license: not permitted",
                repr(source.license),
                "list it in conversations.licenses, or remove the source",
            )


def make_screen(
    params: Conversations,
    count_tokens: TokenCounter,
    names: Collection[str],
    sets: Path,
    items: Sequence[tuple[str, str]],
) -> ChatScreen:
    """Return what judges the conversations of sources; `items` are (label, text) of turns that are evaluated on."""
    policy = make_license_policy(params.licenses) if params.licenses else None
    evaluated = [index_turns(items, "turns")]
    if params.decontamination:
        leaks = read_leaks(params.decontamination, sets, "conversations.decontamination")
        evaluated.append(Evaluated(leaks, params.decontamination.max_overlap_ngrams))
    return ChatScreen(
        policy=policy,
        count_tokens=count_message_tokens(count_tokens),
        max_tokens=params.max_tokens,
        names=names,
        evaluated=[each for each in evaluated if each],
    )


def list_typed_turns(folder: Path) -> list[tuple[str, str]]:
    """Return (label, text) of every turn of the users' set."""
    return [
        (f"turns:{path.name}#{number}", text)
        for path in sorted(folder.glob("*.jsonl"))
        for number, row in read_json_list(path)
        for field in ("user", "turns.user")
        for text in find_texts(row, field.split("."))
    ]


def list_heldout_turns(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Return (label, text) of what the user says in held-out conversations."""
    return [
        (f"heldout#{number}", message.text)
        for number, example in enumerate(examples)
        for message in example.messages
        if message.role == "user"
    ]


def count_examples(params: Conversations) -> dict[str, int]:
    """Return the number of training examples by name of the maker.

    It is `conversations.n_<kind>`, or the maker's own number where there is no such setting, split evenly over the
    makers of the kind. Raises `ValueError` for a maker that has neither.
    """
    counts: dict[str, int] = {}
    for maker in MAKERS:
        n = getattr(params, f"n_{maker.kind}", maker.n_examples)
        if n is None:
            raise ValueError(f"maker {maker.name!r}: n_examples must be set, or conversations.n_{maker.kind} exist")
        names = [other.name for other in MAKERS if other.kind == maker.kind]
        counts[maker.name] = n // len(names) + (names.index(maker.name) < n % len(names))
    return counts


def _count_kinds(name: str, examples: Sequence[Example], n_chats: int) -> Metrics:
    """Count the examples by kind; the conversations of sources are of the kind `chat`."""
    counts = Counter(example.kind for example in examples)
    counts[KIND] += n_chats
    return {f"{name}_{kind}": n for kind, n in sorted(counts.items()) if n}


def make_token_counter(tokenizer_json: str) -> TokenCounter:
    """Return a function that counts the tokens of examples, as many as model.tokenizer.chat.render returns."""
    encode = make_fast_encoder(tokenizer_json)

    def count(examples: Sequence[Example]) -> list[int]:
        messages = [message for example in examples for message in example.messages]
        lengths = iter(encode([format_content(message) for message in messages])[1].tolist() if messages else [])
        sizes = iter(
            [length + 2 + (message.call is not None) for length, message in zip(lengths, messages, strict=True)]
        )
        return [1 + sum(next(sizes) for _ in example.messages) for example in examples]

    return count


def count_message_tokens(count_tokens: TokenCounter) -> CountTokens:
    """Return the same function for lists of messages."""
    return lambda texts: count_tokens([Example(KIND, list(messages), {}) for messages in texts])


def _drop_long(examples: Sequence[Example], max_tokens: int, count_tokens: TokenCounter) -> list[Example]:
    return [example for example, size in zip(examples, count_tokens(examples), strict=True) if size <= max_tokens]
