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


class Encoding(NamedTuple):
    """A row of the table: what its images hold, and why one would want them.

    channel_names: what each channel holds, in words. reason: in a line. values: brightness of each
    point's segment, float32 [P, 3] in 0..255; None for one channel at full brightness.
    is_picture: whether the strokes are drawn; if not, the channels hold the points themselves, as
    `point_slots.py` lays them out.
    """

    channel_names: tuple[str, ...]
    reason: str
    values: "Callable[[DrawingBatch], Float32Array] | None" = None
    is_picture: bool = True

    @property
    def channels(self) -> int:
        """How many channels its images have."""
        return len(self.channel_names)


def _order(batch: DrawingBatch) -> "Float32Array":
    from quickdraw_core.render.brightness import order_values

    return order_values(batch)


def _thirds(batch: DrawingBatch) -> "Float32Array":
    from quickdraw_core.render.brightness import thirds_values

    return thirds_values(batch)


ENCODINGS: dict[str, Encoding] = {
    "gray": Encoding(("ink",), "ink alone, as the original report has it"),
    "order": Encoding(
        ("ink", "stroke order", "point order"),
        "ink, stroke order, point order: time tells much of a doodle",
        _order,
    ),
    "thirds": Encoding(
        ("first third", "first two thirds", "all"),
        "ink of the first third of the points, of two thirds, of all: a doodle as it grows",
        _thirds,
    ),
    "points": Encoding(
        ("x", "y", "pen"),
        "x, y and pen of each point, for a network that reads strokes",
        is_picture=False,
    ),
}


class ImageConfig(Config):
    """The images that a network is given, float or uint8 [N, channels, side_px, side_px]."""

    encoding: Annotated[str, row_of(ENCODINGS)] = Field("order", description="row of ENCODINGS")
    side_px: int = Field(32, ge=24, le=256, description="side of the square image, pixels")
    draw_on: Literal["cpu", "device"] = Field(
        "cpu", description="where strokes become images: by threads, or on the training device"
    )

    @model_validator(mode="after")
    def _can_be_drawn_there(self) -> Self:
        if self.draw_on == "device" and not self.is_picture:
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
    def is_picture(self) -> bool:
        """Whether the strokes are drawn; if not, the channels hold the points themselves."""
        return ENCODINGS[self.encoding].is_picture

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

    Pictures have ink on 0, in lines of `line_width_px` (default: side_px / 22); for `points`
    see `write_points`. points: where the batch's points stand (augmented, say); without it each
    drawing is centred. out: where to write, uint8 [N, C, side_px, side_px], C-contiguous,
    whatever it held before; it is returned. threads: how many threads do it, the calling one
    included; the bytes do not depend on it.

    Raises `ConfigError` for a size or line width that cannot be drawn; `ValueError` for arrays
    that do not fit.
    """
    from quickdraw_core.render.placement import centred
    from quickdraw_core.render.point_slots import write_points
    from quickdraw_core.render.raster import LINE_WIDTH_SHARE, draw

    row, side_px = ENCODINGS[image.encoding], image.side_px
    placed = points if points is not None else centred(batch)
    if not row.is_picture:
        return write_points(batch, placed, side_px, out=out, threads=threads)
    width = line_width_px if line_width_px is not None else side_px * LINE_WIDTH_SHARE
    values = row.values(batch) if row.values is not None else None
    return draw(batch, placed, values, side_px, width, out=out, threads=threads)
