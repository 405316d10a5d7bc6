"""One training process, under torch's launcher:
`python -m quickdraw_core.training.rank RUN STORE`.
"""

import sys
from dataclasses import replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from quickdraw_core.parent_death import die_with_parent
from quickdraw_core.training.distributed import process_group
from quickdraw_core.training.hardware import choose_device
from quickdraw_core.training.loop import train_loop
from quickdraw_core.training.run_folder import RunFolder


@record
def main() -> None:
    """Joins the group and trains; an error goes to the launcher's error file."""
    die_with_parent()
    run = RunFolder.read(Path(sys.argv[1]))
    # The run folder is shared by all hosts; the store may lie elsewhere on each.
    run = replace(run, config=run.config.updated({"store": sys.argv[2]}))
    device = choose_device(run.config.device, run.config.ranks)
    with process_group(device, run.config.timeout_seconds) as ranks:
        train_loop(run, ranks)


if __name__ == "__main__":
    main()
