"""What the API answers: JSON bytes of the forms in `forms.py`, or that it refuses."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from fastapi.responses import JSONResponse

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.formats.strokes import Packed
from quickdraw_core.render.encodings import ImageConfig

if TYPE_CHECKING:
    from quickdraw_core.serving.recognizer import Guess


class JsonBytes(JSONResponse):
    """A response of JSON that is bytes already. Of this class, so that FastAPI documents it."""

    def render(self, content: bytes) -> bytes:
        """The bytes."""
        return content


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> JsonBytes:
    """A response with a value as JSON."""
    return JsonBytes(orjson.dumps(value), status, dict(headers or {}))


def guess_json(
    guesses: "Sequence[Guess]",
    packed: Packed,
    name: str,
    version: str,
    images: Sequence[tuple[ImageConfig, UInt8Array]] | None,
) -> bytes:
    """A `GuessAnswer` as JSON. images: of this drawing, uint8 [C, side, side] each, or None."""
    return orjson.dumps(
        {
            "guesses": [{"word": g.word, "probability": g.probability} for g in guesses],
            "drawing": nested_strokes(packed),
            "model": {"name": name, "version": version},
            "images": images and [_image(config, pixels) for config, pixels in images],
        }
    )


def nested_strokes(packed: Packed) -> list[tuple[list[int], list[int]]]:
    """Packed bytes as one pair of lists a stroke, the form of JSON."""
    x, y, lengths = packed
    strokes, start = [], 0
    for length in np.frombuffer(lengths, "<u2").tolist():
        end = start + length
        strokes.append((list(x[start:end]), list(y[start:end])))
        start = end
    return strokes


def _image(config: ImageConfig, pixels: UInt8Array) -> dict[str, Any]:
    channels = [
        {"name": name, "png_base64": base64.b64encode(_png(channel)).decode("ascii")}
        for name, channel in zip(config.channel_names, pixels, strict=True)
    ]
    return {"encoding": config.encoding, "side_px": config.side_px, "channels": channels}


def _png(channel: UInt8Array) -> bytes:
    from PIL import Image as PillowImage

    file = io.BytesIO()
    PillowImage.fromarray(channel).save(file, "PNG")
    return file.getvalue()


class Refused(Exception):  # noqa: N818 — an answer to a client, not a fault of the server
    """Answered as `{"error": sentence}` with a status.

    closes: the connection is closed, since the rest of the request is not read. retry_after:
    seconds after which another try may do.
    """

    def __init__(
        self, status: int, sentence: str, *, closes: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.closes, self.retry_after = closes, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the answer."""
        headers = {"connection": "close"} if self.closes else {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return headers


def too_late(seconds: float) -> Refused:
    """503: no answer within so many seconds."""
    return unavailable(f"there was no guess within {seconds:g} seconds; try again later")


def unavailable(sentence: str, retry_after: int = 1) -> Refused:
    """503: not now. retry_after: seconds."""
    return Refused(503, sentence, retry_after=retry_after)
