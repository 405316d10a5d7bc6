"""One training process, under torch's launcher: `rank.py RUN STORE [SECOND-STORE]`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from quickdraw_core.errors import OutOfMemoryError, QuickdrawError, TrainingError
from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distributed import process_group
from quickdraw_core.training.hardware import choose_device
from quickdraw_core.training.loop import train_loop
from quickdraw_core.training.run_folder import RunFolder

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch's CUDA and CPU allocators say."""
_TIMED_OUT = "Timed out waiting"
"""What gloo says of a peer that does not answer."""


@record
def main() -> None:
    """Joins the group and trains; an error goes to the launcher's error file."""
    die_with_parent()
    _end_at_signals()
    run = RunFolder.read(Path(sys.argv[1]))
    # The run folder is shared by all hosts; the stores may lie elsewhere on each.
    store, *also = sys.argv[2:]
    places = {"store": store} | ({"select": {"also": also[0]}} if also else {})
    run = replace(run, config=run.config.updated(places))
    hardware = run.config.hardware
    device = choose_device(hardware.device, hardware.ranks)
    with typed_errors(run.config), process_group(device, hardware.timeout_seconds) as ranks:
        train_loop(run, ranks)


@contextmanager
def typed_errors(config: TrainConfig) -> Iterator[None]:
    """A block in which what torch tells apart by its text alone is an error of its own class,
    by which the launcher knows what to do.
    """
    try:
        yield
    except QuickdrawError:
        raise
    except Exception as error:
        text = str(error)
        if any(words in text.lower() for words in _OUT_OF_MEMORY):
            raise OutOfMemoryError(text) from error
        if config.hosts.nodes > 1 and _TIMED_OUT in text:
            raise TrainingError(
                f"{text}: another host did not answer for {config.hardware.timeout_seconds} s "
                "(hardware.timeout_seconds); start all hosts again to go on from the last "
                "checkpoint"
            ) from error
        raise


def _end_at_signals() -> None:
    """Has signals end this process at once, also if it was forked from the launcher: whose
    handlers wait for C++ to return, and then raise what passes for an error of this rank.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
