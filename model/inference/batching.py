"""Continuous batching: requests of any length share each step, join when a slot is free and leave when they are done.

In: prompts with their settings, in any number, at any time. Out: after each step, the new id of every active request. One pass
computes one token of each running answer and a part of the prompts that wait (chunked prefill, Agrawal et al. 2024), so a long
prompt delays running answers by some milliseconds per step and never by its whole length. A prompt continues what a slot of the
same owner already has (model.inference.slot_table). Each row is computed and drawn by itself, so an answer depends on nothing but
its prompt, its settings and its seed, to the bit with the compiled kernel.

Sessions extend and score texts in slots of their own (`extend`, `extend_all`), which stay theirs until they are released.
Memory: `n_slots` rows of keys and values for the whole window, used only as far as they are filled. Time: O(weights + past) per
step for up to four rows, then linear.
Paper: Yu et al. 2022 (Orca).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.inference.prefix import check_prompt
from model.inference.sampling import Sampling
from model.inference.slot_table import SlotTable
from model.inference.token_controls import LogitControls, LogitProcessor
from model.machine.row_sampling import choose_rows, compute_log_probs
from model.network.config import ModelConfig

PART_TOKENS = 64  # of one prompt per step: more would not be faster (model.inference.decoder)
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class StepEngine(Protocol):
    """Computes logits and knows no requests. A slot is a row of its KV cache."""

    config: ModelConfig

    @property
    def n_parallel(self) -> int:
        """How many prompts are computed at once as fast as one."""
        ...

    def compute(self, ids: Rows, slots: Rows, positions: Rows, wanted: Rows) -> Floats:
        """Compute tokens; the tokens of a slot are neighbors and ascend. Return the logits after the `wanted` ones."""
        ...

    def copy_tokens(self, source: int, target: int, n_tokens: int) -> None: ...


@dataclass(frozen=True, eq=False)
class Generation:
    """One answer that is asked for. `owner`: whose it is; cached tokens are shared between requests of one owner only.
    `banned`: an id that is never chosen, -1 for none. `expires_at`: the time of the caller's clock at which a request that still
    waits is dropped."""

    prompt: Sequence[int]
    sampling: Sampling
    stop_ids: frozenset[int] = frozenset()
    controls: LogitControls = field(default_factory=LogitControls)
    owner: str = ""
    banned: int = -1
    expires_at: float = float("inf")


@dataclass(frozen=True, eq=False)
class TokenDetail:
    """The log-probability of a chosen token before any control, and the most probable ids with theirs."""

    logprob: float
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Ending:
    """The end of a request. `reason`: end (a stop id, or the constraint is complete), length, window, expired or error.
    `logits` are the result of an extension."""

    reason: Literal["end", "length", "window", "expired", "error"]
    n_reused: int = 0
    error: BaseException | None = None
    logits: Floats | None = None


class TokenEvent(NamedTuple):
    """The result of a step for one request: an id, or None when the request is done."""

    ticket: int
    id: int | None
    detail: TokenDetail | Ending | None = None


class Lease:
    """A slot that one session uses alone from its first extension until it is released. `n_reused`: tokens of the last extended
    prompt that were cached."""

    def __init__(self, owner: str) -> None:
        self.owner, self.slot, self.n_reused = owner, -1, 0


class _Rows(NamedTuple):
    """The running answers as arrays, in the order of their rows: rebuilt when one begins or ends, not in every step."""

    tasks: list[_Task]
    slots: Rows
    all_rows: Rows
    temperatures: NDArray[np.float64]
    top_ks: Rows
    top_ps: NDArray[np.float64]
    seeds: NDArray[np.uint64]
    banned: Rows
    processed: list[int]  # rows with controls


@dataclass(eq=False)
class _Task:
    """A request: ids that have to be computed in a slot, then answers token by token, or logits."""

    ticket: int
    owner: str
    prompt: Sequence[int]
    expires_at: float = float("inf")
    generation: Generation | None = None
    lease: Lease | None = None
    wants_all: bool = False
    processor: LogitProcessor | None = None
    slot: int = -1
    position: int = 0  # of the next token of the prompt
    end: int = 0  # position behind the prompt
    n_left: int = 0
    n_reused: int = 0
    logits: list[Floats] = field(default_factory=list[Floats])


class Batcher:
    """Call `add` at any time and `step` while `is_busy`. Not thread-safe: a service runs it in a thread of its own."""

    def __init__(self, engine: StepEngine, n_slots: int = 16) -> None:
        if n_slots < 1:
            raise ValueError(f"n_slots must be at least 1; found {n_slots}; raise it.")
        self._engine, self.config = engine, engine.config
        self._table = SlotTable(n_slots, engine.config.seq_len)
        self._tasks: dict[int, _Task] = {}  # all, by ticket
        self._waiting: list[_Task] = []  # for a slot
        self._computing: list[_Task] = []  # their prompts, first come first served
        self._running: dict[int, _Task] = {}  # answers, by slot
        self._rows: _Rows | None = None  # of the running answers
        self._n_tickets = 0
        self._last, self._numbers, self._top_k = (np.zeros(n_slots, np.int64) for _ in range(3))
        self._banned = np.full(n_slots, -1, np.int64)
        self._temperature, self._top_p = np.zeros(n_slots), np.ones(n_slots)
        self._seeds = np.zeros(n_slots, np.uint64)

    @property
    def is_busy(self) -> bool:
        """Whether any request is waiting or active."""
        return bool(self._tasks)

    @property
    def can_step(self) -> bool:
        """Whether a step would compute anything: not while all slots are leased and only their sessions can go on."""
        return bool(self._running or self._computing or (self._waiting and self._table.n_free))

    @property
    def n_waiting(self) -> int:
        """The number of requests without a slot."""
        return len(self._waiting)

    @property
    def n_active(self) -> int:
        """The number of requests with a slot."""
        return len(self._tasks) - len(self._waiting)

    def add(
        self, prompt: Sequence[int] | Generation, sampling: Sampling | None = None, *, stop_ids: Collection[int] = ()
    ) -> int:
        """Add a request. Return its ticket, which events refer to. Raises: ValueError for a prompt that is empty or too long."""
        if not isinstance(prompt, Generation):
            prompt = Generation(prompt, sampling or Sampling(), frozenset(stop_ids))
        check_prompt(self.config, prompt.prompt)
        self._check_ids(prompt.prompt)
        n_left = min(prompt.sampling.max_tokens, self.config.seq_len - len(prompt.prompt))
        task = _Task(self._take_ticket(), prompt.owner, prompt.prompt, prompt.expires_at, prompt, n_left=n_left)
        if not prompt.controls.is_neutral:
            task.processor = LogitProcessor(prompt.controls, prompt.stop_ids, self.config.vocab_size)
        self._tasks[task.ticket] = task
        self._waiting.append(task)
        return task.ticket

    def extend(self, lease: Lease, prompt: Sequence[int]) -> int:
        """Compute a prompt in the slot of a lease, or in the one that it gets. Its `Ending` has the logits [1, V] after it.
        Raises: ValueError for a prompt that is empty or exceeds the window."""
        if not 0 < len(prompt) <= self.config.seq_len:
            raise ValueError(
                f"a prompt must have 1 to {self.config.seq_len} tokens (model.seq_len); found {len(prompt)}; shorten it."
            )
        self._check_ids(prompt)
        task = _Task(self._take_ticket(), lease.owner, prompt, lease=lease)
        self._tasks[task.ticket] = task
        if lease.slot < 0:
            self._waiting.append(task)
        else:
            self._start(task, lease.slot, self._table.count_shared(lease.slot, prompt))
        return task.ticket

    def extend_all(self, lease: Lease, ids: Sequence[int], position: int) -> int:
        """Compute `ids` behind the first `position` tokens of the lease's slot. The `Ending` has the logits after each of them.
        Raises: ValueError if so many are not cached, or if `ids` exceed the window."""
        n_cached = self._table.count(lease.slot) if lease.slot >= 0 else 0
        if position > n_cached or not 0 < len(ids) <= self.config.seq_len - position:
            raise ValueError(
                f"ids must follow cached ones inside the window; found {len(ids)} at {position} with {n_cached} cached "
                f"and a window of {self.config.seq_len}; extend the prompt first, or shorten them."
            )
        self._check_ids(ids)
        task = _Task(self._take_ticket(), lease.owner, ids, lease=lease, wants_all=True, slot=lease.slot)
        task.position, task.end = position, position + len(ids)
        self._tasks[task.ticket] = task
        self._computing.append(task)
        return task.ticket

    def release(self, lease: Lease) -> None:
        """Give up the slot of a lease; what it has stays for later prompts of its owner."""
        if lease.slot >= 0:
            self._table.release(lease.slot)
            lease.slot = -1

    def cancel(self, ticket: int) -> None:
        """Drop a waiting or active request. An unknown or finished one is not an error: its client may have disconnected."""
        if (task := self._tasks.get(ticket)) is not None:
            self._drop(task)

    def expire(self, now: float) -> list[TokenEvent]:
        """Drop requests that have waited too long. Return their events."""
        late = [task for task in self._waiting if task.expires_at <= now]
        return [self._end(task, Ending("expired")) for task in late]

    def fail_all(self, error: BaseException) -> list[TokenEvent]:
        """Drop all requests and forget all cached tokens: after a step that failed nothing in the slots can be trusted."""
        events = [self._end(task, Ending("error", error=error)) for task in list(self._tasks.values())]
        self._table.forget()
        return events

    def forget(self, owner: str) -> None:
        """Forget the tokens of an owner's slots that are not in use."""
        self._table.forget(owner)

    def step(self) -> list[TokenEvent]:
        """Run one step: one id for each running answer, a part of each prompt, and the first ids of those that are complete."""
        self._assign_slots()
        if not (self._running or self._computing):
            return []
        rows = self._rows = self._rows or self._make_rows(list(self._running.values()))
        running = rows.slots
        parts = self._take_parts() if self._computing else []
        ids, slots, positions, wanted, ends = self._lay_out(rows, parts)
        logits = self._engine.compute(ids, slots, positions, wanted)
        n_running = len(running)
        if n_running:
            self._table.append_each(running, positions[:n_running], ids[:n_running])
        events: list[TokenEvent] = []
        begun, numbers = list[_Task](), list[int]()
        for (task, part), end in zip(parts, ends, strict=True):
            self._table.append(task.slot, task.position, part)
            task.position += len(part)
            if task.wants_all or (task.lease is not None and task.position == task.end):
                task.logits.append(logits[end - (len(part) if task.wants_all else 1) : end])
            if task.position == task.end:
                self._computing.remove(task)
                if task.lease is not None:
                    events.append(self._end(task, Ending("end", task.n_reused, logits=np.concatenate(task.logits))))
                else:
                    self._running[task.slot] = task
                    begun.append(task)
                    numbers.append(end - 1)
        if begun:
            rows = self._rows = self._make_rows([*rows.tasks, *begun])
        if rows.tasks:
            is_all = len(rows.tasks) == len(logits)
            self._choose(rows, logits if is_all else logits[[*range(n_running), *numbers]], events)
        return events

    def _make_rows(self, tasks: list[_Task]) -> _Rows:
        slots = np.array([task.slot for task in tasks], np.int64)
        settings = self._temperature[slots], self._top_k[slots], self._top_p[slots], self._seeds[slots]
        processed = [row for row, task in enumerate(tasks) if task.processor is not None]
        return _Rows(tasks, slots, np.arange(len(slots)), *settings, self._banned[slots], processed)

    def _check_ids(self, ids: Sequence[int]) -> None:
        """Raise ValueError for ids that the model does not have; the kernel would read beyond its tables."""
        if min(ids) < 0 or max(ids) >= self.config.vocab_size:
            bad = next(index for index in ids if not 0 <= index < self.config.vocab_size)
            raise ValueError(f"ids must be from 0 to {self.config.vocab_size - 1}; found {bad}; use the tokenizer's.")

    def _take_ticket(self) -> int:
        self._n_tickets += 1
        return self._n_tickets

    def _assign_slots(self) -> None:
        """Give free slots to waiting requests: of the owner who has the fewest active ones, the oldest."""
        n_free = min(self._table.n_free, len(self._waiting))
        if not n_free:
            return
        n_active = Counter(task.owner for task in self._tasks.values() if task.slot >= 0)
        for _ in range(n_free):
            task = min(self._waiting, key=lambda task: n_active[task.owner])
            n_active[task.owner] += 1
            self._waiting.remove(task)
            choice = self._table.occupy(task.owner, task.prompt)
            if choice.n_reused and choice.source != choice.slot:
                self._engine.copy_tokens(choice.source, choice.slot, choice.n_reused)
            if task.lease is not None:
                task.lease.slot = choice.slot
            self._start(task, choice.slot, choice.n_reused)

    def _start(self, task: _Task, slot: int, n_reused: int) -> None:
        task.slot, task.position, task.end, task.n_reused = slot, n_reused, len(task.prompt), n_reused
        if task.lease is not None:
            task.lease.n_reused = n_reused
        if task.generation is not None:
            sampling = task.generation.sampling
            self._temperature[slot], self._top_k[slot] = sampling.temperature, sampling.top_k
            self._top_p[slot], self._seeds[slot], self._numbers[slot] = sampling.top_p, sampling.seed, 0
            self._banned[slot] = task.generation.banned
        self._computing.append(task)

    def _take_parts(self) -> list[tuple[_Task, Sequence[int]]]:
        """Return what is computed of the prompts in this step: as much as is computed at once as fast as one part."""
        n_left, parts = PART_TOKENS * self._engine.n_parallel, list[tuple[_Task, Sequence[int]]]()
        for task in self._computing:
            if n_left == 0:
                break
            start = len(task.prompt) - (task.end - task.position)
            part = task.prompt[start : start + min(PART_TOKENS, n_left)]
            n_left -= len(part)
            parts.append((task, part))
        return parts

    def _lay_out(
        self, rows: _Rows, parts: list[tuple[_Task, Sequence[int]]]
    ) -> tuple[Rows, Rows, Rows, Rows, list[int]]:
        """Return the rows of a step: ids, slots, positions, the numbers of those whose logits are wanted, and for each part how
        many are wanted up to its end."""
        running = rows.slots
        positions = self._table.count_each(running)
        if not parts:
            return self._last[running], running, positions, rows.all_rows, []
        lengths = [len(part) for _, part in parts]
        starts = np.cumsum([len(running), *lengths])
        wanted, ends = [rows.all_rows], list[int]()
        n_wanted = len(running)
        for (task, part), start in zip(parts, starts, strict=False):
            n = len(part) if task.wants_all else int(task.position + len(part) == task.end)
            wanted.append(np.arange(start + len(part) - n, start + len(part)))
            n_wanted += n
            ends.append(n_wanted)
        return (
            np.concatenate([self._last[running], *(np.array(part, np.int64) for _, part in parts)]),
            np.concatenate([running, np.repeat([task.slot for task, _ in parts], lengths)]),
            np.concatenate([positions, *(np.arange(task.position, task.position + len(part)) for task, part in parts)]),
            np.concatenate(wanted),
            ends,
        )

    def _choose(self, rows: _Rows, logits: Floats, events: list[TokenEvent]) -> None:
        """Choose the next id of each answer; those with controls change their row first."""
        log_probs, failed = self._apply_controls(rows, logits) if rows.processed else ({}, {})
        has_ban = rows.banned >= 0
        logits[has_ban, rows.banned[has_ban]] = -np.inf
        ids, numbers = np.empty(len(rows.slots), np.int64), self._numbers[rows.slots]
        settings = rows.temperatures, rows.top_ks, rows.top_ps, rows.seeds
        choose_rows(np.ascontiguousarray(logits), *settings, numbers, ids)
        self._last[rows.slots] = ids
        self._numbers[rows.slots] = numbers + 1
        for row, (task, index) in enumerate(zip(rows.tasks, ids.tolist(), strict=True)):
            if row in failed:
                events.append(self._end(task, Ending("error", task.n_reused, failed[row])))
                continue
            detail = None
            if row in log_probs:
                assert task.processor is not None
                detail = _describe_token(log_probs[row], index, task.processor.controls.n_logprobs or 0)
            self._take(task, index, detail, events)

    def _apply_controls(
        self, rows: _Rows, logits: Floats
    ) -> tuple[dict[int, NDArray[np.float64]], dict[int, BaseException]]:
        """Change the rows of answers with controls. Return the log-probabilities that were asked for, and errors, by row."""
        log_probs, failed = dict[int, NDArray[np.float64]](), dict[int, BaseException]()
        for row in rows.processed:
            processor = rows.tasks[row].processor
            assert processor is not None
            if processor.controls.n_logprobs is not None:
                log_probs[row] = compute_log_probs(logits[row])
            try:
                processor.change(logits[row])
            except Exception as error:
                failed[row] = error
        return log_probs, failed

    def _take(self, task: _Task, index: int, detail: TokenDetail | None, events: list[TokenEvent]) -> None:
        generation = task.generation
        assert generation is not None
        task.n_left -= 1
        is_done = index in generation.stop_ids
        if not is_done:
            events.append(TokenEvent(task.ticket, index, detail))
            if task.processor is not None:
                try:
                    is_done = task.processor.accept(index)
                except Exception as error:
                    events.append(self._end(task, Ending("error", task.n_reused, error)))
                    return
        if is_done:
            events.append(self._end(task, Ending("end", task.n_reused)))
        elif task.n_left == 0:
            has_room = len(task.prompt) + generation.sampling.max_tokens <= self.config.seq_len
            events.append(self._end(task, Ending("length" if has_room else "window", task.n_reused)))

    def _end(self, task: _Task, ending: Ending) -> TokenEvent:
        self._drop(task)
        return TokenEvent(task.ticket, None, ending)

    def _drop(self, task: _Task) -> None:
        """Forget a task. Its slot is free again, unless it is leased: then the session releases it."""
        del self._tasks[task.ticket]
        for tasks in (self._waiting, self._computing):
            if task in tasks:
                tasks.remove(task)
        if task.slot >= 0 and task.lease is None:
            if self._running.pop(task.slot, None) is not None:
                self._rows = None
            self._table.release(task.slot)


def _describe_token(log_probs: NDArray[np.float64], index: int, n_alternatives: int) -> TokenDetail:
    best = np.argsort(-log_probs, kind="stable")[:n_alternatives]
    return TokenDetail(float(log_probs[index]), tuple((int(other), float(log_probs[other])) for other in best))


def collect_answers(batcher: Batcher, tickets: Iterable[int]) -> list[list[int]]:
    """Run steps until all requests are done. Return the ids of each ticket."""
    answers: dict[int, list[int]] = {ticket: [] for ticket in tickets}
    while batcher.is_busy:
        for event in batcher.step():
            if event.id is not None and event.ticket in answers:
                answers[event.ticket].append(event.id)
    return list(answers.values())
