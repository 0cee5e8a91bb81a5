"""Improve a chat model by preferences: a model and conversations → a model that prefers verified answers.

In: the chat model, conversations (train.parquet to learn from, heldout.parquet for the check); for `pairs.source: files` a folder
--pairs. Out: the model's folder, or that of an adapter, with history.jsonl, curve.csv and curve.svg, skills.json (each held-out
skill before and after) and rejects.jsonl. With dpo, ipo, simpo and orpo it learns from pairs of answers, with grpo from groups of
its own answers, rewarded by code. A skill that falls by more than its tolerance is named, and counted in `n_skills_fallen`: the
gate would refuse that model.

Resumes like `sft`. Memory: that of sft, and a second copy of the weights, the base.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from model.data.batches import Batch
from model.machine.distributed import World
from model.network.folder import load_model
from model.network.transformer import Transformer
from model.tokenizer.chat import Message, encode_prompt, encode_turn, parse_reply
from model.tokenizer.tokenizer import Tokenizer
from model.training.compute import KernelCompute, TorchCompute, choose_compute
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.prefer.find_pairs import find_pairs, read_turns
from pipeline.prefer.group_batches import GroupBatches, RewardedPrompt, Sampler
from pipeline.prefer.heldout_skills import SkillChange, SkillScores, compare_skills, measure_skills, read_heldout_items
from pipeline.prefer.pair_batches import EncodedPair, PairBatches, PairMethod
from pipeline.prefer.pair_files import AnswerPair, RejectedPair, write_rejects
from pipeline.prefer.params import Groups, Prefer
from pipeline.prefer.reward_curve import write_curves
from pipeline.prefer.rewards import RewardedTurn, compute_reward
from pipeline.training.phase import make_adapted_model, open_world, run_training

PANELS = {
    "log-probability of the answers minus the base's, nats": ("chosen_gain_nats", "rejected_gain_nats"),
    "preferred pairs": ("preferred_frac",),
    "reward of the samples": ("reward_frac", "right_frac", "groups_with_spread_frac"),
    "held-out skills, mean": ("heldout_skills_frac",),
}


def run(
    params: Prefer, *, base: Path, conversations: Path, pairs: Path | None = None, scratch: Path, out: Path
) -> Metrics:
    """Train and write the model's folder. Raises: `UserError` if there is nothing to learn from."""
    model, tokenizer, _ = load_model(base)
    reference, _, _ = load_model(base)
    model.train().requires_grad_(True)
    adapted = make_adapted_model(params.adapter, model, params.training.seed)
    items = read_heldout_items(conversations / "heldout.parquet", params.n_heldout)
    with open_world() as world:
        measure = partial(measure_skills, tokenizer=tokenizer, items=items)
        before = measure_before(reference, measure, world, scratch / "before.json") if world.is_main else {}
        rejects: list[RejectedPair] = []
        batches: PairBatches | GroupBatches
        if params.groups is not None:
            turns = read_turns(params, conversations)
            batches = make_group_batches(params, params.groups, turns, model, reference, tokenizer, world, scratch)
            metrics: Metrics = {"n_prompts": batches.n_rows}
        else:
            found, rejects = find_pairs(params, conversations, pairs, reference, tokenizer)
            batches, metrics = make_pair_batches(params, found, rejects, reference, tokenizer, world, scratch)
        trained = run_training(
            "prefer",
            model,
            tokenizer,
            batches,
            params.training,
            evaluate=lambda current: describe_skills(measure(current)),
            documents_of=lambda number: [],
            world=world,
            scratch=scratch,
            out=out,
            adapted=adapted,
            is_prefetched=params.groups is None,
        )
        if not world.is_main:
            return {}
    history = [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    changes = compare_skills(before, history[-1]["skills"], params.tolerance_frac)
    write_results(out, history, changes, rejects)
    return {**trained, **metrics, **summarize_curve(history), **summarize_changes(changes)}


def measure_before(
    model: Transformer, measure: Callable[[Transformer], SkillScores], world: World, path: Path
) -> SkillScores:
    """Return the skills of the base, in the precision in which the trained model is measured, kept for a run that resumes."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    skills = measure(make_compute(model, world).model_for_evaluation())
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(skills), encoding="utf-8")
    unfinished.replace(path)
    return skills


def describe_skills(skills: SkillScores) -> dict[str, Any]:
    """Return what the history has of a measurement: the mean over the skills, and each."""
    mean = sum(right for _, right in skills.values()) / max(len(skills), 1)
    return {"heldout_skills_frac": mean, "skills": skills}


def make_group_batches(
    params: Prefer,
    groups: Groups,
    turns: Sequence[RewardedTurn],
    model: Transformer,
    reference: Transformer,
    tokenizer: Tokenizer,
    world: World,
    scratch: Path,
) -> GroupBatches:
    """Return the batches of GRPO. Raises: `UserError` if no prompt leaves room for an answer."""
    most = model.config.seq_len - groups.max_new_tokens
    prompts = [(turn, encode_prompt(turn.prompt, tokenizer)) for turn in turns]
    fitting = [(turn, prompt) for turn, prompt in prompts if len(prompt) <= most]
    if not fitting:
        shortest = min(len(prompt) for _, prompt in prompts)
        do = "lower groups.max_new_tokens, or tune a model with a longer window"
        raise UserError(
            "prefer: no prompt leaves room for an answer", f"the shortest has {shortest} tokens, {most} fit", do
        )
    questions = [RewardedPrompt(turn.id, prompt, make_reward(turn, tokenizer)) for turn, prompt in fitting]
    sampler = Sampler(model, questions, groups, tokenizer.get_special_id("end"), params.training.seed)
    return GroupBatches(
        sampler,
        batch_rows=params.training.batch_rows,
        micro_rows=params.training.micro_rows,
        folder=scratch / "rounds",
        pad_id=tokenizer.get_special_id("pad"),
        compute_nats=make_nats(model, world) if groups.n_epochs > 1 else None,
        compute_reference=make_nats(reference, world) if groups.kl_weight else None,
        log=lambda text: print(f"prefer: {text}", flush=True) if world.is_main else None,
    )


def make_reward(turn: RewardedTurn, tokenizer: Tokenizer) -> Callable[[Sequence[int]], float]:
    """Return the reward of an answer's ids."""
    return lambda ids: compute_reward(turn, parse_reply(ids, tokenizer))


def make_nats(model: Transformer, world: World) -> Callable[[Batch], Tensor]:
    """Return the nats of a batch's targets under the model's weights of that moment, computed as in training."""
    made: list[KernelCompute | TorchCompute] = []  # at the first call, when training has moved the model to its device

    def compute_nats(batch: Batch) -> Tensor:
        if not made:
            made.append(make_compute(model, world))
        made[0].update()
        return made[0].compute_nats(batch)

    return compute_nats


def make_compute(model: Transformer, world: World) -> KernelCompute | TorchCompute:
    """Return the passes as training computes them, without its messages."""
    moved, log = model.to(world.device), list[str]().append
    return choose_compute(moved, precision="auto", use_kernels=True, use_compile=False, log=log)


def make_pair_batches(
    params: Prefer,
    found: Sequence[AnswerPair],
    rejects: list[RejectedPair],
    reference: Transformer,
    tokenizer: Tokenizer,
    world: World,
    scratch: Path,
) -> tuple[PairBatches, Metrics]:
    """Return the batches of pairs and their counts; pairs longer than a row join the rejects.

    Raises: `UserError` if none is left.
    """
    encoded: list[EncodedPair] = []
    kept: list[AnswerPair] = []
    for pair in found:
        each = EncodedPair(
            encode_prompt(pair.prompt, tokenizer),
            *(encode_answer(side, tokenizer) for side in (pair.chosen, pair.rejected)),
        )
        if each.n_inputs <= reference.config.seq_len:
            encoded.append(each)
            kept.append(pair)
            continue
        file, _, line = pair.id.rpartition(":")
        detail = f"both sides have {each.n_inputs} tokens, the window {reference.config.seq_len}"
        rejects.append(RejectedPair(file or pair.id, int(line) if line.isdigit() else 0, "too_long", detail))
    if not encoded:
        raise UserError("prefer: no pair to learn from", f"{len(rejects)} rejected", "give more or shorter pairs")
    assert params.beta is not None
    method = PairMethod(params.method, params.beta, params.margin_nats, params.sft_weight)
    settings = params.training
    batches = PairBatches(
        encoded,
        method,
        seq_len=reference.config.seq_len,
        batch_rows=settings.batch_rows,
        seed=settings.seed,
        pad_id=tokenizer.get_special_id("pad"),
    )
    path, compute_nats = scratch / "reference.npy", make_nats(reference, world)
    batches.load_reference(path, compute_nats, may_compute=world.is_main)
    world.barrier()
    batches.load_reference(path, compute_nats, may_compute=False)
    kinds, reasons = Counter(pair.kind for pair in kept), Counter(reject.reason for reject in rejects)
    counts = {
        f"n_pairs_{kind}": n for kind, n in sorted(kinds.items()) if params.pairs and params.pairs.source != "files"
    }
    return batches, {"n_pairs": len(kept), **counts, **{f"n_rejected_{why}": n for why, n in sorted(reasons.items())}}


def encode_answer(message: Message, tokenizer: Tokenizer) -> list[int]:
    """Return the ids that the assistant has to generate: the turn without <|assistant|>."""
    return encode_turn(message, tokenizer)[1:]


def write_results(
    out: Path, history: Sequence[Mapping[str, Any]], changes: Sequence[SkillChange], rejects: Sequence[RejectedPair]
) -> None:
    """Write the curves, the skills before and after, and the rejects; print the skills that have fallen."""
    write_curves(out, history, PANELS)
    rows = [change._asdict() | {"is_fallen": change.is_fallen} for change in changes]
    (out / "skills.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    write_rejects(out / "rejects.jsonl", rejects)
    for change in changes:
        if change.is_fallen:
            fall = f"{change.before:.1%} → {change.after:.1%}, tolerance {change.max_drop:.1%}"
            print(f"prefer: {change.name} has fallen: {fall} ({change.n_items} held-out items)", flush=True)


def summarize_curve(history: Sequence[Mapping[str, Any]]) -> Metrics:
    """Return the objective's measurements over the first and the last tenth of the steps."""
    n = max(len(history) // 10, 1)
    metrics: Metrics = {}
    for name in history[0]["objective"]:
        for part, rows in (("first", history[:n]), ("last", history[-n:])):
            metrics[f"{part}_{name}"] = sum(row["objective"][name] for row in rows) / len(rows)
    if "groups_with_spread_frac" in history[0]["objective"]:
        metrics["steps_without_spread"] = sum(not row["objective"]["groups_with_spread_frac"] for row in history)
    return metrics


def summarize_changes(changes: Sequence[SkillChange]) -> Metrics:
    """Return the held-out skills before and after, their means, and how many have fallen."""
    metrics: Metrics = {"n_skills_fallen": sum(change.is_fallen for change in changes)}
    if changes:
        metrics["before_skills_frac"] = sum(change.before for change in changes) / len(changes)
        metrics["after_skills_frac"] = sum(change.after for change in changes) / len(changes)
    for change in changes:
        metrics |= {f"before_{change.name}_frac": change.before, f"after_{change.name}_frac": change.after}
    return metrics
