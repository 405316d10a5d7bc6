"""How far drawings may be changed before they are learned from (`augment.py`)."""

from pydantic import Field

from quickdraw_core.config import Config


class AugmentConfig(Config):
    """How far a drawing may be changed. All zero: not at all, but for its place."""

    rotation_degrees: float = Field(12, ge=0, le=180, description="largest turn either way")
    stretch: float = Field(0.15, ge=0, lt=0.9, description="largest change of width and height")
    shear: float = Field(0.15, ge=0, lt=1, description="largest slant, x shift a unit of y")
    shrink: float = Field(0.2, ge=0, lt=0.9, description="largest loss of size after fitting")
    mirror_share: float = Field(0.5, ge=0, le=1, description="share of drawings mirrored")
    stroke_drop_share: float = Field(
        0, ge=0, lt=1, description="share of strokes left out; at least one of a drawing stays"
    )
    point_noise: float = Field(
        0, ge=0, le=64, description="largest shift of a point each way, in 255ths of the square"
    )
