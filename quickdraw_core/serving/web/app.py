"""The application: a model slot and limits → an ASGI application with all routes.

create_app(slot, config) → Gate(CORS if asked for(Direct(FastAPI)))

FastAPI has the pages, the API, health, metrics and the documentation. Guesses of drawings, which
come by the thousand, go past it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from quickdraw_core import __version__
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.answers import Refused, json_response
from quickdraw_core.serving.web.api import Api
from quickdraw_core.serving.web.batching import Batcher
from quickdraw_core.serving.web.config import ServeConfig
from quickdraw_core.serving.web.docs_page import docs_router
from quickdraw_core.serving.web.gate import Gate
from quickdraw_core.serving.web.guessing import guess_batch
from quickdraw_core.serving.web.health import health_router
from quickdraw_core.serving.web.metrics import Metrics
from quickdraw_core.serving.web.word_drawings import WordDrawings

PAGE = Path(__file__).parents[1] / "page"
"""The game's files."""

_SENTENCES = {
    404: "there is nothing at this address; /docs lists what there is",
    405: "this address does not take this method; /docs lists what it takes",
}


def create_app(slot: ModelSlot, config: ServeConfig | None = None) -> Gate:
    """The application. Each has its own threads, which end with its lifespan."""
    config = config or ServeConfig()
    batcher = Batcher(guess_batch(slot), config.batching, config.batches_at_once)
    metrics = Metrics(slot, lambda: batcher.waiting)
    batcher.observe = metrics.batches.observe

    drawings = WordDrawings(config.store) if config.store is not None else None
    api = Api(slot, config.limits, batcher, drawings)

    def close() -> None:
        api.close()
        batcher.close()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            close()

    app = FastAPI(
        title="Quick, Draw! guesses",
        summary="Draws in, words out.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.include_router(api.router)
    inner: ASGIApp = Direct(app, "POST", "/api/guess", api.guess)
    app.include_router(health_router(slot, metrics))
    app.include_router(docs_router(app))
    _add_page(app)
    for kind, answer in (
        (Refused, _refused),
        (HTTPException, _http_error),
        (RequestValidationError, _invalid),
        (Exception, _failed),
    ):
        app.add_exception_handler(kind, answer)
    if config.allow_origin:
        inner = CORSMiddleware(
            inner,
            allow_origins=config.allow_origin,
            allow_methods=("GET", "POST"),
            allow_headers=("content-type",),
            max_age=600,
        )
    return Gate(inner, metrics, config.allow_origin, close, config.host_names)


class Direct:
    """An ASGI application that calls one endpoint of another itself: FastAPI's middlewares, router
    and dependencies take as long as a third of a small network. The endpoint's only parameter is
    the request; the other application has it too, for its documentation and for other methods.
    path: also for the metrics, as routes have it.
    """

    def __init__(
        self,
        app: ASGIApp,
        method: str,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
    ) -> None:
        self.path = path
        self._app, self._method, self._endpoint = app, method, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI calls it."""
        if scope.get("path") != self.path or scope.get("method") != self._method:
            await self._app(scope, receive, send)
            return
        scope["route"] = self
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except Refused as error:
            response = await _refused(request, error)
        except Exception as error:
            await (await _failed(request, error))(scope, receive, send)
            raise  # for uvicorn to log it
        await response(scope, receive, send)


def _add_page(app: FastAPI) -> None:
    """The game, if it is installed."""
    if not (PAGE / "index.html").exists():
        return
    app.mount("/static", StaticFiles(directory=PAGE), name="static")

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return json_response({"error": error.sentence}, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    sentence = _SENTENCES.get(status) or HTTPStatus(status).phrase.lower()
    return json_response({"error": sentence}, status, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with the values of a path, a query or a form."""
    assert isinstance(error, RequestValidationError)
    fault: dict[str, Any] = error.errors()[0]
    *_, name = fault["loc"]
    reason = str(fault["msg"]).replace("Input should be", "should be")
    return json_response({"error": f"{name}: {reason}; see /docs"}, 422)


async def _failed(request: Request, error: Exception) -> Response:
    """A defect of ours; uvicorn logs its traceback."""
    return json_response({"error": "the server failed at this request; its log says why"}, 500)
