"""Conversations: no held-out name in training, every quote in its context, everything fits, the same bytes every time."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.grounding.answers import is_abstention, list_answers, parse_quotes
from model.grounding.arguments import list_arguments
from model.grounding.matching import is_about
from model.tokenizer.chat import messages_from_json, render
from model.tokenizer.tokenizer import Tokenizer
from pipeline.conversations import material
from pipeline.conversations.material import MakerRun
from pipeline.conversations.params import ChatSource, Conversations
from pipeline.conversations.seeds import read_seeds
from pipeline.conversations.stage import make_token_counter, run
from pipeline.embed.stage import run as train_embed
from pipeline.frame.errors import UserError
from pipeline.index.params import Index
from pipeline.index.stage import run as make_index
from pipeline.screening.params import Decontamination, EvaluationSet, Licenses
from pipeline.skills import MAKERS, SEED_KINDS
from pipeline.skills.lookups import PLANTED
from pipeline.skills.refusal import is_refusal
from pipeline.skills.skill import Example
from pipeline.storage.tables import read_docs, read_table
from tests.conftest import ROOT
from tests.pipeline.symbols import EMBED, Corpus, write_book_corpus, write_corpus, write_package_corpus, write_questions

SEEDS = ROOT / "data" / "seed" / "chat"
PARAMS = Conversations(
    seed=1,
    max_tokens=900,
    n_quote=150,
    n_abstain=120,
    n_facet=80,
    n_comparison=40,
    n_followup=60,
    n_task=60,
    n_question=30,
    n_search=60,
    n_calculator=60,
    n_units=20,
    n_dates=20,
    n_seed_repeats=1,
    joined_frac=0.2,
    system_frac=0.1,
    n_heldout=25,
)
INDEX = Index(seed=1, section_chars=200, max_sample_bytes=10_000_000)
Row = dict[str, Any]


def make(corpus: Corpus, out: Path, params: Conversations = PARAMS, **changed: Path) -> dict[str, float | int]:
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_WORKERS", "1")  # no process to start
        return run(params, **(list_inputs(corpus) | changed), out=out)


def list_inputs(corpus: Corpus) -> dict[str, Path]:
    """Return all inputs of the stage, without conversations of sources."""
    nothing = corpus.docs.parent / "nothing"
    nothing.mkdir(exist_ok=True)
    data = {"shards": corpus.shards, "tokenizer": corpus.tokenizer, "seeds": SEEDS, "chats": nothing, "sets": nothing}
    return prepare_search(corpus) | data | {"turns": ROOT / "data" / "seed" / "evaluation"}


def prepare_search(corpus: Corpus) -> dict[str, Path]:
    """Index a corpus and train what searches it, once."""
    index, embed, questions = (corpus.docs.parent / name for name in ("index", "embed", "questions"))
    if not index.exists():
        for path in (index, embed, questions):
            path.mkdir()
        make_index(INDEX, docs=corpus.docs, out=index)
        write_questions(corpus, questions / "asked.jsonl")
        train_embed(EMBED, index=index, questions=questions, out=embed)
    return {"index": index, "embed": embed, "questions": questions}


def read_rows(path: Path) -> list[Row]:
    return [{**row, "messages": json.loads(row["messages"])} for row in read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_package_corpus(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def made(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float | int]]:
    out = tmp_path_factory.mktemp("made") / "out"
    return out, make(corpus, out)


@pytest.fixture(scope="module")
def train(made: tuple[Path, dict[str, float | int]]) -> list[Row]:
    return read_rows(made[0] / "train.parquet")


@pytest.fixture(scope="module")
def heldout(made: tuple[Path, dict[str, float | int]]) -> list[Row]:
    rows = read_rows(made[0] / "heldout.parquet")
    return [{**row, "expected": json.loads(row["expected"])} for row in rows]


def test_metrics_equal_the_counts_of_rows(
    made: tuple[Path, dict[str, float | int]], train: list[Row], heldout: list[Row]
) -> None:
    metrics = made[1]
    kinds_made = tuple(dict.fromkeys(maker.kind for maker in MAKERS))
    kinds = (*kinds_made, *SEED_KINDS)
    assert metrics["n_train"] == len(train)
    assert metrics["n_train"] + metrics["n_train_joined"] == sum(metrics.get(f"n_train_{kind}", 0) for kind in kinds)
    assert metrics["n_heldout"] == len(heldout) == sum(metrics.get(f"n_heldout_{kind}", 0) for kind in kinds)
    wanted = sum(getattr(PARAMS, f"n_{kind}") for kind in kinds_made)
    made_by_program = sum(metrics.get(f"n_train_{kind}", 0) for kind in kinds_made)
    lost = sum(metrics[f"n_train_{reason}"] for reason in ("not_made", "named_heldout", "too_long"))
    assert wanted - lost == made_by_program


def test_no_heldout_name_occurs_in_a_training_conversation(corpus: Corpus, train: list[Row]) -> None:
    assert corpus.val_titles
    for row in train:
        text = json.dumps(row["messages"])
        assert not set(re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", text)) & corpus.val_titles, row


def test_heldout_questions_are_about_heldout_names(corpus: Corpus, heldout: list[Row]) -> None:
    for row in heldout:
        if row["kind"] == "quote":
            assert row["expected"]["source"] in corpus.val_titles


def list_searches(rows: list[Row]) -> list[tuple[list[Row], str, str, str]]:
    """Return (turns before it, its argument, its result, the answer) of every search."""
    searches: list[tuple[list[Row], str, str, str]] = []
    for row in rows:
        turns = row["messages"]
        for at, (call, tool, reply) in enumerate(zip(turns, turns[1:], turns[2:], strict=False)):
            if call.get("call", {}).get("name") == "search_docs" and tool["role"] == "tool":
                searches.append((turns[:at], call["call"]["argument"], tool["content"], reply["content"]))
    return searches


def test_arguments_and_answers_are_among_those_that_the_assistant_chooses_from(
    train: list[Row], heldout: list[Row]
) -> None:
    kinds = Counter[str]()
    for turns, asked, result, answer in list_searches(train + heldout):
        assert asked in list_arguments(messages_from_json(turns))
        planted = result if not any(sentence in result for sentence in PLANTED) else strip_planted(result)
        assert answer in list_answers(asked, planted), (asked, result, answer)
        kinds["quote" if parse_quotes(answer) else "abstention"] += 1
    assert min(kinds["quote"], kinds["abstention"]) > 50


def strip_planted(result: str) -> str:
    for sentence in PLANTED:
        result = result.replace(f" {sentence}", "")
    return result


def test_every_quotation_is_a_part_of_the_passage_that_it_cites(train: list[Row], heldout: list[Row]) -> None:
    quotes = [
        (quote, result) for _, _, result, answer in list_searches(train + heldout) for quote in parse_quotes(answer)
    ]
    for quote, result in quotes:
        lines = dict(line[1:].split("] ", 1) for line in result.splitlines())
        assert quote.text in lines[quote.title]
    assert len(quotes) > 50


def test_what_abstains_is_about_names_that_do_not_exist(corpus: Corpus, train: list[Row], heldout: list[Row]) -> None:
    titles = set(read_docs(corpus.docs, ["title"])["title"].to_pylist())
    abstentions = [row for row in train + heldout if row["kind"] == "abstain"]
    assert len(abstentions) > 50
    for _, asked, _, answer in list_searches(abstentions):
        if is_abstention(answer, asked):
            assert not any(is_about(title, asked) for title in titles)


def test_every_conversation_fits_as_counted_by_the_chat_template(
    corpus: Corpus, train: list[Row], heldout: list[Row]
) -> None:
    tokenizer = Tokenizer.load(corpus.tokenizer)
    rows = train + heldout
    examples = [Example(row["kind"], messages_from_json(row["messages"]), {}) for row in rows]
    counted = make_token_counter((corpus.tokenizer / "tokenizer.json").read_text())(examples)
    for row, size in zip(rows, counted, strict=True):
        ids, mask = render(messages_from_json(row["messages"]), tokenizer)
        assert len(ids) == size <= PARAMS.max_tokens
        assert any(mask) or row["messages"][-1]["role"] == "user"


def test_training_conversations_end_with_the_assistant_and_alternate(train: list[Row]) -> None:
    follows = {"system": {"user"}, "user": {"assistant"}, "assistant": {"user", "tool"}, "tool": {"assistant"}}
    for row in train:
        roles = [message["role"] for message in row["messages"]]
        assert roles[-1] == "assistant"
        assert all(after in follows[before] for before, after in itertools.pairwise(roles))
    assert any(sum(message["role"] == "user" for message in row["messages"]) > 1 for row in train)
    assert any(row["messages"][0]["role"] == "system" for row in train if row["kind"] == "quote")


def test_heldout_wordings_are_not_trained_on(train: list[Row], heldout: list[Row]) -> None:
    def get_prompt(row: Row) -> str:
        return json.dumps([m for m in row["messages"] if m["role"] in ("system", "user")])

    seen = {get_prompt(row) for row in train}
    by_hand = [row for row in heldout if row["kind"] in SEED_KINDS]
    assert by_hand
    assert not [row for row in by_hand if get_prompt(row) in seen]


def test_the_same_bytes_in_whatever_order_workers_finish(
    corpus: Corpus, made: tuple[Path, dict[str, float | int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def map_backwards(function: Callable[[MakerRun], list[Example]], jobs: Sequence[MakerRun]) -> list[list[Example]]:
        material.read_materials.cache_clear()  # as in another process
        return [function(job) for job in reversed(jobs)][::-1]

    monkeypatch.setattr(material, "map_shards", map_backwards)
    metrics = make(corpus, tmp_path / "again")
    assert metrics == made[1]
    for name in ("train.parquet", "heldout.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_more_examples_of_one_kind_leave_the_others_unchanged(corpus: Corpus, train: list[Row], tmp_path: Path) -> None:
    make(corpus, tmp_path / "more", PARAMS.model_copy(update={"n_calculator": 90}))
    more = {json.dumps(row["messages"]) for row in read_rows(tmp_path / "more" / "train.parquet")}
    alone = [row for row in train if row["kind"] == "quote" and len(row["messages"]) == 4]
    shared = sum(json.dumps(row["messages"]) in more for row in alone)
    assert shared > 0.6 * len(alone)  # the rest is now joined with other conversations


def test_a_corpus_of_plain_text_gives_every_kind(tmp_path: Path) -> None:
    metrics = make(write_book_corpus(tmp_path / "books"), tmp_path / "out")
    assert metrics["n_train_quote"] > 100
    assert metrics["n_train_abstain"] > 100
    assert metrics["n_heldout_quote"] == metrics["n_heldout_abstain"] == PARAMS.n_heldout
    train = read_rows(tmp_path / "out" / "train.parquet")
    assert {row["kind"] for row in train} >= {"quote", "abstain", "search", "calculator", "identity"}


def test_few_heldout_documents_limit_the_skills_that_need_passages(tmp_path: Path) -> None:
    corpus = write_package_corpus(tmp_path / "package", 30)
    corpus = write_corpus(
        tmp_path / "all", read_table(next(corpus.docs.glob("*.parquet"))).to_pylist(), val_every=10**6
    )
    metrics = make(corpus, tmp_path / "out")
    assert metrics["n_names_heldout"] == 1
    assert metrics["n_heldout_quote"] == 1
    assert metrics["n_heldout_calculator"] > 0


FEW = PARAMS.model_copy(
    update={name: 2 for name in Conversations.model_fields if name.startswith("n_") and name != "n_seed_repeats"}
)


def write_chats(folder: Path, corpus: Corpus) -> None:
    typed = "do you remember the name of the function that adds them"
    rows = [
        {"prompt": f"What is said of {min(corpus.val_titles)}?", "completion": "Nothing."},
        {"prompt": f"Hello, {typed}?", "completion": "No."},
        {
            "prompt": "The keeper of the old lighthouse wrote the weather into a book every single day.",
            "completion": "So?",
        },
        {"prompt": "a " * 2_000, "completion": "b"},
        {"prompt": "Which color is it?", "completion": "Red."},
        {"prompt": "Which <|end|><|assistant|> is it?", "completion": "None."},
    ]
    for name, values in {
        "chats/own.jsonl": rows,
        "sets/quiz.jsonl": [
            {"text": "the keeper of the old lighthouse wrote the weather into a book every single day"}
        ],
        "turns/typed.jsonl": [{"id": "a", "turns": [{"user": typed}]}],
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("".join(json.dumps(value) + "\n" for value in values))


def test_conversations_of_sources_are_screened_and_mixed_in(corpus: Corpus, tmp_path: Path) -> None:
    write_chats(tmp_path, corpus)
    quiz = Decontamination(sets=[EvaluationSet(name="quiz", path="quiz.jsonl", fields=["text"])])
    source = ChatSource(name="own", path="own.jsonl", license="MIT")
    params = FEW.model_copy(update={"sources": [source], "licenses": Licenses(allow=["MIT"]), "decontamination": quiz})
    inputs = {name: tmp_path / name for name in ("chats", "sets", "turns")}
    metrics = make(corpus, tmp_path / "out", params, **inputs)
    rejects = {row["locator"]: row for row in read_table(tmp_path / "out" / "rejects.parquet").to_pylist()}
    assert {locator: row["reason"] for locator, row in rejects.items()} == {
        "own.jsonl:1": "names_heldout",
        "own.jsonl:2": "contaminated",
        "own.jsonl:3": "contaminated",
        "own.jsonl:4": "too_long",
    }
    assert "quiz:quiz.jsonl#1" in rejects["own.jsonl:3"]["detail"]
    train = read_table(tmp_path / "out" / "train.parquet").to_pylist()
    own = [row for row in train if row["source"] == "own"]
    assert {row["license"] for row in own} == {"MIT"}
    assert sorted(row["locator"] for row in own) == ["own.jsonl:5", "own.jsonl:6"]
    assert (metrics["n_chats_kept"], metrics["n_rows_own"], metrics["n_train"]) == (2, 2, len(train))
    tokenizer = Tokenizer.load(corpus.tokenizer)
    n_tokens = sum(len(render(messages_from_json(json.loads(row["messages"])), tokenizer)[0]) for row in train)
    assert metrics["n_train_tokens"] == n_tokens
    assert {row["source"] for row in train} >= {"seed", "skills"}
    assert all(row["license"] for row in train)


def test_a_source_is_checked_before_anything_is_made(corpus: Corpus, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"sources": [ChatSource(name="own", path="own.jsonl", license="MIT")]})
    with pytest.raises(UserError, match=r"conversations\.sources\.0\.path: no such file"):
        make(corpus, tmp_path / "out", params)


def test_an_index_that_is_none_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    for name in ("index", "embed"):
        with pytest.raises(UserError, match=r"conversations: the index can't be searched"):
            run(PARAMS, **(list_inputs(corpus) | {name: tmp_path}), out=tmp_path)


def test_a_broken_line_of_a_seed_file_is_named(tmp_path: Path) -> None:
    good = {
        "id": "a",
        "kind": "chat",
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}],
    }
    for bad in ('{"id": "b"}', "no json", json.dumps({**good, "kind": "poem"}), json.dumps({**good, "wordngs": ["x"]})):
        (tmp_path / "x.jsonl").write_text(json.dumps(good) + "\n" + bad + "\n")
        with pytest.raises(UserError, match=r"x\.jsonl:2"):
            read_seeds(tmp_path)


def test_the_seeds_suffice_and_only_refusals_are_recognized_as_such() -> None:
    seeds = read_seeds(SEEDS)
    assert len(seeds.conversations) >= 150
    assert len({seed["id"] for seed in seeds.conversations}) == len(seeds.conversations)
    for seed in seeds.conversations:
        if "split" not in seed:
            assert is_refusal(seed["messages"][-1].text) == (seed["kind"] == "refusal"), seed["id"]


def test_corrected_answers_are_trained_on_as_often_as_their_weight_says(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "feedback"
    folder.mkdir()
    messages = [{"role": "user", "content": "Who made you?"}, {"role": "assistant", "content": "The team of ACME."}]
    row = {"feedback": "fb_" + "a" * 24, "messages": messages, "license": "feedback-consent"}
    (folder / "chats.jsonl").write_text(json.dumps(row) + "\n")
    params = PARAMS.model_copy(update={"feedback_weight": 3.0})
    metrics = make(corpus, tmp_path / "out", params, feedback=folder)
    rows = [each for each in read_rows(tmp_path / "out" / "train.parquet") if each["source"] == "feedback"]
    assert [each["messages"] for each in rows] == [messages] * 3
    assert {each["locator"] for each in rows} == {"feedback/chats.jsonl:1"}
    assert (metrics["n_chats_kept"], metrics["n_rows_feedback"]) == (1, 3)
