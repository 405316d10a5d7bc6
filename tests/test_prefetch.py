import threading
import time
from collections.abc import Iterator

import pytest

from quickdraw_core.system.prefetch import THREAD_NAME, prefetched


def alive(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_come_in_order_whoever_is_first(threads: int, depth: int) -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.002 if number % 2 == 0 else 0)
        return number

    assert list(prefetched(slow_when_even, range(5, 45, 3), threads, depth)) == list(
        range(5, 45, 3)
    )
    assert list(prefetched(slow_when_even, range(0), threads, depth)) == []
    assert alive(THREAD_NAME) == 0


def test_without_threads_an_item_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []
    stream = prefetched(made.append, range(5, 1_000, 3), 0, 4)
    assert alive(THREAD_NAME) == 0
    for used in range(1, 5):
        next(stream)
        assert made == list(range(5, 1_000, 3))[:used]
    assert list(prefetched(lambda number: number, range(5, 45, 3), 0, 4)) == list(range(5, 45, 3))


def test_threads_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=30)
    assert len(list(prefetched(lambda number: together.wait(), range(3), 3, 3))) == 3


def test_no_more_is_made_ahead_than_was_allowed() -> None:
    made: list[int] = []
    stream = prefetched(made.append, range(1 << 80), 2, 4)
    for used in range(1, 50):
        next(stream)
        assert max(made) < used + 4
    stream.close()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_is_raised_at_its_place_and_ends_the_threads(threads: int) -> None:
    def make(number: int) -> int:
        if number == 6:
            raise OSError("disk gone")
        return number

    stream = prefetched(make, range(1_000), threads, 4)
    assert [next(stream) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(OSError, match="disk gone"):
        next(stream)
    assert alive(THREAD_NAME) == 0


def test_closing_makes_nothing_more_and_leaves_no_thread() -> None:
    made: list[int] = []
    stream = prefetched(made.append, range(1 << 62), 3, 50)
    next(stream)
    stream.close()
    assert alive(THREAD_NAME) == 0
    count = len(made)
    assert count <= 51
    del stream
    assert len(made) == count


def test_a_stream_that_is_dropped_leaves_no_thread() -> None:
    stream = prefetched(lambda number: number, range(1 << 62), 3, 5)
    next(stream)
    del stream
    assert alive(THREAD_NAME) == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_the_items_is_raised_at_its_place(threads: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("disk gone")

    found = []
    with pytest.raises(OSError, match="disk gone"):
        found.extend(prefetched(lambda item: item, items(), threads, 1))
    assert found == [1, 2]
