"""Why MLflow cannot be used, in one line: the cause, and what to do.

MLflow's client shows a database that it cannot open as a traceback, after up to 100 seconds of
tries, and a server's answer with all its HTML. What can be known without it is checked before.
"""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from quickdraw_core.errors import QuickdrawError, TrackingError, UnreachableError, first_line
from quickdraw_core.redaction import without_secrets
from quickdraw_core.system.files import cause_of, is_cause
from quickdraw_core.tracking.address import NO_TRACKING, check_address

_LOGIN = (
    "it asks for a login; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN"
)
_NO_MLFLOW = "what answers there is no MLflow; correct the address"
_CAUSES = (
    (
        r"out-of-date database schema \(found version (\w+), but expected (\w+)\)",
        r"out-of-date database schema, or one of a newer MLflow (found \1, expected \2); back it "
        "up, then run: mlflow db upgrade ADDRESS; or use the version that made it",
    ),
    (
        r"Can't locate revision",
        "its database was made by a newer version of MLflow; use that version, or another file",
    ),
    (
        r"file is not a database|disk image is malformed",
        "the file is no SQLite database, or is damaged; give another one, or move it away",
    ),
    (r"database is locked", "its database is locked by another process; see which one holds it"),
    (
        r"readonly database|read-only",
        "its database can only be read; allow writing to the file and its folder",
    ),
    (
        r"unable to open database file",
        "its database file cannot be opened; check the path and the permissions of its folder",
    ),
    (r"disk is full|No space left", "the disk of its database is full; make room"),
    (
        r"Invalid Host header",
        "its server does not go by this host's name; start it with --allowed-hosts",
    ),
    (r"error code 40[137]\b|Unauthorized", _LOGIN),
    (r"not in a valid JSON format|Exceeded \d+ redirects", f"{_LOGIN}, or {_NO_MLFLOW}"),
    (r"error code 40[45]\b", _NO_MLFLOW + ", to the one that it redirects to if it does"),
    (
        r"too many 5\d\d error responses|error code 5\d\d\b",
        "its server is out of order; see its log",
    ),
    (r"NameResolution|Name or service not known", "its host name is not known; correct it"),
    (r"Connection refused", "nothing listens there; start it, or correct the address"),
    (
        r"RemoteDisconnected|Connection reset|Connection aborted|Broken pipe",
        "it broke off the connection; see that it is well",
    ),
    (r"(?i)timed? ?out", "it does not answer; see that it is well, and the network"),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted; name the authority's in MLFLOW_TRACKING_SERVER_CERT_PATH",
    ),
    (r"password authentication failed|Access denied", "its database refuses user or password"),
)
"""What stands in an error's text → the cause and what to do."""

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_PATIENCE_SECONDS = 5
_SQLITE_MAGIC = b"SQLite format 3\0"


def explain(error: BaseException) -> str:
    """An error of MLflow, its database or the network in one line, without secrets."""
    text = str(error)
    if isinstance(error, QuickdrawError):
        return text
    if isinstance(error, OSError) and is_cause(error):  # of a file here, not of the database
        named = f"cannot use {error.filename}: " if error.filename else ""
        return named + cause_of(error)
    for sign, cause in _CAUSES:
        match = re.search(sign, text)
        if match is not None:
            return match.expand(cause)
    return without_secrets(first_line(error).split(" with exception ")[0])


def problem_at(uri: str, error: BaseException) -> str:
    """`explain`, with where it was."""
    if isinstance(error, QuickdrawError):
        return str(error)
    return f"MLflow at {uri}: {explain(error)}"


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """A block in which whatever MLflow, its database or the network raises is one line: a
    `TrackingError` for a missing database driver, else an `UnreachableError`.
    """
    try:
        yield
    except QuickdrawError:
        raise
    except ImportError as error:
        raise TrackingError(
            f"the tracking address {uri} needs a database driver: {error}; install it"
        ) from error
    except Exception as error:
        raise UnreachableError(problem_at(uri, error)) from error


def require_usable(uri: str) -> None:
    """What can be known of an address in a few seconds, before MLflow tries it for minutes.

    Raises `TrackingError` for an address at which MLflow can never be, `UnreachableError` for a
    database that cannot be used now. A web server is not asked: MLflow's client does that.
    """
    if uri == NO_TRACKING:
        raise TrackingError("tracking is off; give --tracking-uri to say where MLflow is")
    check_address(uri)
    with mlflow_errors(uri):
        if uri.startswith("sqlite:///"):
            _look_into(uri, Path(uri.removeprefix("sqlite:///").partition("?")[0]))
        parts = urlsplit(uri)
        port = parts.port or _DATABASE_PORTS.get(parts.scheme.partition("+")[0])
        if parts.scheme.partition("+")[0] in _DATABASE_PORTS and parts.hostname and port:
            socket.create_connection((parts.hostname, port), _PATIENCE_SECONDS).close()


def _look_into(uri: str, path: Path) -> None:
    """Raises what SQLite raises, or `UnreachableError`, for a file that is not MLflow's."""
    if path.is_dir():
        raise UnreachableError(f"MLflow at {uri}: {path} is a folder; give a file")
    if not path.is_file() or not path.stat().st_size:
        return  # MLflow makes it
    with path.open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            raise sqlite3.DatabaseError("file is not a database")
    # Not to be read only: what a killed writer left is undone when the file is opened.
    address = f"file:{quote(str(path))}?mode=rw"
    with closing(sqlite3.connect(address, _PATIENCE_SECONDS, uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if tables and "experiments" not in tables:
        raise UnreachableError(
            f"MLflow at {uri}: {path} is another program's database; give a file of its own"
        )
