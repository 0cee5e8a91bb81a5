"""Iterate a blocking generator in a worker thread from asynchronous code.

In: a function that makes a generator. Out: its items, in order. Leaving the iterator early closes the generator in its thread and
waits for that, so nothing goes on computing for a client that has left. Memory: items that the reader has not taken yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor
from threading import Event as Flag
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


async def stream_from_thread(
    workers: Executor, make_items: Callable[[], Generator[T, None, Any]]
) -> AsyncGenerator[T, None]:
    """Yield the items of a generator that runs in a worker thread. Raises: what the generator raises."""
    loop, queue, is_left = asyncio.get_running_loop(), asyncio.Queue[Any](), Flag()

    def run() -> None:
        try:
            items = make_items()
            try:
                for item in items:
                    if is_left.is_set():
                        return
                    loop.call_soon_threadsafe(queue.put_nowait, item)
            finally:
                items.close()
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, _END)

    task = loop.run_in_executor(workers, run)
    try:
        while (item := await queue.get()) is not _END:
            yield item
        await task
    finally:
        is_left.set()
        if not task.done():
            await asyncio.shield(asyncio.wait([task]))
