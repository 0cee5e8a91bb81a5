"""Find what to learn from: turns of the training conversations, and pairs of answers to them from rules, samples or files.

In: the params, conversations, for `pairs.source: samples` the model. Out: turns or pairs, the same for the same seed. Time: a pair
by rules 1 ms; a sampled one as long as the answers to some prompts, most of which the model gets right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from model.inference.samples import make_engine, sample_answers
from model.inference.sampling import Sampling
from model.network.transformer import Transformer
from model.tokenizer.chat import encode_prompt, parse_reply
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.prefer.pair_files import AnswerPair, RejectedPair, read_pairs
from pipeline.prefer.params import PairSettings, Prefer
from pipeline.prefer.rewards import RewardedTurn, compute_reward, list_turns
from pipeline.prefer.rule_pairs import list_wrong_replies
from pipeline.storage.tables import read_table


def read_turns(params: Prefer, conversations: Path) -> list[RewardedTurn]:
    """Return the turns to learn from. Raises: `UserError` if there is none of these kinds."""
    rows = read_table(conversations / "train.parquet", ["id", "kind", "messages"]).to_pylist()
    unknown = sorted(set(params.kinds) - {row["kind"] for row in rows})
    turns = list_turns(rows, params.kinds)
    if unknown or not turns:
        kinds = ", ".join(sorted({row["kind"] for row in rows})) or "no conversations"
        found = f"no {', '.join(unknown) or 'reply'} in {conversations}, which has {kinds}"
        raise UserError("prefer.kinds name no conversations", found, "name kinds that train.parquet has")
    return turns


def find_pairs(
    params: Prefer, conversations: Path, folder: Path | None, model: Transformer, tokenizer: Tokenizer
) -> tuple[list[AnswerPair], list[RejectedPair]]:
    """Return the pairs from the source that the params name, and the rejects of files."""
    settings = params.pairs
    assert settings is not None
    if settings.source == "files":
        if folder is None:
            do = "give --pairs, a folder of JSONL files, or set pairs.source"
            raise UserError("prefer.pairs.source: files needs a folder", "no --pairs", do)
        found, rejects = read_pairs(folder)
        return found[: settings.n_pairs], rejects
    turns = read_turns(params, conversations)
    Random(params.training.seed).shuffle(turns)
    if settings.source == "rules":
        return make_rule_pairs(turns, settings.n_pairs, params.training.seed), []
    return sample_pairs(turns, settings, params.training.seed, model, tokenizer), []


def make_rule_pairs(turns: Sequence[RewardedTurn], n_pairs: int, seed: int) -> list[AnswerPair]:
    """Return up to `n_pairs` pairs: of each turn one wrong reply, of a kind that is drawn among those it allows."""
    found: list[AnswerPair] = []
    for turn in turns:
        if len(found) == n_pairs:
            break
        rng = Random(f"{seed}/{turn.id}")
        wrong = list_wrong_replies(turn, rng)
        if wrong:
            kind, reply = rng.choice(wrong)
            found.append(AnswerPair(turn.id, kind, tuple(turn.prompt), turn.reply, reply))
    return found


def sample_pairs(
    turns: Sequence[RewardedTurn], settings: PairSettings, seed: int, model: Transformer, tokenizer: Tokenizer
) -> list[AnswerPair]:
    """Return up to `n_pairs` pairs: a turn's own reply against the worst of the model's sampled answers, where one is not right."""
    found: list[AnswerPair] = []
    engine, end = make_engine(model, settings.n_samples), tokenizer.get_special_id("end")
    for number, turn in enumerate(turns):
        prompt = encode_prompt(turn.prompt, tokenizer)
        if len(found) == settings.n_pairs:
            break
        if len(prompt) > model.config.seq_len - settings.max_new_tokens:
            continue
        sampling = Sampling(
            max_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed * 1_000_003 + number
        )
        sampled = sample_answers(engine, prompt, settings.n_samples, sampling, stop_ids={end})
        replies = [parse_reply(answer.ids, tokenizer) for answer in sampled if answer.is_finished]
        rewards = [compute_reward(turn, reply) for reply in replies]
        if rewards and min(rewards) < 1:
            worst = replies[rewards.index(min(rewards))]
            if worst.call is not None or worst.text.strip():
                found.append(AnswerPair(turn.id, "sampled", tuple(turn.prompt), turn.reply, worst))
    return found
