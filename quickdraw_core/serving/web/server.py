"""The application on uvicorn, in this process: the socket, the protocol's limits, signals."""

import asyncio
import errno
import logging
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from quickdraw_core.errors import ConfigError
from quickdraw_core.serving.web.gate import Gate

HEADER_SECONDS = 10.0
"""A connection must have sent a request's headers by then."""
HEADER_BYTES = 1 << 15
"""Of a request's line and headers, at most."""
IDLE_SECONDS = 30
"""A connection is kept so long for a next request."""
STOP_SECONDS = 5
"""Requests that are being answered get so long to end when the server is stopped."""
BACKLOG = 2048
OPEN_FILES = 1 << 16

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. port 0: any free one.

    Raises `ConfigError` if the address cannot be had: with what was wrong and what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name"
        raise ConfigError(
            f"the host {host!r} is not known ({reason}); give --host an address of this "
            "machine, such as 127.0.0.1"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(_why_not(host, port, error)) from error
    listener.setblocking(False)
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken by another program; give --port another one, or 0 "
            "for any that is free"
        )
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user; give --port one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; give --host 127.0.0.1 or 0.0.0.0"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def address_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8000`, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


def run(app: Gate, listener: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM; requests that are being answered are answered before it
    returns, in `STOP_SECONDS` at most.
    """
    _allow_connections()
    with _quiet_end():
        server_of(app).run(sockets=[listener])


def _allow_connections() -> None:
    """Raises how many files may be open, each connection being one, as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def server_of(app: Gate) -> uvicorn.Server:
    """The server, which takes sockets that listen."""
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=_Protocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            log_level=logging.ERROR,  # warnings are about what clients send
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS + 1,
            backlog=BACKLOG,
        )
    )


class _Server(uvicorn.Server):
    """uvicorn's server; what is not answered `STOP_SECONDS` after its end began is refused."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends."""
        assert isinstance(self.config.app, Gate)
        self.config.app.is_stopping = True
        timer = asyncio.get_running_loop().call_later(STOP_SECONDS, self._cancel)
        await super().shutdown(sockets)
        timer.cancel()

    def _cancel(self) -> None:
        for task in tuple(self.server_state.tasks):
            task.cancel()


@contextmanager
def _quiet_end() -> Iterator[None]:
    """A block in which uvicorn's signals end it, and only that: it raises them again for whoever
    handled them before, which would end the command as if it had failed.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, _ignore) for number in signals}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: object) -> None:
    """A signal that has had its effect."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol; a client that sends no headers, or no end of them, is left."""

    _is_in_headers = True
    _header_bytes = 0
    _is_too_large = False
    _head_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        if self._is_in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_headers and self._header_bytes > HEADER_BYTES:
            self._refuse()
        elif (
            self._header_timer is None and self.cycle is not None and self.cycle.response_complete
        ):
            # The rest of a body that nobody reads, or an empty line: no message ends this.
            self._await_headers()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        """Ends the parsing of a head that is too large, though all of it came at once."""
        self._head_bytes += size
        if self._head_bytes > HEADER_BYTES:
            self._is_too_large = True
            raise ValueError("too large")

    def send_400_response(self, msg: str) -> None:
        if self._is_too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        self.transport.write(_TOO_LARGE)
        self.transport.close()

    def on_message_complete(self) -> None:
        self._end_timer()
        super().on_message_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers, self._header_bytes, self._head_bytes = True, 0, 0
        if self._header_timer is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._end_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._leave)

    def _end_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _leave(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.close()
