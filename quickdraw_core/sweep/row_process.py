"""A row as a process of its own: `python -m quickdraw_core.sweep.row_process JOB`, JOB as JSON.

It prints what happens, a line each. The last line of one that failed is its error, as
`error_of` reads it; other lines are for people.
"""

import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from quickdraw_core import errors
from quickdraw_core.errors import BusyError, QuickdrawError, TrainingError, first_line
from quickdraw_core.progress import report_to
from quickdraw_core.stage import Opened
from quickdraw_core.sweep.row_job import require_here, sweep_of_row
from quickdraw_core.sweep.rows import run_row
from quickdraw_core.system.locks import require_free_folder

_ERROR = "row failed: "
_STOPPED = 130

_BUSY_SECONDS = 90.0
"""How long to wait for who is at work on the row. A host that is cut off from Dask knows of it
after 30 s, and has 30 more to end its process."""

_POLL_SECONDS = 0.5


class _Lines:
    """Notes and events of all bars as lines."""

    def open(self, name: str, total: float | None, unit: str) -> "_Lines":
        return self

    def close(self, bar: object) -> None:
        pass

    def advance(self, amount: float) -> None:
        pass

    def expect(self, total: float) -> None:
        pass

    def note(self, text: str) -> None:
        if text:
            print(text, flush=True)  # noqa: T201

    def log(self, text: str) -> None:
        self.note(text)


def main() -> None:
    """Trains and judges the row, or continues it. SIGTERM ends it as Ctrl-C would."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    job = json.loads(sys.argv[1])
    with report_to(_Lines()):
        try:
            require_here(job)
            sweep = sweep_of_row(job)
            wait_until_free(sweep.row(job["name"]).run_dir)
            run_row(sweep, job["name"], Opened())
        except QuickdrawError as error:
            _fail(error)
        except KeyboardInterrupt:
            sys.exit(_STOPPED)


def wait_until_free(folder: Path, seconds: float = _BUSY_SECONDS) -> None:
    """Returns once no other command is at work in a run folder. Raises `BusyError`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            for place in (folder, folder / "evaluation"):
                require_free_folder(place)
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _fail(error: QuickdrawError) -> NoReturn:
    said = {"error": type(error).__name__, "message": first_line(error)}
    print(_ERROR + json.dumps(said), flush=True)  # noqa: T201
    sys.exit(error.exit_code)


def is_error(line: str) -> bool:
    """Whether a line of its output is its error, for `error_of` alone."""
    return line.startswith(_ERROR)


def error_of(last_line: str, code: int) -> QuickdrawError:
    """The error with which such a process ended. last_line: of its output; code: its exit code."""
    if is_error(last_line):
        said = json.loads(last_line.removeprefix(_ERROR))
        kind = getattr(errors, said["error"], TrainingError)
        error: QuickdrawError = kind(said["message"])
        return error
    reason = last_line.strip() or "it was killed"
    return TrainingError(f"the process of the row ended with code {code}: {reason}")


if __name__ == "__main__":
    main()
