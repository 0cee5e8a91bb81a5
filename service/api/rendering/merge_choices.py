"""Run the choices of an answer side by side, each read by its `ChoiceReader`.

In: an open answer, and a reader for each choice. Out: (choice, what a client is shown, whether the choice has ended), in the order
in which it comes. A choice that a stop string has ended is closed at once; leaving early closes all, which cancels the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from service.answers.answering import OpenAnswer
from service.api.rendering.answer_reader import ChoiceReader, Delta

MAX_WAITING = 256  # steps that the client has not taken yet; then the choices wait
Step = tuple[int, list[Delta], bool]


async def merge_choices(answer: OpenAnswer, readers: Sequence[ChoiceReader]) -> AsyncGenerator[Step, None]:
    """Yield the steps of all choices. Raises: what a choice raises."""
    if len(readers) == 1:
        async with aclosing(_read_choice(answer, 0, readers[0])) as steps:
            async for step in steps:
                yield step
        return
    queue: asyncio.Queue[Step | BaseException] = asyncio.Queue(MAX_WAITING)

    async def run(choice: int) -> None:
        try:
            async with aclosing(_read_choice(answer, choice, readers[choice])) as steps:
                async for step in steps:
                    await queue.put(step)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.create_task(run(choice)) for choice in range(len(readers))]
    try:
        n_open = len(tasks)
        while n_open:
            step = await queue.get()
            if isinstance(step, BaseException):
                raise step
            n_open -= step[2]
            yield step
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_choice(answer: OpenAnswer, choice: int, reader: ChoiceReader) -> AsyncGenerator[Step, None]:
    async with aclosing(answer.stream(choice)) as events:
        async for event in events:
            if deltas := reader.take(event):
                yield choice, deltas, False
            if reader.is_stopped:
                break
    yield choice, reader.finish(), True
