"""Prefect's worker for containers: told to stop, it lets its flow runs end first.

By itself a worker that gets SIGTERM leaves at once, the container goes with it, and its runs are
killed without a word: they count as running until their heartbeats are missed. Here each run is
told first, ends its ranks and says how it ended; then the worker goes. The arguments are those of
`prefect worker start`.
"""

import os
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

from quickdraw_core.system.child_environment import set_safe_path
from quickdraw_core.system.threads import set_waiting

GRACE_SECONDS = 60
"""For runs to end. `stop_grace_period` of the container has to be longer."""


def main(arguments: list[str]) -> int:
    """Runs the worker to its end; its exit code."""
    set_waiting(os.environ)  # of the runs, which are its children and load torch
    set_safe_path(os.environ)
    worker = subprocess.Popen([sys.executable, "-m", "prefect", "worker", "start", *arguments])

    def stop(_number: int, _frame: FrameType | None) -> None:
        end_runs(worker.pid)
        worker.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return worker.wait()


def end_runs(worker: int) -> None:
    """Tells the runs of a worker to end, also those that it takes up meanwhile, and waits."""
    deadline = time.monotonic() + GRACE_SECONDS
    told: set[int] = set()
    while time.monotonic() < deadline:
        runs = [run for run in _children(worker) if run.pid not in told]
        for run in runs:
            run.terminate()
            told.add(run.pid)
        if not _children(worker):
            return
        time.sleep(0.2)


def _children(worker: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(worker).children()
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
