"""Make conversations from the index and hand-written seeds: chat data to tune on and to evaluate with.

In: the index, what searches it, the split of the stage shard, the tokenizer, data/seed. Out: train.parquet and heldout.parquet
(messages as JSON). What a question finds is what the assistant's search returns. Documents of the val split are held out: their
names occur in no training conversation. A held-out row ends with the reply to score or, where many replies are right, before
it. Memory: the titles of the index in each process, about 1 kB per conversation. Time: O(conversations).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa

from model.tokenizer.chat import format_content, messages_to_json
from pipeline.conversations.material import Folders, MakerRun, make_all, read_materials
from pipeline.conversations.mixture import (
    Seeds,
    drop_examples_with_names,
    hold_out_examples,
    join_short_conversations,
    mix_train_examples,
)
from pipeline.conversations.params import Conversations
from pipeline.conversations.seeds import INSTRUCTIONS, OPTIONAL, REQUIRED, Seed, parse_seed
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.skills import MAKERS
from pipeline.skills.skill import Example
from pipeline.storage.lines import read_list
from pipeline.storage.rows import BROKEN, JSON, JSON_LINES, ROWS, read_rows
from pipeline.storage.streams import CountedFile, decompress, split_name
from pipeline.storage.tables import CONVERSATIONS, HELDOUT, write_table
from pipeline.storage.values import RowProblem
from pipeline.text.encode import make_fast_encoder

LISTS = ("names.txt", "systems.txt")
# What is read of CSV and Parquet.
SEED_COLUMNS = [
    *sorted(REQUIRED | OPTIONAL),
    "conversations",
    "system",
    *dict.fromkeys(filter(None, chain(*INSTRUCTIONS))),
]
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
    out: Path,
) -> Metrics:
    """Write both files. Raises `UserError` for an index that can't be searched or a broken seed."""
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
    clean = drop_examples_with_names(examples, materials.heldout_names)
    fitting = _drop_long(clean, params.max_tokens, count_tokens)
    rows = join_short_conversations(fitting, count_tokens(fitting), params.max_tokens, params.joined_frac, seed=seed)
    _write_train(out / "train.parquet", rows)

    heldout = hold_out_examples({run.maker: made[run] for run in tests}, written, seed=seed)
    fitting_heldout = _drop_long(heldout, params.max_tokens, count_tokens)
    _write_heldout(out / "heldout.parquet", fitting_heldout)
    metrics: Metrics = {
        "n_names_train": len(materials.train.symbols) + len(materials.train.texts),
        "n_names_heldout": len(materials.heldout.symbols) + len(materials.heldout.texts),
        "n_train": len(rows),
        "n_train_tokens": sum(count_tokens(rows)),
        "n_train_joined": len(fitting) - len(rows),
        "n_train_not_made": sum(n_examples.values()) - sum(len(made[run]) for run in runs),
        "n_train_named_heldout": len(examples) - len(clean),
        "n_train_too_long": len(clean) - len(fitting),
        "n_heldout": len(fitting_heldout),
        "n_heldout_too_long": len(heldout) - len(fitting_heldout),
    }
    return metrics | _count_kinds("n_train", fitting) | _count_kinds("n_heldout", fitting_heldout)


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


def _count_kinds(name: str, examples: Sequence[Example]) -> Metrics:
    return {f"{name}_{kind}": n for kind, n in sorted(Counter(example.kind for example in examples).items())}


def read_seeds(folder: Path) -> Seeds:
    """Return the hand-written conversations of a folder, its names.txt and systems.txt.

    Raises `UserError` that names the file and the line (of CSV, Parquet and an array of JSON, the row) of a broken conversation.
    """
    conversations: list[Seed] = []
    positions: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in LISTS or name.startswith((".", "_")) or path.suffix == ".md":
            continue
        for number, row in read_seed_rows(path):
            try:
                seed = parse_seed(row, f"{name}:{number}")
            except ValueError as error:
                raise UserError(
                    f"{path}:{number}: not a conversation", str(error), "correct it, or remove it"
                ) from error
            if (first := positions.setdefault(seed["id"], f"{path}:{number}")) != f"{path}:{number}":
                raise UserError(
                    f"{path}:{number}: the id is used twice", f"{seed['id']!r}, first in {first}", "rename one"
                )
            conversations.append(seed)
    names, systems = (
        [text for _, text in read_list(path)] if path.exists() else [] for path in map(folder.joinpath, LISTS)
    )
    _report_unfilled(conversations)
    return Seeds(conversations, names, systems)


def read_seed_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield number and value of each row of a file of conversations, which may be compressed. Raises `UserError`."""
    kind, compression = split_name(path.name)
    if kind not in ROWS:
        todo = f"convert it to one of {', '.join(ROWS)}, or move it elsewhere"
        raise UserError(f"{path}: not a file of conversations", f"the ending {path.suffix or 'is missing'!r}", todo)
    is_json = kind in (*JSON_LINES, JSON)
    try:
        with path.open("rb") as file:
            counted = CountedFile(file)
            for number, row in read_rows(kind, decompress(counted, compression), SEED_COLUMNS):
                if isinstance(row, RowProblem):
                    raise UserError(f"{path}:{number}: {row.verdict}", row.detail, "correct it, or remove it")
                # In tables an absent field is an empty cell.
                yield number, row if is_json else {name: cell for name, cell in row.items() if cell not in (None, "")}
            if counted.trailing:
                raise UserError(f"{path}: can't be read to its end", counted.trailing, "compress it again")
    except BROKEN as error:
        raise UserError(f"{path}: can't be read", str(error), "write it again, or remove it") from error


def _report_unfilled(conversations: Sequence[Seed]) -> None:
    """Print how many conversations contain `{name}` without declaring it, as code does: it stays as it is."""
    ids = [
        seed["id"]
        for seed in conversations
        if "name" not in seed.get("placeholders", []) and any("{name}" in message.text for message in seed["messages"])
    ]
    if ids:
        print(
            f'conversations: {{name}} stays as it is in {len(ids)} seeds without "placeholders": ["name"], first {ids[0]}'
        )


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


def _drop_long(examples: Sequence[Example], max_tokens: int, count_tokens: TokenCounter) -> list[Example]:
    return [example for example, size in zip(examples, count_tokens(examples), strict=True) if size <= max_tokens]


def _write_train(path: Path, examples: Sequence[Example]) -> None:
    rows = [
        {"id": f"train-{number:06d}", "kind": example.kind, "messages": _to_json(messages_to_json(example.messages))}
        for number, example in enumerate(examples)
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=CONVERSATIONS))


def _write_heldout(path: Path, examples: Sequence[Example]) -> None:
    rows = [
        {
            "id": f"heldout-{number:05d}",
            "kind": example.kind,
            "messages": _to_json(messages_to_json(example.messages)),
            "expected": _to_json(example.expected),
        }
        for number, example in enumerate(examples)
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=HELDOUT))


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
