"""Whether Prefect can be used: found out in seconds, with the reason in one line if not."""

import base64
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import Settings, get_current_settings

from quickdraw_core.errors import ConfigError, UnreachableError, first_line

_PATIENCE_SECONDS = 5
_SQLITE_MAGIC = b"SQLite format 3\0"
_SERVER_REMEDY = (
    "start it (prefect server start), or unset PREFECT_API_URL (prefect config unset "
    "PREFECT_API_URL) to work without a server"
)
REMEDY = (
    "name another folder (PREFECT_HOME=FOLDER), or make a new database: "
    "prefect server database reset"
)
"""What to do about a database that the temporary server cannot use."""


def require_server() -> None:
    """Raises `UnreachableError` if the server that Prefect's settings name does not answer as a
    Prefect server, and `ConfigError` if they name none and allow no temporary one.
    """
    settings = get_current_settings()
    url = settings.api.url
    if url is None:
        if settings.server.ephemeral.enabled:
            return
        raise ConfigError(
            "no Prefect server: start one (prefect server start) and set PREFECT_API_URL, for "
            "example to http://127.0.0.1:4200/api; or set PREFECT_SERVER_EPHEMERAL_ENABLED=true"
        )
    try:
        answer = httpx.get(
            _probe_url(settings, url),
            headers=settings.client.custom_headers | _login(settings),
            timeout=_PATIENCE_SECONDS,
            verify=_trusted(settings),
        )
    except OSError as error:  # of the file that certificates are in
        raise ConfigError(
            f"Prefect's certificates {settings.api.ssl_cert_file} cannot be read: {error}; "
            "correct PREFECT_API_SSL_CERT_FILE"
        ) from error
    except httpx.TimeoutException as error:
        raise UnreachableError(f"Prefect at {url} does not answer; {_SERVER_REMEDY}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if _is_caused_by(error, ssl.SSLCertVerificationError):
            raise UnreachableError(
                f"Prefect at {url} has a certificate that is not trusted; name the authority's in "
                "PREFECT_API_SSL_CERT_FILE"
            ) from error
        is_refused = _is_caused_by(error, ConnectionRefusedError)
        why = "nothing listens there" if is_refused else first_line(error)
        raise UnreachableError(
            f"Prefect at {url} does not answer: {why}; {_SERVER_REMEDY}"
        ) from error
    if answer.status_code in (401, 403):
        raise UnreachableError(
            f"Prefect at {url} asks for a login; set PREFECT_API_AUTH_STRING (a server's "
            "user:password) or PREFECT_API_KEY (Prefect Cloud's)"
        )
    if answer.is_redirect:
        raise UnreachableError(
            f"Prefect at {url} leads to {answer.headers.get('Location', 'another address')}; set "
            "PREFECT_API_URL to the address that answers itself"
        )
    if answer.status_code >= 500:
        raise UnreachableError(
            f"Prefect at {url} answers {answer.status_code} {answer.reason_phrase}; read its log"
        )
    if not answer.is_success or "json" not in answer.headers.get("Content-Type", ""):
        raise UnreachableError(
            f"what answers at {url} is not Prefect; correct PREFECT_API_URL, which ends in /api"
        )


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an error, or one that it was raised for, is of a kind."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None


def _probe_url(settings: Settings, url: str) -> str:
    """An address that is answered only after the login, if the server has one."""
    is_cloud = url.startswith(str(settings.cloud.api_url))
    return f"{url.rstrip('/')}/{'health' if is_cloud else 'admin/version'}"


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    """The certificates that Prefect's own client trusts; True: the usual ones."""
    if settings.api.tls_insecure_skip_verify:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    if settings.api.ssl_cert_file is None:
        return True
    return ssl.create_default_context(cafile=settings.api.ssl_cert_file)


def _login(settings: Settings) -> dict[str, str]:
    """Headers with which Prefect's own client logs in."""
    if settings.api.key is not None:
        return {"Authorization": f"Bearer {settings.api.key.get_secret_value()}"}
    if settings.api.auth_string is not None:
        login = settings.api.auth_string.get_secret_value().encode()
        return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
    return {}


def require_home() -> None:
    """Raises `ConfigError` if Prefect's folder, of results and databases, cannot be used."""
    settings = get_current_settings()
    with suppress(RuntimeError):  # a user without a home at all
        if settings.home.is_relative_to(Path.home()) and not Path.home().is_dir():
            raise ConfigError(
                f"this user has no home folder ({Path.home()}) for Prefect to keep results in; "
                "name a folder: PREFECT_HOME=FOLDER"
            )
    for folder in {settings.home, settings.results.local_storage_path or settings.home}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"Prefect's folder {folder} cannot be used: {error.strerror}; name another one: "
                "PREFECT_HOME=FOLDER"
            ) from error
    if settings.api.url is None:
        _require_database(settings.home)


def require_records() -> None:
    """Raises `ConfigError` if no run can have been recorded: no server is configured, and there is
    no database of temporary ones.
    """
    settings = get_current_settings()
    database = settings.home / "prefect.db"
    named = "PREFECT_SERVER_DATABASE_CONNECTION_URL" in os.environ
    if settings.api.url is None and not named and not database.exists():
        raise ConfigError(
            "no runs are recorded: no Prefect server is configured (PREFECT_API_URL), and no "
            f"temporary one left {database}; a command that ran without a server goes on if it "
            "is given again"
        )


def _require_database(home: Path) -> None:
    """Checks the database of the temporary server, unless its address was set."""
    path = home / "prefect.db"
    if "PREFECT_SERVER_DATABASE_CONNECTION_URL" in os.environ or not path.exists():
        return
    try:
        with path.open("r+b") as file:
            head = file.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise ConfigError(
            f"Prefect's database {path} cannot be used: {error.strerror}; {REMEDY}"
        ) from error
    if head not in (b"", _SQLITE_MAGIC):
        raise ConfigError(f"Prefect's database {path} is no SQLite database; {REMEDY}")


@contextmanager
def answering() -> Iterator[None]:
    """A block in which a server that goes away is an `UnreachableError`, not a traceback."""
    try:
        yield
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        url = get_current_settings().api.url
        raise UnreachableError(
            f"Prefect at {url} went away or refuses: {first_line(error)}; see that it runs, "
            "then give the command again"
        ) from error
