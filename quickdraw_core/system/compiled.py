"""`compiled`: how this project has numba compile its inner loops.

In: a function of numbers and arrays. Out: machine code, made on first use, kept beside the
source (or where numba may write), and run without the interpreter's lock.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from inspect import getfile
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*, allocates: bool = False, **options: Any) -> Callable[[F], F]:
    """Decorates a function that numba compiles.

    allocates: it makes arrays. Without, numba counts no references: it would count one up and
    down, atomically, for each array that passes from function to function, which was two
    fifths of the time of reading a line. options: further ones of `numba.njit`.

    Compiled code is kept until any file in the function's folder changes. Numba alone would look
    at the function's own file only, and go on using what it compiled into it of another.
    """

    def decorate(function: F) -> F:
        settings: Any = {"nogil": True, "cache": True, "_nrt": allocates} | options
        dispatcher: Any = njit(**settings)(function)
        file = getattr(dispatcher._cache, "_cache_file", None)
        if file is not None:  # there is none where numba found no folder to write to
            file._source_stamp = (file._source_stamp, _folder_hash(Path(getfile(function)).parent))
        found: F = dispatcher
        return found

    return decorate


@cache
def _folder_hash(folder: Path) -> str:
    """Of all source files of a folder, by content."""
    found = sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
