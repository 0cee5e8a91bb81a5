"""Sample groups of answers from the model that is being trained, reward them by code, and train on their advantages (GRPO).

In: the model, questions with their rewards, settings. Out: batches; the batch of a step holds the answers of one round, and each
round has `n_epochs` steps. The objective is the mean over all sampled answers, but only those of groups with any spread of rewards
are in the rows: the others have no advantage and cost nothing. `groups_with_spread_frac` says how many there are.

A round is sampled when its first step asks for it, and written to a file before that step trains: a run that was killed within a
round continues with the same answers. So these batches must not be prefetched. Memory: a round's rows, and a copy of the weights
for sampling. Time: sampling, then a forward pass more if `n_epochs` > 1, and one by the reference if `kl_weight` > 0.

Shao et al. 2024 (DeepSeekMath), with the corrections of Liu et al. 2025 (Dr. GRPO): see preference_losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from model.data.batches import Batch
from model.data.order import Order
from model.data.packing import pack
from model.inference.samples import make_engine, sample_answers
from model.inference.sampling import Sampling
from model.network.loss import IGNORE
from model.network.transformer import Transformer
from pipeline.prefer.params import Groups
from pipeline.prefer.preference_losses import compute_advantages, compute_token_loss

Nats = Callable[[Batch], Tensor]
REWARDED: tuple[str, ...] = ("reward_frac", "right_frac", "groups_with_spread_frac", "finished_frac", "answer_tokens")
MEASURED: tuple[str, ...] = ("clipped_frac", "kl_nats")


class RewardedPrompt(NamedTuple):
    """The ids of a prompt, and the reward of an answer's ids."""

    id: str
    prompt: Sequence[int]
    reward: Callable[[Sequence[int]], float]


class AnswerGroup(NamedTuple):
    """The sampled answers to one question and their rewards."""

    question: int
    answers: list[list[int]]
    is_finished: list[bool]
    rewards: list[float]


@dataclass(frozen=True)
class Sampler:
    """Samples a group from the weights of this moment. The seed of a group depends on its question and round alone."""

    model: Transformer
    questions: Sequence[RewardedPrompt]
    settings: Groups
    stop_id: int
    seed: int

    def sample_round(self, number: int, questions: Sequence[int]) -> list[AnswerGroup]:
        """Return one group per question."""
        engine = make_engine(self.model, self.settings.n_samples)
        return [self._sample_group(engine, number, question) for question in questions]

    def _sample_group(self, engine: object, number: int, index: int) -> AnswerGroup:
        question, settings = self.questions[index], self.settings
        seed = xxhash.xxh3_64_intdigest(f"{self.seed}/{number}/{question.id}".encode()) >> 1
        sampling = Sampling(max_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed)
        sampled = sample_answers(engine, question.prompt, settings.n_samples, sampling, stop_ids={self.stop_id})  # pyright: ignore
        rewards = [question.reward(each.ids) if each.is_finished else 0.0 for each in sampled]
        return AnswerGroup(index, [each.ids for each in sampled], [each.is_finished for each in sampled], rewards)


class SampledRound(NamedTuple):
    """A round's rows, and per target what the loss needs beside the nats."""

    batch: Batch
    advantages: Float[Tensor, "B T"]
    sampled: Float[Tensor, "B T"] | None  # log-probabilities when they were sampled; None: those of now
    reference: Float[Tensor, "B T"] | None
    sums: dict[str, float]
    n_answers: int


class GroupBatches:
    """The batches of a run, and their objective."""

    def __init__(
        self,
        sampler: Sampler,
        *,
        batch_rows: int,
        micro_rows: int,
        folder: Path,
        pad_id: int,
        compute_nats: Nats | None = None,
        compute_reference: Nats | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.sampler, self.settings, self.batch_rows = sampler, sampler.settings, batch_rows
        self.micro_rows, self.folder, self.pad_id = max(micro_rows, 1), folder, pad_id
        self.n_rows = len(sampler.questions)
        self._order = Order([self.n_rows], sampler.seed)
        self._compute_nats, self._compute_reference, self._log = compute_nats, compute_reference, log
        self._key: tuple[int, int, int] | None = None
        self.objective = GroupObjective(self.settings)

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the step's round, sampling it if it is new. Raises: ValueError if it can't be resumed."""
        number, epoch = divmod(step, self.settings.n_epochs)
        if self._key != (number, rank, n_ranks):
            self.objective.round = self._make_round(number, epoch, rank, n_ranks)
            self._key = (number, rank, n_ranks)
        assert self.objective.round is not None
        return self.objective.round.batch

    def _make_round(self, number: int, epoch: int, rank: int, n_ranks: int) -> SampledRound:
        path = self.folder / f"round-{number:06d}-{rank}-of-{n_ranks}.json"
        numbers_path = path.with_suffix(".npz")
        if path.is_file():
            groups = [AnswerGroup(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        elif epoch:
            raise ValueError(
                f"prefer: round {number} can't be continued; found no {path}; start it with as many processes as before."
            )
        else:
            questions = [each.row for each in self._order.list_step_rows(number, self.batch_rows, rank, n_ranks)]
            groups = self.sampler.sample_round(number, questions)
        batch, advantages = self._make_rows(groups)
        arrays = self._load_or_compute(numbers_path, batch)
        if not path.is_file():  # last: whoever finds it finds the numbers too
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps([group._asdict() for group in groups]), encoding="utf-8")
            partial.replace(path)
        sums = measure_groups(groups)
        if not sums["groups_with_spread_frac"]:
            self._log(f"round {number}: no group has rewards that differ, so there is nothing to learn from it")
        n_answers = sum(len(group.answers) for group in groups)
        return SampledRound(batch, advantages, arrays.get("sampled"), arrays.get("reference"), sums, n_answers)

    def _load_or_compute(self, path: Path, batch: Batch) -> dict[str, Tensor]:
        """Return the log-probabilities of the round's rows that the settings ask for."""
        if path.is_file():
            with np.load(path) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        wanted = {"sampled": self._compute_nats if self.settings.n_epochs > 1 else None}
        wanted["reference"] = self._compute_reference if self.settings.kl_weight else None
        computed = {name: -self._compute_rows(batch, nats) for name, nats in wanted.items() if nats is not None}
        if computed:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, allow_pickle=False, **{name: values.numpy() for name, values in computed.items()})
            partial.replace(path)
        return computed

    def _compute_rows(self, batch: Batch, compute_nats: Nats) -> Tensor:
        parts = [slice(start, start + self.micro_rows) for start in range(0, len(batch.ids), self.micro_rows)]
        assert batch.documents is not None
        return torch.cat(
            [compute_nats(Batch(batch.ids[part], batch.targets[part], batch.documents[part])) for part in parts]
        )

    def _make_rows(self, groups: Sequence[AnswerGroup]) -> tuple[Batch, Float[Tensor, "B T"]]:
        """Pack the answers of all groups with spread into a multiple of `micro_rows` rows, of which some may be empty."""
        rewards = torch.tensor([group.rewards for group in groups], dtype=torch.float64)
        advantages = compute_advantages(rewards).tolist()
        pieces = [
            (self.sampler.questions[group.question].prompt, answer, advantage)
            for group, row in zip(groups, advantages, strict=True)
            if max(group.rewards) > min(group.rewards)
            for answer, advantage in zip(group.answers, row, strict=True)
        ]
        seq_len = self.sampler.model.config.seq_len
        rows = pack([len(prompt) + len(answer) - 1 for prompt, answer, _ in pieces], seq_len)
        shape = (-(-max(len(rows), 1) // self.micro_rows) * self.micro_rows, seq_len)
        ids, targets, documents = (np.full(shape, fill, dtype=np.int64) for fill in (self.pad_id, IGNORE, -1))
        weights = np.zeros(shape)
        for index, row in enumerate(rows):
            start = 0
            for place, piece in enumerate(row):
                prompt, answer, advantage = pieces[piece]
                tokens = np.array([*prompt, *answer], dtype=np.int64)
                part = slice(start, start + len(tokens) - 1)
                ids[index, part], documents[index, part], weights[index, part] = tokens[:-1], place, advantage
                targets[index, part.start + len(prompt) - 1 : part.stop] = answer
                start = part.stop
        arrays = (torch.from_numpy(array) for array in (ids, targets, documents))
        return Batch(*arrays, rows=tuple(range(shape[0])), objective=self.objective), torch.from_numpy(weights)


def measure_groups(groups: Sequence[AnswerGroup]) -> dict[str, float]:
    """Return what is known of a round before training, summed over its answers."""
    rewards = [reward for group in groups for reward in group.rewards]
    spread = sum(len(group.rewards) for group in groups if max(group.rewards) > min(group.rewards))
    finished = sum(sum(group.is_finished) for group in groups)
    n_tokens = sum(len(answer) for group in groups for answer in group.answers)
    right = sum(reward == 1 for reward in rewards)
    return dict(zip(REWARDED, map(float, (sum(rewards), right, spread, finished, n_tokens)), strict=True))


class GroupObjective:
    """GRPO's loss: a mean over the answers of the sum over their tokens, divided by the most tokens that an answer may have."""

    def __init__(self, settings: Groups) -> None:
        self.settings = settings
        self.round: SampledRound | None = None
        self._measured = dict.fromkeys(MEASURED, 0.0)

    def count_units(self, batch: Batch) -> int:
        """Return the number of sampled answers, with those of groups without spread."""
        assert self.round is not None
        return self.round.n_answers

    def weigh(self, batch: Batch, nats: Float[Tensor, "B T"]) -> tuple[float, Float[Tensor, "B T"]]:
        """Return the sum of the answers' losses, and its derivative by the nats of each target."""
        assert self.round is not None
        rows, is_target = list(batch.rows), batch.targets >= 0
        now, scale = -nats.double(), 1 / self.settings.max_new_tokens
        sampled, reference = self.round.sampled, self.round.reference
        loss = compute_token_loss(
            now,
            now if sampled is None else sampled[rows].double(),
            None if reference is None else reference[rows].double(),
            self.round.advantages[rows],
            clip=self.settings.clip_frac,
            kl_weight=self.settings.kl_weight,
        )
        n_tokens = batch.targets.ge(0).sum(1, keepdim=True).clamp(min=1)
        for name, values in (("clipped_frac", loss.is_clipped), ("kl_nats", loss.kl)):
            self._measured[name] += float((values * is_target / n_tokens).sum())
        weights = torch.where(is_target, -loss.by_log_probability * scale, 0.0).float()
        return float((loss.losses * is_target).sum()) * scale, weights

    def pop_sums(self) -> dict[str, float]:
        """Return the measurements of the round and of its tokens since the last call, summed over the answers."""
        assert self.round is not None
        n_rows = max(int((self.round.batch.targets >= 0).any(1).sum()), 1)
        sums = {name: value / n_rows * self.round.n_answers for name, value in self._measured.items()}
        self._measured = dict.fromkeys(MEASURED, 0.0)
        return {**self.round.sums, **sums}
