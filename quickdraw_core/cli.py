"""`quickdraw …`: the same functions that the flows call, with progress bars.

Heavy libraries are loaded by the command that needs them, so that `--help` answers at once.
"""

import gc
import io
import os
import sys
import warnings

import typer

from quickdraw_core.commands import (
    auditing,
    bundles,
    cleaning,
    data,
    guessing,
    jobs,
    judging,
    labelling,
    models,
    operations,
    playing,
    reruns,
    serving,
    sweeps,
)
from quickdraw_core.commands.options import ConfiguredCommand, with_progress_options
from quickdraw_core.errors import ConfigError, QuickdrawError, WriteError
from quickdraw_core.redaction import traceback_without_secrets
from quickdraw_core.system.child_environment import set_safe_path
from quickdraw_core.system.files import cause_of, is_cause
from quickdraw_core.system.threads import set_waiting
from quickdraw_core.terminal.console import errors

app = typer.Typer(
    name="quickdraw",
    help="Quick, Draw! doodles to a trained, judged and comparable recogniser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    data.generate,
    data.fetch,
    data.ingest,
    data.describe,
    data.verify,
    data.show,
    auditing.audit,
    models.train,
    models.losses,
    models.inspect,
    models.evaluate,
    judging.compare,
    judging.promote,
    bundles.export,
    guessing.guess,
    serving.serve,
    playing.play,
    models.predict,
    models.check_submission,
    labelling.pseudo_label,
    sweeps.sweep,
    jobs.pipeline,
    jobs.demo,
    operations.deploy,
    reruns.rerun,
    reruns.status,
    cleaning.clean,
):
    app.command(cls=ConfiguredCommand)(with_progress_options(command))

_GC_THRESHOLD = 50_000
"""New objects between two collections: with Python's 700, a tenth of the time that libraries take
to load is spent looking through what they have just made."""


def _quiet_environment() -> None:
    """Settings of the commands, unless the user has their own: no telemetry, no log lines, and
    threads that sleep while they wait, before a command loads torch. Processes that a command
    starts import nothing from the working folder.

    Without `PREFECT_API_URL`, Prefect starts a server of its own for the time of the command;
    its default patience of 20 seconds is too little on a slow machine.
    """
    for name, value in {
        "DASK_LOGGING__DISTRIBUTED": "error",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }.items():
        os.environ.setdefault(name, value)
    set_waiting(os.environ)
    # At the import of Prefect; `flows/server.py` says it in its place, with what to do.
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")
    set_safe_path(os.environ)


def _printable() -> None:
    """Has what the terminal's encoding lacks printed as `?`, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main() -> None:
    """Entry point: an expected error is one line and its exit code, anything else a traceback."""
    _quiet_environment()
    _printable()
    gc.set_threshold(_GC_THRESHOLD)
    try:
        app()
    except QuickdrawError as error:
        _show_error(error)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 — told, as Python would, without secrets
        fault = machine_fault(error) or _settings_fault(error)
        if fault is None:
            sys.stderr.write(traceback_without_secrets(error))
            sys.exit(1)
        _show_error(fault)
        sys.exit(fault.exit_code)
    finally:
        # The last collection would look through all that is loaded, for up to 3 s.
        gc.freeze()


def machine_fault(error: BaseException | None) -> QuickdrawError | None:
    """What a defect of the machine (space, limits, permissions) is to a user, wherever it came
    up and whatever a library made of it; None for all else.
    """
    while error is not None:
        if isinstance(error, QuickdrawError):
            return error
        if isinstance(error, OSError) and is_cause(error):
            named = f"cannot use {error.filename}" if error.filename else "cannot go on"
            return WriteError(f"{named}: {cause_of(error)}")
        error = error.__cause__
    return None


def _settings_fault(error: Exception) -> QuickdrawError | None:
    """What is wrong with Prefect's settings, which its import reads; None for all else."""
    if getattr(error, "title", "") != "Settings":
        return None
    (fault, *_) = error.errors(include_url=False)  # type: ignore[attr-defined]
    words = [*map(str, fault["loc"]), fault["msg"].removeprefix("Value error, ")]
    return ConfigError(
        f"Prefect's settings are wrong: {' '.join(words)}; correct the variables that begin with "
        "PREFECT_ (prefect config view)"
    )


def _show_error(error: QuickdrawError) -> None:
    errors.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
