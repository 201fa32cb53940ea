"""Work that is done ahead of whoever asks for it, on a thread of its own, with a bound on how far."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

LEFT_TO_THE_SOURCE = 1.0
"""Seconds that a thread gets to come back from the source."""


def ahead(prepare: Callable[[T], U], source: Iterable[T], depth: int = 2) -> Generator[tuple[T, U], None, None]:
    """(each, prepare(each)) of a source in its order; a thread prepares up to ``depth`` of them before they are asked
    for. Errors of source and prepare come out where they belong. Closing the generator ends the thread; one that waits
    in the source (a terminal, a pipe) is left there, and prepares nothing more."""
    made: queue.Queue[tuple[T, U] | BaseException | None] = queue.Queue(maxsize=depth)
    stopped, preparing = threading.Event(), threading.Lock()

    def put(value: tuple[T, U] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return made.put(value, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for each in source:
                with preparing:
                    if stopped.is_set():
                        return
                    made_of_it = prepare(each)
                put((each, made_of_it))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="batch-ahead", daemon=True)
    thread.start()
    try:
        while (value := made.get()) is not None:
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        stopped.set()
        with preparing:
            pass  # it uses what the caller is about to close
        thread.join(LEFT_TO_THE_SOURCE)
