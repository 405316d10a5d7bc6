"""A process that loads MLflow while the one that starts it computes, and then delivers journals:
`python -m quickdraw_core.tracking.delivery_process URI`. Its input is a run folder a line.

Loading MLflow takes seconds of a core, and a process that is to deliver has nothing else to do.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.tracking.delivery import Delivery, deliver_rest
from quickdraw_core.tracking.runs import load_mlflow

Deliver = Callable[[Path], Delivery]
"""Sends what the journal of a run folder still holds, as `deliver_rest`."""


@contextmanager
def delivery_process(uri: str) -> Iterator[Deliver]:
    """A block with a process that delivers to an address. If it is lost, this one does that."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, uri],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def deliver(run_dir: Path) -> Delivery:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(str(run_dir.absolute())) + "\n")
            process.stdin.flush()
            return Delivery(**json.loads(process.stdout.readline()))
        except (OSError, ValueError):
            return deliver_rest(run_dir)

    try:
        yield deliver
    finally:
        process.kill()  # it has answered, or is not asked
        process.communicate()


def main() -> None:
    """Answers each line with the delivery as JSON."""
    die_with_parent()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries may print
    gc.disable()  # looking through what is being loaded would take a seventh of the time
    with suppress(Exception):  # who delivers says what is wrong
        load_mlflow(sys.argv[1])
    gc.freeze()
    gc.enable()
    for line in sys.stdin:
        answers.write(json.dumps(asdict(deliver_rest(Path(json.loads(line))))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
