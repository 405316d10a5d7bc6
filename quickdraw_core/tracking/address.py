"""Where MLflow is: a server, or a database file of our own."""

import os
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from quickdraw_core.credentials import set_apart, without_login
from quickdraw_core.errors import TrackingError, UnreachableError
from quickdraw_core.system.child_environment import program_to_type
from quickdraw_core.system.files import cause_of

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"
NO_TRACKING = "none"
EXPERIMENT = "quickdraw"
_DATABASES = ("postgresql", "mysql", "mssql")
_SCHEMES = ("http", "https", "sqlite", *_DATABASES, "databricks")


def resolve_tracking_uri(uri: str | None) -> str:
    """`uri`, else `MLFLOW_TRACKING_URI`, else an SQLite file `mlflow.db` in this folder.

    `none` turns tracking off. The result is absolute, so that it means the same everywhere, and
    without its secrets, which `runs.client` puts back.
    A file in a folder that is there only when its name is percent-decoded, as in MLflow's own
    default, is the decoded one.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE_NAME}"
    if not uri.startswith("sqlite:///"):
        return set_apart(uri)
    path = Path(uri.removeprefix("sqlite:///")).absolute()
    decoded = Path(unquote(str(path)))
    # Not `is_dir`, which raises if this user may not look.
    if os.path.isdir(decoded.parent) and not os.path.isdir(path.parent):  # noqa: PTH112
        path = decoded
    return f"sqlite:///{path}"


def requested_tracking_uri(uri: str | None) -> str | None:
    """`uri`, else `MLFLOW_TRACKING_URI`, absolute; None if neither asks for an address."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    return resolve_tracking_uri(uri) if uri else None


def check_address(uri: str) -> None:
    """Raises `TrackingError` for an address at which MLflow can never be."""
    if uri == NO_TRACKING or uri == "databricks":
        return
    what_to_do = (
        "give http://HOST:PORT, sqlite:///FILE, another database's address, "
        f"or turn tracking off: --tracking-uri {NO_TRACKING}"
    )
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise TrackingError(
            f"the tracking address {uri} is malformed: {error}; {what_to_do}"
        ) from error
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite" and not uri.startswith("sqlite:///"):
        raise TrackingError(
            f"the tracking address {uri} names no database file; write sqlite:///FILE, or "
            "sqlite:////FOLDER/FILE"
        )
    if scheme not in _SCHEMES:
        raise TrackingError(f"the tracking address {uri} is in no known form; {what_to_do}")
    if scheme in ("http", "https") and not host:
        raise TrackingError(f"the tracking address {uri} names no host; {what_to_do}")
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///")).parent
        if "?" in str(folder):  # whatever reads the address takes the rest for its options
            raise TrackingError(
                f"the tracking database cannot be in {folder}: its address cannot hold '?'; give "
                f"another place (--tracking-uri sqlite:////FOLDER/FILE), or {NO_TRACKING}"
            )
        try:
            is_there = folder.is_dir()
        except OSError as error:
            raise TrackingError(
                f"the tracking database cannot be in {folder}: {cause_of(error)}"
            ) from error
        if not is_there:
            raise TrackingError(f"no folder {folder} for the tracking database; make it first")
    elif scheme in _DATABASES:
        _require_driver(uri)


def _require_driver(uri: str) -> None:
    """Raises `TrackingError` for a database that this installation cannot speak to."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        raise TrackingError(
            f"the tracking address {uri} needs a database driver: {error}; install it"
        ) from error
    except ArgumentError as error:
        raise TrackingError(f"the tracking address {uri} is malformed: {error}") from error


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside an SQLite file; a server knows itself."""
    root = artifact_root(uri)
    return None if root is None else root.as_uri()


def artifact_root(uri: str) -> Path | None:
    """The folder of `artifact_location`, if it is one here."""
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///")).parent / ARTIFACTS_NAME
    return None


def relocated_uri(uri: str, run_dir: Path) -> str:
    """The address of a run's MLflow. If its SQLite file is gone, since run and file were moved
    or copied together, it is the file of that name in a folder above the run, if one is there.
    """
    if not uri.startswith("sqlite:///"):
        return uri
    database = Path(uri.removeprefix("sqlite:///"))
    if os.path.exists(database):  # noqa: PTH110 — no error if this user may not look
        return uri
    above = (folder / database.name for folder in run_dir.absolute().parents)
    return next((f"sqlite:///{path}" for path in above if path.is_file()), uri)


def artifact_folder(uri: str, artifact_uri: str) -> Path | None:
    """The folder of a run's files beside an SQLite file, wherever that is now; None of others.

    Raises `UnreachableError` if the run's files are neither where MLflow has them nor there:
    MLflow itself would make a new folder, somewhere else than the files are.
    """
    recorded = Path(unquote(urlsplit(artifact_uri).path))
    if not uri.startswith("sqlite:///") or ARTIFACTS_NAME not in recorded.parts:
        return None
    cut = recorded.parts.index(ARTIFACTS_NAME)
    root = Path(*recorded.parts[: cut + 1])
    if root.parent.is_dir():
        return recorded
    beside = Path(uri.removeprefix("sqlite:///")).parent / ARTIFACTS_NAME
    if beside.is_dir():
        return beside.joinpath(*recorded.parts[cut + 1 :])
    raise UnreachableError(
        f"the run's files are not at {root} (moved?), nor at {beside}; put them beside the "
        "database"
    )


def ui_command(uri: str) -> str:
    """The shell command that shows the runs, or the server's own address."""
    if not uri.startswith("sqlite:///"):
        return without_login(uri)
    program = program_to_type("mlflow")
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
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
