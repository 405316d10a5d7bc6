"""The lines of ruled and squared paper, taken out of the ink: `without_ruling`.

A ruled line goes from one side of the picture to the other, is thin, and is not alone. Candidates
come from a Hough transform of thin ridges; each is then followed column by column, since paper is
seen in perspective and bends. What is on such a line and no stronger than it is the line; strokes
that cross it are closed again afterwards.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from quickdraw_core.drawing import Float32Array, Float64Array
from quickdraw_core.formats.pictures.strokes import Mask

_LARGEST_TILT = 14.0
"""Degrees that lines may be off the picture's sides."""

_LEAST_LINES = 4
_LEAST_COVER, _LEAST_COVER_ALONE = 0.6, 0.8
"""Share of the picture's width that shows a line: of one among many, and of a margin's line."""

_REACH_PX = 5
"""A ridge is thinner than this; a line is followed by so much at most."""

_BLOCK_PX = 24
"""Columns that are taken together while a line is followed."""

_STRONGER = 1.5
"""What is stronger than the line by this factor is a stroke on it."""


@dataclass(frozen=True)
class Ruling:
    """strength: the ink without the lines, float32 [H, W]; bands: where lines were, bool [H, W];
    level: how strong they are.
    """

    strength: Float32Array
    bands: Mask
    level: float


class _Line(NamedTuple):
    """A line that is nearly level. y: float64 [W], its middle; levels: float32 [W], how strong it
    is; cover: the share of its columns in which it shows.
    """

    y: Float64Array
    levels: Float32Array
    cover: float


def without_ruling(strength: Float32Array, noise: float) -> Ruling | None:
    """The ink without the lines of ruled or squared paper; None if there are none.

    strength: float32 [H, W]; noise: its standard deviation on paper.
    """
    families = [_lines(strength, noise), _lines(np.ascontiguousarray(strength.T), noise)]
    most = max(len(lines) for lines in families)
    if most < _LEAST_LINES:
        return None
    cleaned, bands = strength.copy(), np.zeros(strength.shape, bool)
    levels = [float(np.median(line.levels)) for lines in families for line in lines]
    usual = float(np.median(levels))
    for lines, ink, band in ((families[0], cleaned, bands), (families[1], cleaned.T, bands.T)):
        if len(lines) < _LEAST_LINES:  # a margin's line, beside lines the other way
            lines = [line for line in lines if line.cover > _LEAST_COVER_ALONE]
        for line in lines:
            # A long stroke along a line must not pass for it.
            _erase(line._replace(levels=np.minimum(line.levels, 1.5 * usual)), ink, band, noise)
    return Ruling(cleaned, bands, usual)


def closed(mask: Mask, ruling: Ruling) -> Mask:
    """The mask with strokes closed where a line was taken out of them."""
    size = 2 * _REACH_PX - 1
    bridged = ndimage.binary_closing(np.pad(mask, size), np.ones((size, size), bool))
    joined: Mask = mask | (bridged[size:-size, size:-size] & ruling.bands)
    return joined


def _lines(strength: Float32Array, noise: float) -> list[_Line]:
    """The nearly level lines that go through the picture."""
    ridge = _ridge(strength)
    ridges = ridge[ridge > max(0.025, 3 * noise)]
    if len(ridges) < 0.2 * strength.shape[1] * _LEAST_LINES:
        return []
    least = max(0.025, 3 * noise, 0.3 * float(np.quantile(ridges, 0.5)))
    lines: list[_Line] = []
    taken = np.zeros(strength.shape, bool)
    for start, end in _candidates(ridge, least):
        line = _followed(strength, ridge, start, end, least)
        rows = np.clip(np.rint(line.y).astype(int), 0, len(strength) - 1)
        columns = np.arange(len(rows))
        if line.cover >= _LEAST_COVER and taken[rows, columns].mean() < 0.4:
            lines.append(line)
            for shift in range(-_REACH_PX + 1, _REACH_PX):
                taken[np.clip(rows + shift, 0, len(strength) - 1), columns] = True
    return lines


def _ridge(strength: Float32Array) -> Float32Array:
    """How far a pixel stands out from those above and below: float32 [H, W]."""
    smooth = ndimage.uniform_filter1d(strength, 5, axis=1)
    padded = np.pad(smooth, ((_REACH_PX, _REACH_PX), (0, 0)), mode="edge")
    above, below = padded[: -2 * _REACH_PX], padded[2 * _REACH_PX :]
    ridge = np.maximum(smooth - np.maximum(above, below), 0)
    peak = (smooth >= padded[_REACH_PX - 1 : -_REACH_PX - 1]) & (
        smooth >= padded[_REACH_PX + 1 : -_REACH_PX + 1]
    )
    return np.where(peak, ridge, 0).astype(np.float32)


def _candidates(ridge: Float32Array, least: float) -> list[tuple[float, float]]:
    """Where lines may be: their y at the left and the right side."""
    from skimage.transform import hough_line, hough_line_peaks

    height, step = len(ridge), 3
    points = ridge[:, ::step] > least
    points = ndimage.binary_dilation(points, np.ones((3, 1), bool))
    # Columns are `step` apart, so a tilt is steeper by that factor.
    tilts = np.arange(-_LARGEST_TILT, _LARGEST_TILT + 0.01, 0.25)
    slopes = np.tan(np.radians(tilts)) * step
    angles = np.pi / 2 + np.arctan(slopes)
    votes, angles, distances = hough_line(points, theta=angles)
    _, turns, offsets = hough_line_peaks(
        votes,
        angles,
        distances,
        min_distance=5,
        min_angle=3,
        threshold=0.45 * points.shape[1],
        num_peaks=150,
    )
    ends = []
    for turn, offset in zip(turns, offsets, strict=True):
        y = [(offset - x * np.cos(turn)) / np.sin(turn) for x in (0.0, points.shape[1] - 1.0)]
        if all(-0.3 * height < value < 1.3 * height for value in y):
            ends.append((float(y[0]), float(y[1])))
    return ends


def _followed(
    strength: Float32Array, ridge: Float32Array, start: float, end: float, least: float
) -> _Line:
    """A candidate as it runs through the picture."""
    height, width = strength.shape
    columns = np.arange(width)
    straight = np.linspace(start, end, width)
    reach = np.arange(-_REACH_PX, _REACH_PX + 1)
    rows = np.rint(straight[None, :] + reach[:, None]).astype(int)
    inside = (rows >= 0) & (rows < height)
    rows = np.clip(rows, 0, height - 1)
    shown = np.where(inside, ridge[rows, columns] > least, False)
    blocks = -(-width // _BLOCK_PX)
    edges = np.minimum(np.arange(blocks + 1) * _BLOCK_PX, width)
    sums = np.add.reduceat(shown.astype(np.float32), edges[:-1], axis=1)
    sums = (
        sums + 0.5 * (np.roll(sums, 1, 0) + np.roll(sums, -1, 0)) - 0.05 * np.abs(reach)[:, None]
    )
    shifts = ndimage.median_filter(reach[sums.argmax(0)].astype(float), 7, mode="nearest")
    middles = (edges[:-1] + edges[1:]) / 2
    y = straight + np.interp(columns, middles, shifts)
    near = np.clip(np.rint(y[None, :] + np.arange(-2, 3)[:, None]).astype(int), 0, height - 1)
    visible = (y >= 0) & (y < height)
    covered = (ridge[near, columns] > least).any(0) & visible
    levels = strength[near[1:-1], columns].max(0)
    window = max(_BLOCK_PX * 2 + 1, width // 10 | 1)
    typical = ndimage.percentile_filter(levels[::4], 45, max(3, window // 4), mode="nearest")
    cover = float(covered.sum() / max(1, visible.sum())) if visible.mean() > 0.5 else 0.0
    return _Line(y, np.repeat(typical, 4)[:width].astype(np.float32), cover)


def _erase(line: _Line, ink: Float32Array, bands: Mask, noise: float) -> None:
    """Takes a line out of the ink, in place, but for what is stronger."""
    height, width = ink.shape
    columns = np.arange(width)
    limit = _STRONGER * line.levels + 2 * noise + 0.02
    for shift in range(-_REACH_PX + 1, _REACH_PX):
        rows = np.rint(line.y).astype(int) + shift
        inside = (rows >= 0) & (rows < height)
        rows, at, most = rows[inside], columns[inside], limit[inside]
        bands[rows, at] = True
        values = ink[rows, at]
        ink[rows, at] = np.where(values <= most, 0, values)
