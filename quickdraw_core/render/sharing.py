"""One batch, several cores: slices of its drawings for a pool of threads.

Not numba's own `parallel=True`: its default threading layer may not be entered by two Python
threads at once, which is just what loaders do (numba documentation, "The Threading Layers").
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.system.threads import usable_cores


def in_slices(work: Callable[[int, int], None], point_offsets: Int64Array, threads: int) -> None:
    """Calls `work(first, last)` for slices of a batch's drawings, of about as many points each.

    point_offsets: int64 [N + 1]. threads: how many slices; the calling thread takes one, a pool
    that all callers of the process share takes the others. Returns when all are done; raises
    what the work raised. Raises `ConfigError` for fewer than one thread.
    """
    if threads < 1:
        raise ConfigError(f"threads is {threads}; give 1 or more")
    count = len(point_offsets) - 1
    if threads == 1 or count < threads:
        work(0, count)
        return
    marks = np.linspace(point_offsets[0], point_offsets[-1], threads + 1)
    bounds = np.searchsorted(point_offsets, marks).tolist()
    bounds[0], bounds[-1] = 0, count
    pool = _pool(os.getpid())
    others = [pool.submit(work, first, last) for first, last in pairwise(bounds[1:])]
    try:
        work(bounds[0], bounds[1])
    finally:
        for other in others:
            other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The pool of one process: a forked child inherits a pool whose threads are not there."""
    return ThreadPoolExecutor(max_workers=usable_cores(), thread_name_prefix=f"draw-{process}")
