"""One training process, under torch's launcher: `rank.py RUN STORE`."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.training.distributed import process_group
from quickdraw_core.training.hardware import choose_device
from quickdraw_core.training.loop import train_loop
from quickdraw_core.training.run_folder import RunFolder


@record
def main() -> None:
    """Joins the group and trains; an error goes to the launcher's error file."""
    die_with_parent()
    _end_at_signals()
    run = RunFolder.read(Path(sys.argv[1]))
    # The run folder is shared by all hosts; the store may lie elsewhere on each.
    run = replace(run, config=run.config.updated({"store": sys.argv[2]}))
    device = choose_device(run.config.device, run.config.ranks)
    with process_group(device, run.config.timeout_seconds) as ranks:
        train_loop(run, ranks)


def _end_at_signals() -> None:
    """Has signals end this process at once, also where it was forked from the launcher: whose
    handlers wait for C++ to return, and then raise what passes for an error of this rank.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
