"""A file that is read past the page cache has the same bytes."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quickdraw_core.reading.blocks import _read_after
from quickdraw_core.system import direct_file
from quickdraw_core.system.direct_file import PAGE_BYTES, DirectFile

SIZE = (3 << 20) + 1_234


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("direct") / "bytes"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes())
    return path


def forget(path: Path) -> None:
    """Drops the file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each request to the disk gave."""
    given_bytes: list[int] = []
    real = os.preadv

    def preadv(file: int, buffers: Any, offset: int) -> int:
        count = real(file, buffers, offset)
        given_bytes.append(count)
        return count

    monkeypatch.setattr(direct_file.os, "preadv", preadv)
    monkeypatch.setattr(DirectFile, "_is_on_disk_only", lambda *_: True)
    return given_bytes


def read_on(file: DirectFile, sizes: list[int]) -> bytes:
    """The whole file, in reads of these sizes, each behind some bytes of the one before."""
    whole, rest, at_end = b"", np.empty(0, np.uint8), False
    while not at_end:
        size = sizes.pop(0) if sizes else SIZE
        data, at_end = _read_after(file, rest, size)  # type: ignore[arg-type]
        kept = min(len(data), size % 700)
        whole += data[: len(data) - kept].tobytes()
        rest = data[len(data) - kept :].copy()
    return whole + rest.tobytes()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, SIZE), st.lists(st.integers(1, SIZE), max_size=4))
def test_any_reads_give_the_file(
    path: Path, counted: list[int], begin: int, sizes: list[int]
) -> None:
    with DirectFile(path) as file:
        file.seek(begin)
        assert read_on(file, sizes) == path.read_bytes()[begin:]


def on_a_disk(path: Path) -> bool:
    """Whether files here can be read past the page cache at all."""
    with DirectFile(path) as file:
        return file._direct is not None


def test_a_large_read_comes_from_the_disk_in_one_piece_after_another(
    path: Path, counted: list[int]
) -> None:
    if not on_a_disk(path):
        pytest.skip("the file system has no disk of its own")
    with DirectFile(path) as file:
        read_on(file, [SIZE])
    assert sum(counted) > SIZE - 2 * PAGE_BYTES


def test_what_is_in_memory_is_not_asked_of_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.read_bytes()

    def refuse(*_: object) -> int:
        raise AssertionError("asked the disk")

    monkeypatch.setattr(direct_file.os, "preadv", refuse)
    for asked in (SIZE, 10 * SIZE):  # more than there is
        with DirectFile(path) as file:
            assert read_on(file, [asked]) == path.read_bytes()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_disk_that_refuses_is_read_in_the_ordinary_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls: list[int] = []

    def refuse(*_: object) -> int:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(direct_file.os, "preadv", refuse)
    monkeypatch.setattr(DirectFile, "_is_on_disk_only", lambda *_: True)
    with DirectFile(path) as file:
        assert read_on(file, [1 << 20]) == path.read_bytes()
    assert len(calls) <= 1


def test_a_disk_that_fails_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not on_a_disk(path):
        pytest.skip("the file system has no disk of its own")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(direct_file.os, "preadv", fail)
    monkeypatch.setattr(DirectFile, "_is_on_disk_only", lambda *_: True)
    with DirectFile(path) as file, pytest.raises(OSError, match="Input/output"):
        read_on(file, [SIZE])


def test_a_file_that_left_the_memory_is_read_again(path: Path) -> None:
    forget(path)
    with DirectFile(path) as file:
        assert read_on(file, [SIZE]) == path.read_bytes()
        file.close()
        file.close()
