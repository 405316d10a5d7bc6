"""The process that reads pictures for `PictureProcesses`, with which it shares its standard input.

Request: the limits of bytes and pixels, a line's end, the picture's file. Answer: a sign, and
`PictureStrokes.to_bytes` or a sentence. Both in the frames of `multiprocessing.connection`.
Nothing that may be missing is imported above, so that what is missing is answered, too.
"""

import signal
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection

from quickdraw_core.errors import PictureError, cannot_load, first_line
from quickdraw_core.formats.pictures.processes import READ, REFUSED
from quickdraw_core.system.parent_death import die_with_parent

_LOADED_FIRST = (
    "PIL.Image",
    "skimage.filters",
    "skimage.morphology",
    "skimage.transform",
    "quickdraw_core.formats.pictures.reading",
)
"""What would be loaded in the time of the first picture otherwise."""


def _answer(request: bytes) -> bytes:
    from quickdraw_core.formats.pictures.opening import open_picture
    from quickdraw_core.formats.pictures.reading import strokes_of_picture

    limits, _, data = request.partition(b"\n")
    max_bytes, max_pixels = map(int, limits.split())
    try:
        return READ + strokes_of_picture(open_picture(data, max_bytes, max_pixels)).to_bytes()
    except PictureError as error:
        return REFUSED + str(error).encode()
    except Exception as error:  # noqa: BLE001 — a fault of ours costs the picture alone
        return REFUSED + f"the picture cannot be read: {first_line(error)}".encode()


def main() -> None:
    """Says that it is ready, or why it is not, and answers until the other end is closed."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the parent ends this process
    with Connection(0) as connection, suppress(EOFError):
        try:
            for name in _LOADED_FIRST:
                import_module(name)
        except Exception as error:  # noqa: BLE001 — what a broken library raises
            connection.send_bytes(REFUSED + str(cannot_load(error, "a picture")).encode())
            return
        connection.send_bytes(READ)
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


if __name__ == "__main__":
    main()
