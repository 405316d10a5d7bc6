"""An application to send requests to, around a recognizer that a test can hold, break or count."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array
from quickdraw_core.labels import LabelMap
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.serving.recognizer import Images
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.app import create_app
from quickdraw_core.serving.web.config import ServeConfig
from quickdraw_core.serving.web.gate import Gate
from quickdraw_core.serving.web.server import address_of, listen, server_of

WORDS = ("cat", "dog", "ice cream", "star", "sun")
SQUARE = [[[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]]


@dataclass
class InkRecognizer:
    """Guesses by how much ink each fifth of the drawing's pixels has: quick, and of each drawing
    alone. may_go: cleared, all guesses wait. fails_at: a drawing whose first point is there makes
    its batch fail. batches: how many drawings each call had.
    """

    name: str = "ink"
    version: str = "1"
    info: None = None
    fails_at: tuple[int, int] | None = None
    may_go: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.label_map = LabelMap(WORDS)
        self.may_go.set()

    def log_probabilities(self, drawings: DrawingBatch) -> Float32Array:
        self.batches.append(len(drawings))
        self.may_go.wait(60)
        starts = drawings.point_offsets[:-1]
        first = zip(drawings.x[starts].tolist(), drawings.y[starts].tolist(), strict=True)
        if self.fails_at in first:
            raise ArithmeticError("a drawing that cannot be guessed")
        (_, images), *_ = self.images(drawings)
        ink = images.reshape(len(drawings), -1)[:, :4095].reshape(len(drawings), -1, 5).sum(1) + 1
        return np.log(ink / ink.sum(1, keepdims=True)).astype(np.float32)

    def images(self, drawings: DrawingBatch) -> Images:
        image = ImageConfig(encoding="gray", side_px=64)
        return [(image, render(drawings, image))]


def slot_of(recognizer: InkRecognizer | None = None) -> ModelSlot:
    """A slot with a recognizer in it."""
    slot = ModelSlot()
    slot.swap(recognizer or InkRecognizer())
    return slot


@contextmanager
def serving(app: Gate) -> Iterator[str]:
    """The address of a real server, in a thread of this process."""
    listener = listen("127.0.0.1", 0)
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def client_of(slot: ModelSlot | None = None, **config: object) -> Iterator[httpx.Client]:
    """A client, while the application is served."""
    app = create_app(slot or slot_of(), ServeConfig.parse(config))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@asynccontextmanager
async def async_client_of(
    slot: ModelSlot | None = None, **config: object
) -> AsyncIterator[httpx.AsyncClient]:
    """The same for many requests at once."""
    app = create_app(slot or slot_of(), ServeConfig.parse(config))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        app.close()
