"""Work ahead of whoever asks for it: in order, errors where they belong, and an end also while the source waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from personaplug_edge.batch.ahead import ahead


def test_in_order_and_no_farther_than_asked() -> None:
    prepared: list[int] = []

    def prepare(number: int) -> int:
        prepared.append(number)
        return -number

    made = ahead(prepare, range(100), depth=2)
    assert [next(made) for _ in range(3)] == [(0, 0), (1, -1), (2, -2)]
    time.sleep(0.05)
    made.close()
    assert prepared == list(range(len(prepared))) and len(prepared) <= 3 + 2 + 1


def test_errors_come_where_they_belong() -> None:
    def source() -> Iterator[int]:
        yield 4
        yield 0
        raise OSError("gone")

    made = ahead(lambda number: 8 // number, source())
    assert next(made) == (4, 2)
    with pytest.raises(ZeroDivisionError):
        next(made)
    made = ahead(lambda number: number, source())
    assert [next(made)[0] for _ in range(2)] == [4, 0]
    with pytest.raises(OSError, match="gone"):
        next(made)


def test_closing_does_not_wait_for_a_source_that_does() -> None:
    come, prepared = threading.Event(), []

    def source() -> Iterator[str]:
        yield "first"
        come.wait(60)  # a terminal
        yield "too late"

    made = ahead(prepared.append, source())
    assert next(made)[0] == "first"
    start = time.monotonic()
    made.close()
    assert time.monotonic() - start < 30
    come.set()
    time.sleep(0.2)
    assert prepared == ["first"]


def test_closing_waits_for_what_is_being_prepared() -> None:
    begun, ended = threading.Event(), threading.Event()

    def prepare(number: int) -> None:
        if number == 1:
            begun.set()
            time.sleep(0.3)
            ended.set()

    made = ahead(prepare, range(3))
    next(made)
    assert begun.wait(20)
    made.close()
    assert ended.is_set()
