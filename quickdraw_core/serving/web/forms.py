"""The bodies of requests and answers, for the OpenAPI document and for those who write clients.

Requests are checked by `requests.py`, by hand: to validate each number here took longer than to
guess.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from quickdraw_core.serving.web.config import MAX_GUESSES

Axis = Annotated[list[float], Field(min_length=1)]
RawStroke = Annotated[list[Axis], Field(min_length=2, max_length=3)]
SimplifiedStroke = Annotated[
    list[list[Annotated[int, Field(ge=0, le=255)]]], Field(min_length=2, max_length=2)
]


class Strict(BaseModel):
    """A body without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class GuessRequest(Strict):
    """A drawing: strokes of x and y, in order, perhaps with the times t of their points."""

    drawing: list[RawStroke] = Field(
        min_length=1,
        description="strokes; each is a list of x, a list of y and perhaps a list of t, of as "
        "many values each; y grows downwards, t are milliseconds",
        examples=[[[[0, 255, 128, 0], [200, 200, 0, 200]]]],
    )
    simplified: bool | None = Field(
        None,
        description="true: coordinates are integers 0..255 and taken as they are; false: they are "
        "scaled and simplified as in Google's published drawings; null: integers 0..255 without "
        "t are taken as they are, all else is simplified",
    )
    guesses: int = Field(3, ge=1, le=MAX_GUESSES, description="how many words to answer with")
    show_images: bool = Field(False, description="also answer what the model sees, as PNG")


class WordProbability(BaseModel):
    """A guess."""

    word: str
    probability: float = Field(ge=0, le=1)


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str


class Channel(BaseModel):
    """One channel of an image, in gray."""

    name: str
    png_base64: str


class Image(BaseModel):
    """What a model sees of a drawing."""

    encoding: str
    side_px: int
    channels: list[Channel]


class GuessAnswer(BaseModel):
    """The guesses, most probable first."""

    guesses: list[WordProbability]
    drawing: list[SimplifiedStroke] = Field(description="the drawing that was guessed, 0..255")
    model: ModelName
    images: list[Image] | None


class WordsAnswer(BaseModel):
    """The words that the model knows, in the order of their labels."""

    words: list[str]


class DrawingsAnswer(BaseModel):
    """Drawings of one word, simplified."""

    drawings: list[list[SimplifiedStroke]]


class LimitsAnswer(BaseModel):
    """What one request may take."""

    body_bytes: int
    strokes: int
    points: int
    picture_bytes: int
    picture_pixels: int
    read_seconds: float
    answer_seconds: float


class MetricAnswer(BaseModel):
    """A number of the model's evaluation and its 95 % interval."""

    value: float
    low: float
    high: float


class ModelAnswer(BaseModel):
    """The model, what it reached on held-out drawings, and the limits of a request."""

    name: str
    version: str
    words: int = Field(description="how many words the model knows")
    encoding: str | None
    side_px: int | None
    flip_tta: bool | None
    metrics: dict[str, MetricAnswer] | None
    confusions: dict[str, list[str]] = Field(description="word → what it is most confused with")
    problem: str | None = Field(
        description="what keeps a newer version of a registered model from being served"
    )
    limits: LimitsAnswer


class Status(BaseModel):
    """Whether the server can guess."""

    status: Literal["ok"]


class ErrorAnswer(BaseModel):
    """Why there is no answer, in a sentence."""

    error: str
