"""Pictures read in processes that can be killed: `PictureProcesses`.

A decoder that hangs or crashes on a picture from anywhere then costs that picture alone, and
tracing, which is Python, holds up no other thread of this process (docs/decisions/0037).
"""

import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from queue import Empty, LifoQueue
from threading import Lock

from quickdraw_core.errors import PictureError, ReaderError, first_line
from quickdraw_core.formats.pictures.opening import MAX_BYTES, MAX_PIXELS
from quickdraw_core.formats.pictures.strokes import PictureStrokes
from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.threads import NUM_THREADS

START_SECONDS = 60.0
"""For a process to load its libraries; it takes one, and more on a busy machine."""

_GIVEN_UP = "save it as a plain PNG, or crop it to the drawing"
READ, REFUSED = b"+", b"-"
"""What an answer begins with; the picture's strokes follow, or a sentence. The first answer says
whether the process has started.
"""
_PROGRAM = "quickdraw_core.formats.pictures.worker"


class PictureProcesses:
    """Some processes, each started for the first picture that finds no other one free, and again
    for the next picture after it was killed. Several threads may read at once.

    seconds: how long a picture may take. Close it at the end.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._free: LifoQueue[_Process] = LifoQueue()  # the one that was used last has started
        self._all = [_Process(seconds) for _ in range(count)]
        for process in reversed(self._all):
            self._free.put(process)

    def read(
        self, data: bytes, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
    ) -> PictureStrokes:
        """The strokes in the bytes of a picture's file: `open_picture`, `strokes_of_picture`.

        Raises `PictureError`: theirs, and if it takes too long or ends the process. `ReaderError`:
        no process can be started.
        """
        process = self._free.get()
        try:
            return process.read(data, max_bytes, max_pixels)
        finally:
            self._free.put(process)

    def close(self) -> None:
        """Kills the processes. Pictures that are being read are refused, and so are later ones."""
        for process in self._all:
            process.kill()
        free = []
        with suppress(Empty):
            while True:
                free.append(self._free.get_nowait())
        for process in free:
            process.end()
            self._free.put(process)  # so that who comes later is refused, and does not wait

    def __enter__(self) -> "PictureProcesses":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Process:
    """One process, used by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._lock = Lock()
        self._is_closed = False

    def read(self, data: bytes, max_bytes: int, max_pixels: int) -> PictureStrokes:
        try:
            connection = self._connection()
            connection.send_bytes(b"%d %d\n" % (max_bytes, max_pixels) + data)
            if not connection.poll(self._seconds):
                self.end()
                raise PictureError(
                    f"the picture takes more than {self._seconds:g} seconds to read; {_GIVEN_UP}"
                )
            answer = connection.recv_bytes()
        except (OSError, EOFError) as error:
            self.end()
            raise PictureError(
                f"the picture cannot be read: the process that read it was ended; {_GIVEN_UP}"
            ) from error
        if answer.startswith(REFUSED):
            raise PictureError(answer[1:].decode())
        return PictureStrokes.from_bytes(answer[1:])

    def kill(self) -> None:
        """For good. Who reads at this moment ends it, since a connection in use is not closed."""
        with self._lock:
            self._is_closed = True
            if self._running is not None:
                self._running[0].kill()
                self._running[0].wait()

    def end(self) -> None:
        """Leaves nothing of the process."""
        with self._lock:
            if self._running is not None:
                process, connection = self._running
                process.kill()
                process.wait()
                connection.close()
                self._running = None

    def _connection(self) -> Connection:
        """Of the process, which is started if there is none.

        Raises `OSError`, `EOFError`, `ReaderError`.
        """
        if self._running is not None and self._running[0].poll() is not None:
            self.end()
        if self._running is None:
            self._start()
        assert self._running is not None
        return self._running[1]

    def _start(self) -> None:
        environment = child_environment() | {NUM_THREADS: "1"}
        with self._lock:
            if self._is_closed:
                raise EOFError
            try:
                self._running = _started(environment)
            except OSError as error:
                raise ReaderError(
                    f"pictures cannot be read: no process can be started: {first_line(error)}; "
                    "end other programs, or raise the limits of processes, files and memory"
                ) from error
            connection = self._running[1]
        if not connection.poll(START_SECONDS):
            self.end()
            raise ReaderError(
                "pictures cannot be read: the process that reads them takes more than "
                f"{START_SECONDS:g} seconds to start; try again when this machine is less busy"
            )
        answer = connection.recv_bytes()
        if answer.startswith(REFUSED):
            self.end()
            raise ReaderError(answer[1:].decode())


def _started(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    """A process that reads pictures, and the connection to it. Raises `OSError`."""
    ours, its = Pipe()
    try:
        words = [sys.executable, "-m", _PROGRAM]
        return subprocess.Popen(words, env=environment, stdin=its.fileno()), ours
    except OSError:
        ours.close()
        raise
    finally:
        its.close()
