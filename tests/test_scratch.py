"""Memory that is used again belongs to one caller at a time."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from quickdraw_core.system import scratch as module
from quickdraw_core.system.scratch import MAX_KEPT, scratch

COUNT = 3 << 20


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that other tests took are not there."""
    monkeypatch.setattr(module, "_kept", module._Kept())


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_an_array_is_used_again_once_nothing_refers_to_it() -> None:
    first, second = scratch(COUNT), scratch(COUNT)
    places = {address(first), address(second)}
    assert len(places) == 2
    del first, second
    again = scratch(COUNT // 4, np.uint16)
    assert address(again) in places
    assert (again.dtype, again.shape) == (np.uint16, (COUNT // 4,))


@pytest.mark.parametrize(
    "hold", [lambda a: a[5:9], lambda a: memoryview(a[:3].data), pa.py_buffer]
)
def test_whatever_refers_to_an_array_keeps_it(hold) -> None:  # type: ignore[no-untyped-def]
    array = scratch(COUNT)
    place, held = address(array), hold(array)
    del array
    others = [scratch(COUNT) for _ in range(2 * MAX_KEPT)]
    assert place not in map(address, others)
    del held


def test_more_than_is_kept_can_be_taken() -> None:
    arrays = [scratch(COUNT) for _ in range(3 * MAX_KEPT)]
    for number, array in enumerate(arrays):
        array[:] = number
    assert [int(array[-1]) for array in arrays] == list(range(3 * MAX_KEPT))


def test_each_thread_has_its_own() -> None:
    place = address(scratch(COUNT))  # free again here
    found = list[int]()
    thread = threading.Thread(target=lambda: found.append(address(scratch(COUNT))))
    thread.start()
    thread.join()
    assert found != [place]
