"""Let EleutherAI's lm-eval measure our checkpoints: its model class for them, and a command (extra `lm-eval`).

    python -m pipeline.evaluate.lm_eval --model data/pretrain --tasks blimp,arc_easy [--include-path FOLDER] [--limit N]

In: a model folder, names of lm-eval's tasks, or of tasks in YAML files of yours. Out: lm-eval's table, and its results as JSON.
Every text follows <|bos|>, as documents do in training. A context and its continuation are encoded as one text; what does not fit
into the window is cut from the context's beginning. Rolling likelihoods are those of the task bits_per_byte: windows that overlap
by half. Generation is greedy or sampled, batched, until a stop text or the end of the document.

Covers: loglikelihood, loglikelihood_rolling, generate_until. Does not cover: chat templates, because control tokens typed as text
stay text here; the stage's own tasks measure the assistant."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from model.inference.batching import Batcher
from model.inference.likelihood import Pair, compute_likelihoods
from model.inference.samples import make_engine
from model.inference.sampling import Sampling
from model.network.folder import load_model
from model.network.score import compute_document_nats
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from pipeline.evaluate.measure import choose_device
from pipeline.evaluate.set_scores import encode_pair, fits
from pipeline.frame.environment import read
from pipeline.frame.errors import UserError

MAX_NEW_TOKENS = 256  # lm-eval's own default, where a task names no limit
N_SLOTS = 16


class HarnessRequest(Protocol):
    """What lm-eval asks for."""

    @property
    def args(self) -> tuple[Any, ...]: ...


class HarnessModel:
    """Our checkpoint with the methods that lm-eval calls; `make_harness_model` gives it lm-eval's base class."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer_of_ours = model, tokenizer
        self._bos = tokenizer.get_special_id("bos")

    def loglikelihood(self, requests: Sequence[HarnessRequest], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return log-likelihood, and whether greedy decoding would write it, of each (context, continuation)."""
        pairs = [encode_pair(self.tokenizer_of_ours, *request.args) for request in requests]
        return [(-each.nats, each.is_greedy) for each in compute_likelihoods(self.model, self._check(pairs))]

    def loglikelihood_rolling(self, requests: Sequence[HarnessRequest], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text, of any length."""
        documents = [[self._bos, *self.tokenizer_of_ours.encode(request.args[0])] for request in requests]
        return (-compute_document_nats(self.model, documents)).tolist()

    def generate_until(self, requests: Sequence[HarnessRequest], disable_tqdm: bool = False) -> list[str]:
        """Return what follows each context, without the first of its stop texts and what is behind it."""
        batcher = Batcher(make_engine(self.model, N_SLOTS), N_SLOTS)
        tickets: dict[int, int] = {}
        stops: list[tuple[str, ...]] = []
        for number, request in enumerate(requests):
            context, options = request.args
            sampling = read_sampling(options, number, self.model.config.seq_len)
            stops.append(read_stops(options))
            ids = [self._bos, *self.tokenizer_of_ours.encode(context)]
            ids = ids[-(self.model.config.seq_len - sampling.max_tokens) :]
            tickets[batcher.add(ids, sampling, stop_ids={self._bos})] = number
        written: list[list[int]] = [[] for _ in requests]
        while batcher.is_busy:
            for ticket, index, _ in batcher.step():
                if index is not None:
                    ids = written[tickets[ticket]]
                    ids.append(index)
                    if find_stop(self.tokenizer_of_ours.decode(ids), stops[tickets[ticket]]) is not None:
                        batcher.cancel(ticket)
        return [self._cut(ids, each) for ids, each in zip(written, stops, strict=True)]

    def _cut(self, ids: Sequence[int], stops: Sequence[str]) -> str:
        text = self.tokenizer_of_ours.decode(ids)
        return text[: find_stop(text, stops)]

    def _check(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        seq_len = self.model.config.seq_len
        for pair in pairs:
            if not fits(pair, seq_len):
                raise UserError(
                    "lm_eval: a continuation can't be scored",
                    f"{len(pair.continuation)} tokens, the window has {seq_len}",
                    "leave the item out of the task, or use a model with a longer window",
                )
        return pairs


def read_sampling(options: Mapping[str, Any], seed: int, seq_len: int) -> Sampling:
    """Return the settings of a request in lm-eval's terms. At least half of the window is left to the context."""
    max_tokens = min(int(options.get("max_gen_toks", options.get("max_new_tokens", MAX_NEW_TOKENS))), seq_len // 2)
    is_sampled = bool(options.get("do_sample", False))
    temperature = float(options.get("temperature", 1.0)) if is_sampled else 0.0
    return Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=int(options.get("top_k", 0)),
        top_p=float(options.get("top_p", 1.0)),
        seed=seed,
    )


def read_stops(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts that end a generation."""
    until = options.get("until") or ()
    return (until,) if isinstance(until, str) else tuple(until)


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop text begins; None if there is none."""
    return min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=None)


def load_harness_model(folder: Path, device: str = "auto") -> Any:
    """Load a model folder as an instance of lm-eval's model class. Raises `UserError` if it is not ours, or without the extra."""
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise UserError(
            "lm_eval: the package lm-eval is not installed", str(error), "pip install 'minigpt[lm-eval]'"
        ) from error
    try:
        model, tokenizer, _ = load_model(folder, device=choose_device(device))
    except ValueError as error:
        raise UserError("lm_eval: the model can't be loaded", str(error), "name a folder of our models") from error
    return type("MiniGptModel", (HarnessModel, LM), {})(model, tokenizer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print lm-eval's table. Return the exit code."""
    args = _parse_arguments(arguments)
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1" if args.offline else "0")
    try:
        model = load_harness_model(args.model, read("MINIGPT_DEVICE"))
        has_defaults = not args.own_only
        results = run_harness(
            model, args.tasks.split(","), args.include_path, args.limit, include_defaults=has_defaults
        )
    except (UserError, KeyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from lm_eval.utils import make_table

    print(make_table(results))
    if args.out is not None:
        text = json.dumps({name: results[name] for name in ("results", "n-samples", "versions")}, indent=2, default=str)
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def run_harness(
    model: Any,
    tasks: Sequence[str | dict[str, Any]],
    include_path: Path | None = None,
    limit: int | None = None,
    *,
    bootstrap_iters: int = 100,
    include_defaults: bool = True,
) -> dict[str, Any]:
    """Return lm-eval's results: of its own tasks, those in YAML files below `include_path`, or tasks given as dictionaries.

    Without lm-eval's own tasks (`include_defaults`) its thousands of YAML files are not read, which takes 10 s and more.
    """
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=None if include_path is None else str(include_path), include_defaults=include_defaults
    )
    results: Any = simple_evaluate(
        model,
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        log_samples=False,
        bootstrap_iters=bootstrap_iters,
    )
    return results


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate.lm_eval", description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("data/pretrain"), help="model folder (default: data/pretrain)"
    )
    parser.add_argument("--tasks", required=True, help="names of lm-eval's tasks, separated by commas")
    parser.add_argument("--include-path", type=Path, help="folder with YAML files of tasks of yours")
    parser.add_argument("--own-only", action="store_true", help="read the tasks of --include-path only")
    parser.add_argument("--limit", type=int, help="items of each task, for a trial")
    parser.add_argument("--offline", action="store_true", help="never download a data set")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
