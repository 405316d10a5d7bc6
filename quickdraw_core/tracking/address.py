"""Where MLflow is: a server, or a database file of our own."""

import os
import shlex
import shutil
import sys
from pathlib import Path

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"
NO_TRACKING = "none"
EXPERIMENT = "quickdraw"


def resolve_tracking_uri(uri: str | None) -> str:
    """`uri`, else `MLFLOW_TRACKING_URI`, else an SQLite file `mlflow.db` in this folder.

    `none` turns tracking off. The result is absolute, so that it means the same everywhere.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE_NAME}"
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside an SQLite file; a server knows itself."""
    if uri.startswith("sqlite:///"):
        return (Path(uri.removeprefix("sqlite:///")).parent / ARTIFACTS_NAME).as_uri()
    return None


def ui_command(uri: str) -> str:
    """The shell command that shows the runs, or the server's own address."""
    if not uri.startswith("sqlite:///"):
        return uri
    program = "mlflow"
    if shutil.which(program) is None:  # the environment is not activated
        program = os.path.relpath(Path(sys.executable).with_name(program))
    if uri == f"sqlite:///{Path(DATABASE_NAME).absolute()}":
        return f"{program} ui"
    return f"{program} ui --backend-store-uri {shlex.quote(uri)}"


def quiet_environment() -> dict[str, str]:
    """Variables that keep MLflow from phoning home and from blocking for minutes.

    MLflow retries a dead server for four minutes by default; a trainer would stand still.
    """
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
