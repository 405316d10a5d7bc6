"""The routes below `/api`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from quickdraw_core.formats.pictures.processes import PictureProcesses
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.answers import (
    JsonBytes,
    Refused,
    guess_json,
    json_response,
    too_late,
    unavailable,
)
from quickdraw_core.serving.web.batching import Batcher, Workers
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
from quickdraw_core.serving.web.pictures import (
    boundary_of,
    form_bytes,
    packed_picture,
    picture_body,
)
from quickdraw_core.serving.web.reading import Reader, require_type
from quickdraw_core.serving.web.requests import (
    Asking,
    packed_as_is,
    packed_simplified,
    read_request,
)
from quickdraw_core.serving.web.word_drawings import MAX_DRAWINGS, WordDrawings

if TYPE_CHECKING:
    from quickdraw_core.serving.recognizer import Recognizer

INLINE_BYTES = 1 << 15
"""A body up to here is parsed where it is read, in well under a millisecond; longer ones on a
thread, so that others are answered in the meantime."""
TRACED, PICTURES = 2, 8
"""Pictures that are read at once, and with those that wait for it."""
TRACED_SHARE = 0.8
"""Of the time for an answer: one that takes longer is refused while its client still waits."""
PREPARED = 128
"""The same of drawings to simplify and of long bodies."""
LOOKED_UP = 32
"""The same of requests for drawings of a word."""
NO_STORE = (
    "there are no drawings to show: the server was started without a store (quickdraw serve "
    "--store STORE)"
)


def _busy(what: str) -> str:
    return f"too many {what} are being read; try again in a second"


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
        self._reader = Reader(limits.read_seconds)
        self._preparing = Workers(2, "prepare", PREPARED, _busy("drawings"))
        self._tracing = Workers(TRACED, "picture", PICTURES, _busy("pictures"))
        self._pictures = PictureProcesses(TRACED, TRACED_SHARE * limits.answer_seconds)
        self._looking_up = Workers(1, "drawings", LOOKED_UP, _busy("words"))
        self.router = APIRouter(prefix="/api", tags=["API"], default_response_class=JsonBytes)
        self._add_routes()

    def close(self) -> None:
        """Refuses what is not done yet, and waits for nothing."""
        for workers in (self._preparing, self._tracing, self._looking_up):
            workers.close()
        self._pictures.close()

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
            responses=errors(404, 422, 503),
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
        self._preparing.require_room()
        body = await self._reader.read(request, self._limits.body_bytes)
        deadline = self._deadline()
        try:
            with self._batcher.arriving():
                asking = await self._prepare(body, deadline)
        finally:
            self._reader.release(body)
        return await self.answer(asking, deadline)

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
        self._tracing.require_room()
        boundary = boundary_of(request)
        body = await self._reader.read(request, form_bytes(self._limits))
        deadline = self._deadline()
        try:
            async with self._by(deadline):
                packed = await self._tracing.run(
                    packed_picture, body, boundary, self._limits, self._pictures
                )
        finally:
            self._reader.release(body)
        return await self.answer(Asking(packed, guesses, show_images), deadline)

    async def answer(self, asking: Asking, deadline: float) -> Response:
        """The guesses of a drawing that is ready to be guessed. Raises `Refused`."""
        async with self._by(deadline):
            guessed = await self._batcher.submit(asking)
        return JsonBytes(
            guess_json(
                guessed.guesses, asking.packed, guessed.name, guessed.version, guessed.images
            )
        )

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._limits.answer_seconds

    @asynccontextmanager
    async def _by(self, deadline: float) -> AsyncIterator[None]:
        """A block that ends by then, or `Refused` (503)."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            raise too_late(self._limits.answer_seconds) from error

    async def _prepare(self, body: bytes, deadline: float) -> Asking:
        """Reads a body; what may take long is done on a thread. Raises `Refused`."""
        if len(body) > INLINE_BYTES:
            async with self._by(deadline):
                return await self._preparing.run(self._whole, body)
        asked = read_request(body, self._limits)
        packed = packed_as_is(asked)
        if packed is None:
            async with self._by(deadline):
                packed = await self._preparing.run(packed_simplified, asked.strokes)
        return Asking(packed, asked.guesses, asked.show_images)

    def _whole(self, body: bytes) -> Asking:
        asked = read_request(body, self._limits)
        packed = packed_as_is(asked) or packed_simplified(asked.strokes)
        return Asking(packed, asked.guesses, asked.show_images)

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
        async with self._by(self._deadline()):
            drawings = await self._looking_up.run(self._drawings.some, word, count)
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
