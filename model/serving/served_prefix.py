"""The prefix of a session whose tokens an engine thread computes, together with those of everyone else.

In: prompts and candidates of one conversation. Out: the same logits and ids as a prefix of its own would give, to the bit with
the compiled kernel. What is cached belongs to the owner (a tenant): its conversations share prefixes, and those that
were idle for long are computed again. Memory: none of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager

from model.inference.batching import Ending, Generation, Lease
from model.inference.prefix import Floats, Prefix, check_prompt
from model.inference.sampling import Sampling
from model.serving.engine_thread import EngineThread, QueueReceiver


class ServedPrefix(Prefix):
    """A prefix at an engine thread. While it is occupied, the slot that it extends is its own."""

    def __init__(self, thread: EngineThread, owner: str) -> None:
        super().__init__(thread.config)
        self._thread, self._owner = thread, owner
        self._lease: Lease | None = None

    @contextmanager
    def occupy(self) -> Generator[None]:
        """Use the prefix alone, with one slot from the first extension on. Raises: ValueError while another answer is generated."""
        with super().occupy():
            lease = self._lease = Lease(self._owner)
            try:
                yield
            finally:
                self._lease = None
                self._thread.tell(lambda batcher: batcher.release(lease))

    def extend(self, prompt: Sequence[int]) -> Floats:
        lease = self._get_lease()
        ending = self._thread.ask(lambda batcher: batcher.extend(lease, prompt))
        self.n_reused, self.n_computed = ending.n_reused, len(prompt) - ending.n_reused
        return _get_logits(ending)

    def extend_all(self, ids: Sequence[int], position: int) -> Floats:
        lease = self._get_lease()
        return _get_logits(self._thread.ask(lambda batcher: batcher.extend_all(lease, ids, position)))

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()
    ) -> Generator[int, None, None]:
        check_prompt(self.config, prompt)
        receiver = QueueReceiver()
        with super().occupy():
            generation = Generation(prompt, sampling, frozenset(stop_ids), owner=self._owner)
            submission = self._thread.submit(generation, receiver, is_bounded=False)
            try:
                yield from self._read(receiver, len(prompt))
            finally:
                self._thread.cancel(submission)

    def _read(self, receiver: QueueReceiver, n_prompt: int) -> Generator[int, None, None]:
        while True:
            for _, index, detail in receiver.take():
                if index is not None:
                    yield index
                elif isinstance(detail, Ending):
                    self.n_reused, self.n_computed = detail.n_reused, n_prompt - detail.n_reused
                    if detail.error is not None:
                        raise detail.error
                    return

    def _get_lease(self) -> Lease:
        if self._lease is None:
            raise ValueError("a prefix is extended while it is occupied; found it free; call occupy() first.")
        return self._lease


def _get_logits(ending: Ending) -> Floats:
    assert ending.logits is not None
    return ending.logits
