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

    Compiled code is kept until any file of the function's package changes, the one below the
    topmost. Numba alone would look at the function's own file only, and go on using what it
    compiled into it of another.
    """

    def decorate(function: F) -> F:
        settings: Any = {"nogil": True, "cache": True, "_nrt": allocates} | options
        dispatcher: Any = njit(**settings)(function)
        file = getattr(dispatcher._cache, "_cache_file", None)
        if file is not None:  # there is none if numba found no folder to write to
            package = _package_hash(Path(getfile(function)).parent)
            # An index of another version is not read: it may name modules that are gone.
            file._version = (file._version, package)
        decorated: F = dispatcher
        return decorated

    return decorate


@cache
def _package_hash(folder: Path) -> str:
    """Of all source files of the package that a folder belongs to, by content."""
    while (folder.parent.parent / "__init__.py").exists():
        folder = folder.parent
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
