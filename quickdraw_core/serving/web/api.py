"""The routes below `/api`."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, TypeVarTuple

from fastapi import APIRouter, Path, Query, Request, Response

from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.answers import (
    JsonBytes,
    Refused,
    guess_json,
    json_response,
    unavailable,
)
from quickdraw_core.serving.web.batching import Batcher
from quickdraw_core.serving.web.config import MAX_GUESSES, Limits
from quickdraw_core.serving.web.forms import (
    DrawingsAnswer,
    ErrorAnswer,
    GuessAnswer,
    GuessRequest,
    ModelAnswer,
    WordsAnswer,
)
from quickdraw_core.serving.web.guessing import NOT_READY_SECONDS, Guessed
from quickdraw_core.serving.web.pictures import packed_picture, picture_body, read_form
from quickdraw_core.serving.web.reading import read_body, require_type
from quickdraw_core.serving.web.requests import (
    Asking,
    packed_as_is,
    packed_simplified,
    read_request,
)
from quickdraw_core.serving.web.word_drawings import MAX_DRAWINGS, WordDrawings

if TYPE_CHECKING:
    from quickdraw_core.serving.recognizer import Recognizer

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

INLINE_BYTES = 1 << 15
"""A body up to here is parsed where it is read, in well under a millisecond; longer ones on a
thread, so that others are answered in the meantime."""
PICTURES = 8
"""Pictures that are read at once, some 100 MB each at most."""
NO_STORE = (
    "there are no drawings to show: the server was started without a store (quickdraw serve "
    "--store STORE)"
)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says about answers of these statuses."""
    return {status: {"model": ErrorAnswer} for status in statuses}


class Api:
    """The routes, around what they share. `router` is for an application."""

    def __init__(
        self,
        slot: ModelSlot,
        limits: Limits,
        batcher: Batcher[Asking, Guessed],
        drawings: WordDrawings | None,
    ) -> None:
        self._slot, self._limits, self._batcher = slot, limits, batcher
        self._drawings = drawings
        self._pool = ThreadPoolExecutor(2, "prepare")
        self._picture_pool = ThreadPoolExecutor(2, "picture")
        self._pictures = 0
        self.router = APIRouter(prefix="/api", tags=["API"], default_response_class=JsonBytes)
        self._add_routes()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=True)
        self._picture_pool.shutdown(wait=True)

    def _add_routes(self) -> None:
        add = self.router.add_api_route
        schema = GuessRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        add(
            "/guess",
            self.guess,
            methods=["POST"],
            summary="Guess a drawing",
            response_model=GuessAnswer,
            responses=errors(400, 408, 413, 415, 422, 503),
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schema}},
                }
            },
        )
        add(
            "/guess/picture",
            self.guess_picture,
            methods=["POST"],
            summary="Guess the drawing in a picture",
            response_model=GuessAnswer,
            responses=errors(400, 408, 413, 415, 422, 503),
            openapi_extra={"requestBody": picture_body()},
        )
        add(
            "/words",
            self.words,
            summary="Words that the model knows",
            response_model=WordsAnswer,
            responses=errors(503),
        )
        add(
            "/words/{word}/drawings",
            self.word_drawings,
            summary="How others drew a word",
            response_model=DrawingsAnswer,
            responses=errors(404, 422),
        )
        add(
            "/model",
            self.model,
            summary="The model and the limits of requests",
            response_model=ModelAnswer,
            responses=errors(503),
        )

    async def guess(self, request: Request) -> Response:
        """Three words (or `guesses`) for a drawing, most probable first."""
        require_type(request, "application/json")
        self._require_ready()
        self._batcher.require_room()
        with self._batcher.arriving():
            body = await read_body(request, self._limits.body_bytes, self._limits.read_seconds)
            asking = await self._prepare(body)
        return await self.answer(asking)

    async def guess_picture(
        self,
        request: Request,
        guesses: Annotated[
            int, Query(ge=1, le=MAX_GUESSES, description="how many words to answer with")
        ] = 3,
        show_images: Annotated[
            bool, Query(description="also answer what the model sees, as PNG")
        ] = False,
    ) -> Response:
        """The same for a PNG, JPEG or WebP: `drawing` in the answer is what was traced in it."""
        require_type(request, "multipart/form-data")
        self._require_ready()
        self._batcher.require_room()
        if self._pictures >= PICTURES:
            raise unavailable("too many pictures are being read; try again in a second")
        self._pictures += 1
        try:
            body, boundary = await read_form(request, self._limits)
            packed = await asyncio.get_running_loop().run_in_executor(
                self._picture_pool, packed_picture, body, boundary, self._limits
            )
        finally:
            self._pictures -= 1
        return await self.answer(Asking(packed, guesses, show_images))

    async def answer(self, asking: Asking) -> Response:
        """The guesses of a drawing that is ready to be guessed."""
        guessed = await self._batcher.submit(asking, self._limits.answer_seconds)
        return JsonBytes(
            guess_json(
                guessed.guesses, asking.packed, guessed.name, guessed.version, guessed.images
            )
        )

    async def _prepare(self, body: bytes) -> Asking:
        """Reads a body; what may take long is done on a thread."""
        if len(body) > INLINE_BYTES:
            return await self._on_thread(self._whole, body)
        asked = read_request(body, self._limits)
        packed = packed_as_is(asked)
        if packed is None:
            packed = await self._on_thread(packed_simplified, asked.strokes)
        return Asking(packed, asked.guesses, asked.show_images)

    def _whole(self, body: bytes) -> Asking:
        asked = read_request(body, self._limits)
        packed = packed_as_is(asked) or packed_simplified(asked.strokes)
        return Asking(packed, asked.guesses, asked.show_images)

    async def _on_thread(self, function: Callable[[*Ts], R], *values: *Ts) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *values)

    async def words(self) -> Response:
        """In the order of their labels."""
        recognizer = self._require_ready()
        return json_response({"words": recognizer.label_map.words})

    async def word_drawings(
        self,
        word: Annotated[str, Path(description="the word, with spaces or underscores")],
        count: Annotated[int, Query(ge=1, le=MAX_DRAWINGS, description="how many")] = 8,
    ) -> Response:
        """Drawings of the store that the server was started with, chosen by chance."""
        if self._drawings is None:
            raise Refused(404, NO_STORE)
        drawings = await self._on_thread(self._drawings.some, word, count)
        return json_response({"drawings": drawings})

    async def model(self) -> Response:
        """What it reached on held-out drawings, with 95 % intervals, and what it mixes up."""
        recognizer = self._require_ready()
        info = recognizer.info
        image = info.image if info is not None else None
        return json_response(
            {
                "name": recognizer.name,
                "version": recognizer.version,
                "words": len(recognizer.label_map),
                "encoding": image and image.encoding,
                "side_px": image and image.side_px,
                "flip_tta": info and info.flip_tta,
                "metrics": info
                and info.metrics
                and {name: metric.model_dump() for name, metric in info.metrics.items()},
                "confusions": info.confusions if info is not None else {},
                "problem": self._slot.problem,
                "limits": self._limits.model_dump(),
            }
        )

    def _require_ready(self) -> "Recognizer":
        recognizer = self._slot.current
        if recognizer is None:
            raise unavailable(self._slot.missing, NOT_READY_SECONDS)
        return recognizer
