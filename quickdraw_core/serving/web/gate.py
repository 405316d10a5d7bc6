"""What every request passes: strict headers on its answer, a count of it, `Refused` → JSON.

It wraps the whole application, so that errors and files have the headers too.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quickdraw_core.serving.web.answers import Refused, json_response, unavailable
from quickdraw_core.serving.web.batching import STOPPING
from quickdraw_core.serving.web.config import host_name
from quickdraw_core.serving.web.metrics import Metrics

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing inline, nothing of another host, in nobody's frame."""

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}


class Gate:
    """An ASGI application around another one.

    close: ends its threads; the end of its lifespan does it too. allow_origin: CORS is answered,
    so a browser may give answers to these origins' pages. host_names: what a request may call
    the server; None: anything.
    """

    is_stopping = False
    """Requests that are cancelled are answered with 503."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        allow_origin: Iterable[str],
        close: Callable[[], None],
        host_names: frozenset[str] | None = None,
    ) -> None:
        headers = dict(HEADERS)
        if tuple(allow_origin):
            headers["cross-origin-resource-policy"] = "cross-origin"
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._app, self._metrics, self.close = app, metrics, close
        self._host_names = host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI calls it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 0, time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *self._headers]
                # A page's files are asked for again, and answered by "not changed".
                if all(name != b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-cache"))
                message["headers"] = headers
            await send(message)

        async def refuse(error: Refused) -> None:
            answer = json_response({"error": error.sentence}, error.status, error.headers)
            await answer(scope, receive, send_with_headers)

        try:
            if (refused := self._wrong_host(scope)) is not None:
                await refuse(refused)
            else:
                await self._app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if not self.is_stopping:
                raise
            if not status:
                error = unavailable(STOPPING)
                error.closes = True
                await refuse(error)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(method, route, status or 500, time.perf_counter() - began)

    def _wrong_host(self, scope: Scope) -> Refused | None:
        """421 if the request calls the server by a name that is not its own."""
        if self._host_names is None:
            return None
        given = next((value for name, value in scope["headers"] if name == b"host"), None)
        if given is None or host_name(name := given.decode("latin-1")) in self._host_names:
            return None
        return Refused(
            421,
            f"the header Host names {name!r}, which this server is not; start it with "
            f"--allow-host {host_name(name)} if it is",
            closes=True,
        )
