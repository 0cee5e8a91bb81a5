"""lm-eval's model class over our checkpoint: the same scores as our own tasks on the same sets, and right generation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from model.inference.generate import generate
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.folder import save_model
from model.network.score import compute_document_nats
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from pipeline.evaluate.layouts import CHOICES, GAPS, MINIMAL_PAIRS, read_set
from pipeline.evaluate.lm_eval import HarnessModel, find_stop, load_harness_model, main, read_sampling, run_harness
from pipeline.evaluate.set_scores import encode_pair
from pipeline.evaluate.tasks.minimal_pairs import prefer_each
from pipeline.evaluate.tasks.multiple_choice import score_choices
from pipeline.frame.errors import UserError
from tests.pipeline.conftest import WORDS, sentence

WINDOW = 64


class Asked(NamedTuple):
    """A request with the fields that the adapter reads."""

    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    rng = Random(1)
    tokenizer = train_bpe([sentence(rng) for _ in range(300)], 400)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        seq_len=WINDOW,
        n_layer=1,
        n_head=2,
        n_kv_head=1,
        d_model=32,
        d_head=16,
        d_ff=48,
    )
    save_model(folder, Transformer(config, seed=5), tokenizer, phase="pretrain")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> HarnessModel:
    from model.network.folder import load_model

    return HarnessModel(*load_model(folder)[:2])


def test_likelihoods_are_those_of_the_texts_after_bos(model: HarnessModel) -> None:
    tokenizer, bos = model.tokenizer_of_ours, model.tokenizer_of_ours.get_special_id("bos")
    whole = "Return the array of values."
    for context in ("", "Return the", "Return the ", "Return the array of val"):
        (nats,) = [-value for value, _ in model.loglikelihood([Asked((context, whole[len(context) :]))])]
        pair = encode_pair(tokenizer, context, whole[len(context) :])
        assert tokenizer.decode([*pair.context[1:], *pair.continuation]) == whole
        documents = [[bos, *tokenizer.encode(whole)], list(pair.context)]
        both = compute_document_nats(model.model, documents)
        assert nats == pytest.approx(both[0] - both[1], rel=1e-4)


def test_rolling_likelihoods_are_bits_per_byte_s(model: HarnessModel) -> None:
    text = " ".join(WORDS * 5)
    bos = model.tokenizer_of_ours.get_special_id("bos")
    wanted = compute_document_nats(model.model, [[bos, *model.tokenizer_of_ours.encode(text)]])
    assert model.loglikelihood_rolling([Asked((text,))]) == pytest.approx((-wanted).tolist())


def test_generation_ends_before_its_stop_text_and_cuts_long_contexts_on_the_left(model: HarnessModel) -> None:
    tokenizer, bos = model.tokenizer_of_ours, model.tokenizer_of_ours.get_special_id("bos")
    long = " ".join(WORDS * 5)
    options = {"until": [], "max_gen_toks": 10, "do_sample": False}
    short, cut = model.generate_until([Asked(("Return the", options)), Asked((long, options))])
    greedy = Sampling(max_tokens=10, temperature=0.0)
    ids = [bos, *tokenizer.encode("Return the")]
    assert short == tokenizer.decode(generate(model.model, ids, greedy, stop_ids={bos}))
    ids = [bos, *tokenizer.encode(long)][-(WINDOW - 10) :]
    assert cut == tokenizer.decode(generate(model.model, ids, greedy, stop_ids={bos}))
    stop = short[3:5]
    (stopped,) = model.generate_until([Asked(("Return the", {**options, "until": stop}))])
    assert stopped == short[: short.index(stop)]


def test_a_sampled_generation_is_the_same_every_time(model: HarnessModel) -> None:
    options = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": True, "temperature": 2.0}
    requests = [Asked(("Return", options)), Asked(("Return", options))]
    first = model.generate_until(requests)
    assert first == model.generate_until(requests)
    assert first[0] != first[1]
    assert read_sampling({"temperature": 0.7}, 0, 100) == Sampling(max_tokens=50, temperature=0.0)
    assert (find_stop("a b c", ["c", "b"]), find_stop("a", ["", "x"])) == (2, None)


def test_a_huge_continuation_is_refused(model: HarnessModel) -> None:
    with pytest.raises(UserError, match="can't be scored"):
        model.loglikelihood([Asked(("a", " word" * 500))])


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path), "--tasks", "blimp"]) == 1
    error = capsys.readouterr().err
    assert "lm-eval is not installed" in error or "config.json is missing" in error


def write_ascii(rng: Random) -> str:
    """Return a sentence of plain characters: lm-eval's acc_norm divides by characters, ours by bytes."""
    return " ".join(sentence(rng).encode("ascii", "ignore").decode().split())


def make_task(name: str, path: Path, **settings: Any) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        **settings,
    }


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scores_are_ours_on_the_same_sets(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
    for name, value in {"HF_HOME": str(tmp_path / "hf"), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    rng = Random(2)
    pairs = [{"sentence_good": sentence(rng), "sentence_bad": sentence(rng), "UID": "u"} for _ in range(40)]
    labels = ["A", "B", "C"]
    quiz = [
        {
            "question": sentence(rng),
            "choices": {"text": [write_ascii(rng) for _ in labels], "label": labels},
            "answerKey": rng.choice(labels),
        }
        for _ in range(40)
    ]
    gaps = [{"text": sentence(rng).rstrip(".")} for _ in range(40)]
    paths = [write_lines(tmp_path / f"{name}.jsonl", rows) for name, rows in (("p", pairs), ("q", quiz), ("g", gaps))]
    accuracy = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
    tasks = [
        make_task("p", paths[0], output_type="multiple_choice", doc_to_text="", doc_to_target=0,
                  doc_to_choice="{{[sentence_good, sentence_bad]}}", metric_list=accuracy[:1]),
        make_task("q", paths[1], output_type="multiple_choice", doc_to_text="Question: {{question}}\nAnswer:",
                  doc_to_target="{{choices.label.index(answerKey)}}", doc_to_choice="{{choices.text}}",
                  metric_list=accuracy),
        make_task("g", paths[2], output_type="loglikelihood", doc_to_text="{{text.split(' ')[:-1]|join(' ')}}",
                  doc_to_target="{{' '+text.split(' ')[-1]}}",
                  metric_list=[accuracy[0], {"metric": "perplexity", "aggregation": "perplexity"}]),
    ]  # fmt: skip
    model = load_harness_model(folder, "cpu")
    theirs = run_harness(model, tasks, bootstrap_iters=0, include_defaults=False)["results"]
    ours = measure_ours(model, tmp_path)
    for (task, metric), value in ours.items():
        assert theirs[task][metric] == pytest.approx(value, abs=0.005), (task, metric)


def measure_ours(model: HarnessModel, folder: Path) -> dict[tuple[str, str], float]:
    """Return the same metrics by the functions of our tasks."""
    tokenizer: Tokenizer = model.tokenizer_of_ours

    def score(context: str, text: str) -> Any:
        from model.inference.likelihood import compute_likelihoods

        return compute_likelihoods(model.model, [encode_pair(tokenizer, context, text)])[0]

    def read(layout: Any, name: str) -> list[Any]:
        return read_set(layout, folder, name, "sets", None, 1).items

    costs = [score("", text).nats for pair in read(MINIMAL_PAIRS, "p.jsonl") for text in (pair.good, pair.bad)]
    preferred = prefer_each(costs)
    chosen: dict[str, list[float]] = {}
    for item in read(CHOICES, "q.jsonl"):
        nats = [score(item.context, choice).token_nats for choice in item.choices]
        for each in score_choices("q", item, nats, [1.0] * len(nats)):
            chosen.setdefault(each.metric, []).append(each.score)
    words = [score(item.context, item.word) for item in read(GAPS, "g.jsonl")]
    return {
        ("p", "acc,none"): sum(preferred) / len(preferred),
        ("q", "acc,none"): sum(chosen["q_sum_frac"]) / len(chosen["q_sum_frac"]),
        ("q", "acc_norm,none"): sum(chosen["q_per_byte_frac"]) / len(chosen["q_per_byte_frac"]),
        ("g", "acc,none"): sum(each.is_greedy for each in words) / len(words),
    } | {("g", "perplexity,none"): math.exp(sum(each.nats for each in words) / len(words))}
