"""What the channels of an image mean: one row of `ENCODINGS` a choice.

Compiled code is loaded by what draws, not by who looks a row up.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from quickdraw_core.config import Config, row_of
from quickdraw_core.drawing import DrawingBatch, UInt8Array
from quickdraw_core.errors import ConfigError

if TYPE_CHECKING:
    from quickdraw_core.drawing import Float32Array
    from quickdraw_core.render.placement import Points


Holds = Literal["picture", "points", "picture and points"]
"""What the channels hold: the strokes drawn, the points themselves as `point_slots.py` lays them
out, or a picture's channels and after them those of the points."""

POINT_CHANNELS = ("x", "y", "pen")
"""The last channels of an encoding that holds points."""


class Encoding(NamedTuple):
    """A row of the table: what its images hold, and why one would want them.

    channel_names: what each channel holds, in words. reason: in a line. values: brightness of each
    point's segment, float32 [P, 3] in 0..255; None for one channel at full brightness.
    """

    channel_names: tuple[str, ...]
    reason: str
    values: "Callable[[DrawingBatch], Float32Array] | None" = None
    holds: Holds = "picture"

    @property
    def channels(self) -> int:
        """How many channels its images have."""
        return len(self.channel_names)

    @property
    def has_picture(self) -> bool:
        """Whether the strokes are drawn, in the first channels."""
        return self.holds != "points"

    @property
    def has_points(self) -> bool:
        """Whether the last three channels hold the points."""
        return self.holds != "picture"


def _order(batch: DrawingBatch) -> "Float32Array":
    from quickdraw_core.render.brightness import order_values

    return order_values(batch)


def _thirds(batch: DrawingBatch) -> "Float32Array":
    from quickdraw_core.render.brightness import thirds_values

    return thirds_values(batch)


_ORDER_CHANNELS = ("ink", "stroke order", "point order")

ENCODINGS: dict[str, Encoding] = {
    "gray": Encoding(("ink",), "ink alone, as the original report has it"),
    "order": Encoding(
        _ORDER_CHANNELS,
        "ink, stroke order, point order: time tells much of a doodle",
        _order,
    ),
    "thirds": Encoding(
        ("first third", "first two thirds", "all"),
        "ink of the first third of the points, of two thirds, of all: a doodle as it grows",
        _thirds,
    ),
    "points": Encoding(
        POINT_CHANNELS,
        "x, y and pen of each point, for a network that reads strokes",
        holds="points",
    ),
    "order_points": Encoding(
        (*_ORDER_CHANNELS, *POINT_CHANNELS),
        "the channels of order, then those of points, for a network that reads both",
        _order,
        holds="picture and points",
    ),
}

USUAL_ENCODINGS: dict[Holds, str] = {
    "picture": "order",
    "points": "points",
    "picture and points": "order_points",
}
"""What a network is given that reads this, if nothing else is said."""


class ImageConfig(Config):
    """The images that a network is given, float or uint8 [N, channels, side_px, side_px]."""

    encoding: Annotated[str, row_of(ENCODINGS)] = Field("order", description="row of ENCODINGS")
    side_px: int = Field(32, ge=24, le=256, description="side of the square image, pixels")
    draw_on: Literal["cpu", "device"] = Field(
        "cpu", description="where strokes become images: by threads, or on the training device"
    )

    @model_validator(mode="after")
    def _can_be_drawn_there(self) -> Self:
        if self.draw_on == "device" and not ENCODINGS[self.encoding].has_picture:
            raise ConfigError(
                f"encoding {self.encoding!r} is no picture, so the training device cannot draw "
                "it; set image.draw_on=cpu"
            )
        return self

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What each channel of an image holds, in words."""
        return ENCODINGS[self.encoding].channel_names

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return ENCODINGS[self.encoding].channels

    @property
    def holds(self) -> Holds:
        """What the channels hold."""
        return ENCODINGS[self.encoding].holds

    @property
    def on_cpu(self) -> "ImageConfig":
        """The same images, drawn by this host's processor."""
        return self.model_copy(update={"draw_on": "cpu"})


def render(
    batch: DrawingBatch,
    image: ImageConfig,
    points: "Points | None" = None,
    line_width_px: float | None = None,
    *,
    out: UInt8Array | None = None,
    threads: int = 1,
) -> UInt8Array:
    """Draws a batch on this host's processor: `images_nchw`, uint8 [N, C, side_px, side_px].

    Pictures have ink on 0, in lines of `line_width_px` (default: side_px / 22); for the channels
    of points see `write_points`. points: where the batch's points stand (augmented, say);
    without it each drawing is centred. out: where to write, uint8 [N, C, side_px, side_px],
    C-contiguous, whatever it held before; it is returned. threads: how many threads do it, the
    calling one included; the bytes do not depend on it.

    Raises `ConfigError` for a size or line width that cannot be drawn; `ValueError` for arrays
    that do not fit.
    """
    from quickdraw_core.render.placement import centred
    from quickdraw_core.render.point_slots import write_points
    from quickdraw_core.render.raster import LINE_WIDTH_SHARE, draw, images_for

    row, side_px = ENCODINGS[image.encoding], image.side_px
    placed = points if points is not None else centred(batch)
    if not row.has_picture:
        return write_points(batch, placed, side_px, out=out, threads=threads)
    width = line_width_px if line_width_px is not None else side_px * LINE_WIDTH_SHARE
    values = row.values(batch) if row.values is not None else None
    if not row.has_points:
        return draw(batch, placed, values, side_px, width, out=out, threads=threads)
    images = images_for(len(batch), row.channels, side_px, out)
    of_picture = row.channels - len(POINT_CHANNELS)
    # Copied: both write into memory without gaps, which half of the channels is not.
    images[:, :of_picture] = draw(batch, placed, values, side_px, width, threads=threads)
    images[:, of_picture:] = write_points(batch, placed, side_px, threads=threads)
    return images
