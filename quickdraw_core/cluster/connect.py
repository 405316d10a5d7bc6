"""A client of a Dask scheduler by its address, with TLS if it asks for it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quickdraw_core.cluster.config import DaskTls
from quickdraw_core.cluster.patience import LOST
from quickdraw_core.errors import ClusterError, ConfigError
from quickdraw_core.system.child_environment import SAFE_PATH

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 30.0
"""How long a scheduler may take to answer. After as long Dask takes a connection for lost, but not
one to a process that hangs.
"""
_AGAIN_SECONDS = 2.0
"""How long, once it had not answered."""
_QUIET = {
    "logging.distributed": "error",
    # What Dask does for its own dashboards, many times a second.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "2s",
    **{f"distributed.nanny.pre-spawn-environ.{name}": text for name, text in SAFE_PATH.items()},
}


_UNREAD = "Future exception was never retrieved"


def quiet_dask() -> None:
    """Has Dask in this process log errors alone, and not look after dashboards."""
    import dask

    dask.config.set(_QUIET)
    logging.getLogger("asyncio").addFilter(_is_told)  # once: it knows those that it has


def _is_told(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio's is for people. Not that a timer of Dask's ran out while its
    client was closed, so that nobody waits for it any more: a traceback after a success.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, TimeoutError) and record.getMessage().startswith(_UNREAD))


@contextmanager
def connected(
    address: str, tls: DaskTls | None, option: str = "tls", else_do: str = ""
) -> Iterator[Any]:
    """A block with a Dask client of the scheduler at an address.

    option, else_do: for messages: the option that `tls` is of, and what to do without a cluster.
    Raises `ConfigError` if the scheduler cannot be reached. What the block asks of it raises
    `ClusterError` if it does not answer.
    """
    quiet_dask()
    from distributed import Client, Security

    security = None
    if tls is not None:
        security = Security(
            require_encryption=True,
            tls_ca_file=str(tls.ca_file),
            tls_client_cert=str(tls.certificate),
            tls_client_key=str(tls.key) if tls.key is not None else None,
        )
    try:
        # Not the default one, which all that this process computes with Dask would then run on.
        client: Any = Client(
            address, timeout=f"{_CONNECT_SECONDS}s", security=security, set_as_default=False
        )
    # Dask refuses some mismatches of address and options by TypeError or assertion.
    except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise ConfigError(_connection_fault(address, error, option, else_do)) from error
    with client:
        _answer_in_time(client, address)
        yield client


def _answer_in_time(client: Any, address: str) -> None:
    """Limits a client's calls to its scheduler, but those with a time of their own. Once one had
    no answer, the others wait a shorter time for theirs, until one has.

    What workers take part in has to have its own: one that hangs would look like the scheduler.
    """
    ask, is_silent = client.sync, False

    def sync(function: Any, *values: Any, callback_timeout: Any = None, **options: Any) -> Any:
        nonlocal is_silent
        is_limited = callback_timeout is not None or options.get("timeout") is not None
        # In Dask's own thread the caller limits it. A cancellation only sends.
        if is_limited or client.asynchronous or function == client._cancel:
            return ask(function, *values, callback_timeout=callback_timeout, **options)
        seconds = _AGAIN_SECONDS if is_silent else _ANSWER_SECONDS
        try:
            answer = ask(function, *values, callback_timeout=seconds, **options)
        except TimeoutError:
            is_silent = True
            raise ClusterError(
                f"the Dask scheduler at {address} has not answered for {_ANSWER_SECONDS:g} s; "
                "start it again if it hangs, and run again to go on"
            ) from None
        except OSError as error:
            raise ClusterError(LOST) from error
        is_silent = False
        return answer

    client.sync = sync


def _connection_fault(address: str, error: Exception, option: str, else_do: str) -> str:
    import ssl

    from distributed.comm.core import CommClosedError, FatalCommClosedError

    if isinstance(error, TypeError):
        return (
            f"{address} needs certificates, and none are given: --set {option}.ca_file=…, "
            f"{option}.certificate=… and {option}.key=…, or Dask's own options "
            "(DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT, …__CLIENT__KEY)"
        )
    # Dask's own class for a handshake that fails. By TLS 1.3 the scheduler judges our certificate
    # when our side is connected already, and its reason is lost if we write before we read.
    hung_up = isinstance(error, CommClosedError) and address.startswith("tls:")
    if isinstance(error, FatalCommClosedError) or hung_up:
        cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
        return (
            f"the Dask scheduler at {address} and this client do not trust each other "
            f"({cause}): both certificates must be signed by the authority of {option}.ca_file"
        )
    return (
        f"no Dask scheduler answers at {address}: {str(error) or type(error).__name__}; check "
        f"that it runs, with TLS (tls://) or without (tcp://){else_do}"
    )


def check_certificates(tls: DaskTls | None, option: str = "tls") -> None:
    """Raises `ConfigError` if certificates cannot be used. option: that they are of."""
    if tls is None:
        return
    import ssl

    def refuse_encrypted() -> str:
        raise ConfigError(
            f"{option}: the key of {tls.certificate} is encrypted; give one that is not"
        )

    files = {"ca_file": tls.ca_file, "certificate": tls.certificate, "key": tls.key}
    for name, path in files.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"{option}.{name}: there is no file {path}; give one in PEM form")
    try:
        ssl.create_default_context(cafile=tls.ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{option}.ca_file: {tls.ca_file} cannot be used ({error})") from error
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.load_cert_chain(tls.certificate, tls.key, password=refuse_encrypted)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{option}.certificate: {tls.certificate} and its key cannot be used ({error}); they "
            "must be in PEM form and belong together"
        ) from error
