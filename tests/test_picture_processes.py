"""Pictures are read in processes that can be killed: one that hangs or crashes costs itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import picture_of
from forkserver import real_python
from processes import children_of
from service import until

from quickdraw_core.errors import PictureError, ReaderError
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.processes import PictureProcesses
from quickdraw_core.formats.pictures.reading import strokes_of_picture
from quickdraw_core.serving.drawing_files import drawings_of

WORKER = "quickdraw_core.formats.pictures.worker"
STROKES = [([10.0, 200, 240], [20.0, 30, 200]), ([50.0, 60], [90.0, 150])]
PICTURE = picture_of(STROKES, "screenshot", 3, longest_px=400)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[PictureProcesses]:
    """One process, with time enough on a busy machine."""
    monkeypatch.setattr(sys, "executable", real_python())
    with PictureProcesses(1, 60) as processes:
        yield processes


def test_strokes_are_those_that_are_read_in_this_process(processes: PictureProcesses) -> None:
    expected = strokes_of_picture(open_picture(PICTURE))
    for _ in range(2):
        picture = processes.read(PICTURE)
        assert np.array_equal(picture.pixels, expected.pixels)
        assert np.array_equal(picture.ink, expected.ink)
        assert picture.pen_px == expected.pen_px
        for found, wanted in zip(picture.strokes, expected.strokes, strict=True):
            assert np.array_equal(found, wanted)
    assert len(children_of(WORKER)) == 1  # started once
    with pytest.raises(PictureError, match="100 are allowed"):
        processes.read(PICTURE, max_pixels=100)


def test_a_picture_that_never_ends_costs_that_picture(
    processes: PictureProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = processes.read(PICTURE).drawing
    (worker,) = children_of(WORKER)
    os.kill(worker, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(processes._all[0], "_seconds", 0.2)
        with pytest.raises(PictureError, match=r"takes more than 0\.2 seconds"):
            processes.read(PICTURE)
    assert not Path("/proc", str(worker)).exists()
    assert processes.read(PICTURE).drawing.strokes(0) == drawing.strokes(0)


def test_a_picture_that_crashes_its_process_costs_that_picture(
    processes: PictureProcesses,
) -> None:
    processes.read(PICTURE)
    (worker,) = children_of(WORKER)
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(processes.read, PICTURE)
        os.kill(worker, signal.SIGSEGV)
        os.kill(worker, signal.SIGCONT)
        with pytest.raises(PictureError, match="the process that read it was ended"):
            reading.result()
    assert processes.read(PICTURE).strokes


def test_a_process_that_was_killed_while_it_waited_is_started_again(
    processes: PictureProcesses,
) -> None:
    processes.read(PICTURE)
    (worker,) = children_of(WORKER)
    os.kill(worker, signal.SIGKILL)
    running = processes._all[0]._running
    assert running is not None
    until(lambda: running[0].poll() is not None, 60, "its end")
    assert processes.read(PICTURE).strokes


def test_closing_ends_the_processes_and_who_reads_is_refused(
    processes: PictureProcesses,
) -> None:
    processes.read(PICTURE)
    (worker,) = children_of(WORKER)
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(processes.read, PICTURE)
        until(lambda: processes._free.empty(), 60, "the reading")
        processes.close()
        with pytest.raises(PictureError, match="was ended"):
            reading.result()
    assert not Path("/proc", str(worker)).exists()
    with pytest.raises(PictureError, match="was ended"):
        processes.read(PICTURE)
    assert children_of(WORKER) == []


def test_after_closing_pictures_are_refused_though_none_was_read_meanwhile(
    processes: PictureProcesses,
) -> None:
    processes.close()
    for _ in range(2):
        with pytest.raises(PictureError, match="was ended"):
            processes.read(PICTURE)
    assert children_of(WORKER) == []


def test_a_missing_library_is_named_and_stops_the_pictures_of_a_command(
    processes: PictureProcesses,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'skimage'\", name='skimage')"
    (tmp_path / "skimage.py").write_text(missing)
    (tmp_path / "sun.png").write_bytes(PICTURE)
    paths = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", paths.rstrip(os.pathsep))
        with pytest.raises(ReaderError, match=r"scikit-image cannot be .* extra named serve"):
            list(drawings_of(str(tmp_path / "sun.png"), processes.read))
    assert capfd.readouterr().err == ""
    assert children_of(WORKER) == []
    assert processes.read(PICTURE).strokes


def test_a_process_that_cannot_be_started_is_no_fault_of_the_picture(
    processes: PictureProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(ReaderError, match=r"no process can be started: .*No such file"):
        processes.read(PICTURE)


def test_a_process_ends_with_the_one_that_started_it() -> None:
    program = (
        "import sys, time; from quickdraw_core.formats.pictures.processes import *\n"
        "processes = PictureProcesses(1, 60)\n"
        "try: processes.read(b'')\n"
        "except PictureError as error: print(processes._all[0]._running[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    words = [real_python(), "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, signal.SIGSTOP)  # as if it read for ever
        parent.kill()
    until(lambda: not Path("/proc", str(worker)).exists(), 60, "the end of the process")
