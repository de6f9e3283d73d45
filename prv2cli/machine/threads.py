"""Threads that do one thing after another, and do not keep the program from ending."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Worker:
    """Daemon threads with one queue. concurrent.futures' threads are joined at exit, so Ctrl-C would wait for them."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Have the function called; its result or exception comes in the Future."""
        future: Future[Result] = Future()
        self._queue.put((future, function))
        return future

    def stop(self, patience: float | None = None) -> None:
        """Drop what has not begun, and wait for what has; at most `patience` seconds, where given."""
        deadline = None if patience is None else time.monotonic() + patience
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[0].cancel()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._do(*item)
            del item  # while waiting for the next one, nothing of this one is held

    @staticmethod
    def _do(future: Future[Any], function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except BaseException as error:  # it is the waiting thread's to handle
            future.set_exception(error)
