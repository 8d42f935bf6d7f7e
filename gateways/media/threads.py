"""Threads for calls that may hang: an engine that stops does not wait for them."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class DaemonThreads:
    """As many as there are calls at once, up to a bound. (Python waits for those of `concurrent.futures` when it ends,
    whatever they hang on.)"""

    def __init__(self, threads_max: int, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        """Calls that were made and are not answered."""

    async def call(self, work: Callable[[], T]) -> T:
        """Whatever the work raises. Cancelled, it goes on for itself."""
        self._busy += 1
        if self._threads < min(self._busy, self._threads_max):
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put((work, answer, loop))
        try:
            return await answer
        finally:
            self._busy -= 1

    def close(self) -> None:
        """Each thread ends when it has done what it does."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            work, answer, loop = call
            try:
                result, error = work(), None
            except BaseException as raised:  # it is raised where it is waited for
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(_settle, answer, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits
            del call, work, answer, result, error


def _settle(answer: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
