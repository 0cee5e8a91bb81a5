"""python -m pipeline conversations: passages and hand-written talk → chat data to tune and to test on.

In: the passages of the index, the shard stage's split, the tokenizer, data/seed/chat. Out: train.parquet and
heldout.parquet (messages as JSON). Documents of the val split are the held-out ones: their names stand in no training
conversation. A held-out row ends with the turn that is scored, or where many answers are right, before it. Memory: the
passages a few times over, conversations at about 1 kB each; time: O(passages + conversations).
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from model.tokenizer.chat import messages_to_json, written_text
from pipeline.conversations.mixture import Amounts, Seeds, heldout_examples, joined, train_examples, without_names
from pipeline.conversations.params import Conversations
from pipeline.conversations.seeds import parse_seed
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.skills.lookups import Example, Shelf
from pipeline.storage.tables import CONVERSATIONS, HELDOUT, read_shard, read_table, write_table
from pipeline.text.encode import fast_encoder
from pipeline.text.passage import Passage

TokenCounter = Callable[[Sequence[Example]], list[int]]


def run(params: Conversations, *, index: Path, shards: Path, tokenizer: Path, seeds: Path, out: Path) -> Metrics:
    count_tokens = token_counter((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    written = read_seeds(seeds)
    everything = read_passages(index / "passages.parquet")
    if not everything:
        raise UserError(
            "conversations: there is no text to talk about", f"no passage in {index}", "add sources, or loosen filter"
        )
    val_ids = _val_ids(shards)
    ours = [passage for passage in everything if passage.doc_id not in val_ids]
    theirs = [passage for passage in everything if passage.doc_id in val_ids]
    known = Shelf(everything)

    amounts = Amounts(
        quote=params.n_quote,
        abstain=params.n_abstain,
        search=params.n_search - params.n_search // 2,
        words=params.n_search // 2,
        calculator=params.n_calculator,
        seed_repeats=params.n_seed_repeats,
    )
    examples = train_examples(amounts, ours, known, written, system_frac=params.system_frac, seed=params.seed)
    clean = without_names(examples, {passage.title for passage in theirs})
    kept = _fitting(clean, params.max_tokens, count_tokens)
    rows = joined(kept, count_tokens(kept), params.max_tokens, params.joined_frac, seed=params.seed)
    _write_train(out / "train.parquet", rows)

    tests = heldout_examples(params.n_heldout, theirs, known, written, seed=params.seed)
    fitting = _fitting(tests, params.max_tokens, count_tokens)
    _write_heldout(out / "heldout.parquet", fitting)
    metrics: Metrics = {
        "n_names_train": len(ours),
        "n_names_heldout": len(theirs),
        "n_train": len(rows),
        "n_train_tokens": sum(count_tokens(rows)),
        "n_train_joined": len(kept) - len(rows),
        "n_train_named_heldout": len(examples) - len(clean),
        "n_train_too_long": len(clean) - len(kept),
        "n_heldout": len(fitting),
        "n_heldout_too_long": len(tests) - len(fitting),
    }
    return metrics | _by_kind("n_train", kept) | _by_kind("n_heldout", fitting)


def _by_kind(name: str, examples: Sequence[Example]) -> Metrics:
    return {f"{name}_{kind}": n for kind, n in sorted(Counter(example.kind for example in examples).items())}


def read_passages(path: Path) -> list[Passage]:
    """Return the passages of a table of `PASSAGES` in order."""
    table = read_table(path, Passage._fields)
    return list(map(Passage, *(table.column(name).to_pylist() for name in Passage._fields)))


def _val_ids(shards: Path) -> set[str]:
    batches = read_shard(shards / "docs.parquet", ["id", "split"])
    return {id_ for batch in batches for id_ in batch.filter(pc.equal(batch["split"], "val"))["id"].to_pylist()}


def read_seeds(folder: Path) -> Seeds:
    """Raises `UserError` that names the file and the line."""
    conversations: list[dict[str, object]] = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                conversations.append(parse_seed(line))
            except (ValueError, AttributeError) as error:
                raise UserError(f"{path}:{number}: this is no conversation", str(error), "mend the line") from error
    return Seeds(conversations, _lines(folder / "names.txt"), _lines(folder / "systems.txt"))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line] if path.exists() else []


def token_counter(tokenizer_json: str) -> TokenCounter:
    """Examples → the tokens of each, as many as model.tokenizer.chat.render gives."""
    encode = fast_encoder(tokenizer_json)

    def count(examples: Sequence[Example]) -> list[int]:
        messages = [message for example in examples for message in example.messages]
        lengths = iter(encode([written_text(message) for message in messages])[1].tolist() if messages else [])
        sizes = iter(
            [length + 2 + (message.call is not None) for length, message in zip(lengths, messages, strict=True)]
        )
        return [1 + sum(next(sizes) for _ in example.messages) for example in examples]

    return count


def _fitting(examples: Sequence[Example], max_tokens: int, count_tokens: TokenCounter) -> list[Example]:
    return [example for example, size in zip(examples, count_tokens(examples), strict=True) if size <= max_tokens]


def _write_train(path: Path, examples: Sequence[Example]) -> None:
    rows = [
        {"id": f"train-{n:06d}", "kind": e.kind, "messages": _json(messages_to_json(e.messages))}
        for n, e in enumerate(examples)
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=CONVERSATIONS))


def _write_heldout(path: Path, examples: Sequence[Example]) -> None:
    rows = [
        {
            "id": f"heldout-{n:05d}",
            "kind": e.kind,
            "messages": _json(messages_to_json(e.messages)),
            "expected": _json(e.expected),
        }
        for n, e in enumerate(examples)
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=HELDOUT))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
