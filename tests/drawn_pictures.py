"""Pictures of drawings, as people take them: screenshots, dark mode, markers, photos of paper.

`picture_of(strokes, style, seed)` gives the bytes of a file. All that may vary does, by the seed:
sizes from 100 to 4000 px, pens from 1 to 40 px, colours, margins, light, noise, compression.
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Strokes = Sequence[tuple[Sequence[float], Sequence[float]]]
Random = np.random.Generator
Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.float32]

DARK_INKS: list[Colour] = [(0, 0, 0), (20, 20, 20), (70, 70, 75), (25, 40, 120), (120, 20, 20)]
LIGHT_INKS: list[Colour] = [(255, 255, 255), (230, 230, 230), (150, 220, 255), (255, 220, 120)]
DARK_PAPERS: list[Colour] = [(0, 0, 0), (18, 18, 18), (30, 32, 40), (10, 25, 60), (45, 45, 45)]
LIGHT_PAPERS: list[Colour] = [(255, 255, 255), (255, 255, 255), (250, 248, 240), (235, 235, 238)]
MARKERS: list[Colour] = [
    (230, 30, 40),
    (20, 90, 220),
    (20, 150, 60),
    (250, 130, 10),
    (150, 30, 180),
    (240, 200, 0),
    (0, 190, 210),
]
PENS: list[Colour] = [
    (30, 30, 35),
    (25, 45, 130),
    (40, 60, 160),
    (165, 30, 40),
    (60, 60, 65),
    (105, 105, 110),
]
PAPERS: list[Colour] = [(252, 252, 250), (245, 243, 238), (248, 240, 220), (225, 225, 228)]
RULES: list[Colour] = [(170, 200, 235), (190, 190, 195), (150, 160, 180), (235, 170, 175)]


def picture_of(strokes: Strokes, style: str, seed: int, longest_px: float = 1800) -> bytes:
    """The bytes of a picture of a drawing. strokes: points in 0..255; style: a row of STYLES;
    longest_px: of the longer side, but for some photos of 4000 px if that is not below 1800.
    """
    return STYLES[style](strokes, np.random.default_rng([seed, *style.encode()]), longest_px)


def _choice(rng: Random, colours: Sequence[Colour]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _log_uniform(rng: Random, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _pen_px(rng: Random, extent_px: float, thickest: float = 0.04) -> float:
    """1 to 40 px, at most a share of the drawing's extent."""
    return _log_uniform(rng, 1.0, max(1.5, min(40.0, thickest * extent_px)))


def _placed(strokes: Strokes, rng: Random, canvas: tuple[int, int]) -> tuple[Strokes, float]:
    """The strokes at a random place and size in a canvas, and how many pixels they extend."""
    width, height = canvas
    x = np.concatenate([np.asarray(s[0], float) for s in strokes])
    y = np.concatenate([np.asarray(s[1], float) for s in strokes])
    span = max(np.ptp(x), np.ptp(y), 1.0)
    extent = min(canvas) * rng.uniform(0.5, 0.88)
    scale = extent / span
    margin = 0.04 * min(canvas)
    left = rng.uniform(margin, max(margin + 1, width - margin - scale * np.ptp(x)))
    top = rng.uniform(margin, max(margin + 1, height - margin - scale * np.ptp(y)))
    return [
        (
            (np.asarray(sx, float) - x.min()) * scale + left,
            (np.asarray(sy, float) - y.min()) * scale + top,
        )
        for sx, sy in strokes
    ], extent


def _canvas(rng: Random, low: float, high: float) -> tuple[int, int]:
    long = _log_uniform(rng, low, high)
    short = long * rng.uniform(0.6, 1.0)
    sides = (int(long), int(short))
    return sides if rng.random() < 0.6 else sides[::-1]


def _coverage(strokes: Strokes, canvas: tuple[int, int], pen_px: float) -> Image.Image:
    """Where there is ink: 0..255, one channel, smooth edges."""
    scale = 3 if max(canvas) <= 1000 else 2 if max(canvas) <= 2000 else 1
    drawn = Image.new("L", (canvas[0] * scale, canvas[1] * scale), 0)
    draw = ImageDraw.Draw(drawn)
    width = max(1, round(pen_px * scale))
    for xs, ys in strokes:
        points = [(float(x) * scale, float(y) * scale) for x, y in zip(xs, ys, strict=True)]
        if len(points) > 1:
            draw.line(points, fill=255, width=width, joint="curve")
        if width > 2:
            r = width / 2
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return drawn.resize(canvas, Image.Resampling.BOX) if scale > 1 else drawn


def _on_paper(paper: Colour, ink: Colour, coverage: Image.Image) -> Image.Image:
    picture = Image.new("RGB", coverage.size, paper)
    picture.paste(ink, mask=coverage)
    return picture


def _encoded(picture: Image.Image, rng: Random, lossless: float = 0.6) -> bytes:
    """As PNG, JPEG or WebP."""
    target = io.BytesIO()
    if rng.random() < lossless:
        if picture.mode == "RGB" and rng.random() < 0.3:
            picture = picture.convert("P" if rng.random() < 0.5 else "L")
        picture.save(target, "PNG")
    elif rng.random() < 0.5:
        picture.save(target, "JPEG", quality=int(rng.integers(30, 96)))
    else:
        picture.save(target, "WEBP", quality=int(rng.integers(40, 96)))
    return target.getvalue()


def screenshot(strokes: Strokes, rng: Random, longest_px: float) -> bytes:
    """Dark ink on a light canvas, with a margin."""
    canvas = _canvas(rng, 100, longest_px)
    placed, extent = _placed(strokes, rng, canvas)
    coverage = _coverage(placed, canvas, _pen_px(rng, extent))
    return _encoded(_on_paper(_choice(rng, LIGHT_PAPERS), _choice(rng, DARK_INKS), coverage), rng)


def dark_mode(strokes: Strokes, rng: Random, longest_px: float) -> bytes:
    """Light ink on a dark canvas."""
    canvas = _canvas(rng, 100, longest_px)
    placed, extent = _placed(strokes, rng, canvas)
    coverage = _coverage(placed, canvas, _pen_px(rng, extent))
    return _encoded(_on_paper(_choice(rng, DARK_PAPERS), _choice(rng, LIGHT_INKS), coverage), rng)


def transparent(strokes: Strokes, rng: Random, longest_px: float) -> bytes:
    """Ink of any colour on nothing; what the transparent pixels hold is left to chance."""
    canvas = _canvas(rng, 100, longest_px)
    placed, extent = _placed(strokes, rng, canvas)
    coverage = _coverage(placed, canvas, _pen_px(rng, extent))
    ink = _choice(rng, [*DARK_INKS, *LIGHT_INKS, *MARKERS])
    below = _choice(rng, [(0, 0, 0), (255, 255, 255), ink])
    picture = Image.new("RGBA", canvas, (*below, 0))
    picture.paste(Image.merge("RGBA", [*Image.new("RGB", canvas, ink).split(), coverage]))
    if below != ink:
        solid = np.asarray(coverage) > 0
        pixels = np.array(picture)
        pixels[~solid, :3] = below
        picture = Image.fromarray(pixels)
    target = io.BytesIO()
    lossless = rng.random() < 0.8
    picture.save(target, "PNG" if lossless else "WEBP", lossless=True)
    return target.getvalue()


def marker(strokes: Strokes, rng: Random, longest_px: float) -> bytes:
    """A broad pen of a strong colour, or of several."""
    canvas = _canvas(rng, 200, longest_px)
    placed, extent = _placed(strokes, rng, canvas)
    pen = min(40.0, extent * rng.uniform(0.02, 0.05))
    picture = Image.new("RGB", canvas, _choice(rng, LIGHT_PAPERS))
    if rng.random() < 0.3:
        for stroke in placed:
            picture.paste(_choice(rng, MARKERS), mask=_coverage([stroke], canvas, pen))
    else:
        coverage = _coverage(placed, canvas, pen)
        if rng.random() < 0.4:
            alpha = rng.uniform(0.6, 0.95)
            coverage = coverage.point(lambda v: round(v * alpha))
        picture.paste(_choice(rng, MARKERS), mask=coverage)
    return _encoded(picture, rng)


def photo(strokes: Strokes, rng: Random, longest_px: float) -> bytes:
    """Pen or pencil on plain paper, photographed."""
    return _photographed(strokes, rng, longest_px, ruling=None)


def ruled(strokes: Strokes, rng: Random, longest_px: float) -> bytes:
    """Pen or pencil on ruled or squared paper, photographed."""
    return _photographed(
        strokes, rng, longest_px, ruling="squares" if rng.random() < 0.4 else "lines"
    )


def _photographed(strokes: Strokes, rng: Random, longest_px: float, ruling: str | None) -> bytes:
    huge = rng.random() < 0.08 and longest_px >= 1800
    canvas = _canvas(rng, 500, 4000 if huge else longest_px)
    long = max(canvas)
    placed, extent = _placed(strokes, rng, canvas)
    on_desk = rng.random() < 0.15
    pad = 0 if on_desk else int(0.3 * long)  # else the sheet goes on beyond the picture
    sheet = (canvas[0] + 2 * pad, canvas[1] + 2 * pad)
    picture = Image.new("RGB", sheet, _choice(rng, PAPERS))
    rule_px = max(1.0, long * rng.uniform(0.001, 0.0025))
    if ruling is not None:
        _rule(picture, rng, ruling, rule_px, long)
    thinnest = max(1.2, 0.004 * extent, 1.1 * rule_px if ruling else 0)
    pen = _log_uniform(rng, thinnest, max(1.3 * thinnest, min(40.0, 0.025 * extent)))
    ink = np.asarray(_choice(rng, PENS), np.float32)
    inked = _coverage([(np.add(x, pad), np.add(y, pad)) for x, y in placed], sheet, pen)
    coverage = np.asarray(inked, np.float32)[..., None] / 255
    coverage = coverage * _grain(rng, sheet, rng.uniform(0.0, 0.25))[..., None]
    page = np.asarray(picture, np.float32)
    page = page * (1 - coverage) + np.minimum(page, ink) * coverage
    page = _warped(page, rng, canvas, pad)
    page *= _light(rng, canvas)[..., None]
    page *= np.asarray([1.0, rng.uniform(0.92, 1.0), rng.uniform(0.8, 1.0)], np.float32)
    picture = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.0012) * long))
    page = np.asarray(picture, np.float32)
    page = page + rng.normal(0, rng.uniform(1, 6), page.shape).astype(np.float32)
    picture = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=int(rng.integers(30, 96)))
    return target.getvalue()


def _rule(picture: Image.Image, rng: Random, ruling: str, rule_px: float, long: int) -> None:
    width, height = picture.size
    spacing = long / (rng.uniform(14, 28) if ruling == "lines" else rng.uniform(20, 45))
    spacing = max(spacing, 6 * rule_px)
    colour, thick = _choice(rng, RULES), max(1, round(rule_px))
    draw = ImageDraw.Draw(picture)
    for y in np.arange(rng.uniform(0, spacing), height, spacing):
        draw.line([(0, float(y)), (width, float(y))], fill=colour, width=thick)
    if ruling == "squares":
        for x in np.arange(rng.uniform(0, spacing), width, spacing):
            draw.line([(float(x), 0), (float(x), height)], fill=colour, width=thick)
    elif rng.random() < 0.5:
        x = width * rng.uniform(0.2, 0.3)
        draw.line([(x, 0), (x, height)], fill=(235, 150, 155), width=thick)


def _grain(rng: Random, canvas: tuple[int, int], depth: float) -> Pixels:
    """How much ink stays on the paper's grain: 1 - depth to 1."""
    small = rng.random((max(2, canvas[1] // 2), max(2, canvas[0] // 2))).astype(np.float32)
    grown = Image.fromarray(small).resize(canvas, Image.Resampling.BILINEAR)
    return 1 - depth * np.asarray(grown, np.float32)


def _smooth(rng: Random, canvas: tuple[int, int], cells: int) -> Pixels:
    """A smooth random surface, about -1..1."""
    small = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize(canvas, Image.Resampling.BICUBIC), np.float32)


def _light(rng: Random, canvas: tuple[int, int]) -> Pixels:
    """Uneven light, and the soft edge of a shadow: factors of the paper's brightness."""
    light = rng.uniform(0.7, 1.0) * (1 + rng.uniform(0.05, 0.3) * _smooth(rng, canvas, 3))
    if rng.random() < 0.7:
        width, height = canvas
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        along = (x - width / 2) * math.cos(angle) + (y - height / 2) * math.sin(angle)
        along += 0.08 * max(canvas) * _smooth(rng, canvas, 4)
        soft = max(canvas) * _log_uniform(rng, 0.004, 0.08)
        edge = rng.uniform(-0.3, 0.3) * max(canvas)
        shade = 1 / (1 + np.exp(np.clip(-(along - edge) / soft, -30, 30)))
        light = light * (1 - rng.uniform(0.15, 0.5) * shade)
    return np.clip(light, 0.15, 1.05).astype(np.float32)


def _warped(page: Pixels, rng: Random, canvas: tuple[int, int], pad: int) -> Pixels:
    """Turned a little and seen from the side: what a picture of the canvas's size shows."""
    width, height = canvas
    angle = math.radians(rng.uniform(-7, 7))
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    middle = np.array([width / 2, height / 2])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shown = (corners - middle) @ turn.T * rng.uniform(0.8, 0.92) + middle
    shown += rng.uniform(-0.035, 0.035, shown.shape) * max(width, height)
    picture = Image.fromarray(np.clip(page, 0, 255).astype(np.uint8))
    warped = picture.transform(
        canvas,
        Image.Transform.PERSPECTIVE,
        _perspective(shown, corners + pad),
        Image.Resampling.BICUBIC,
        fillcolor=_choice(rng, [(90, 65, 45), (60, 60, 65), (130, 100, 70)]),
    )
    return np.asarray(warped, np.float32)


def _perspective(shown: npt.NDArray[np.float64], source: npt.NDArray[np.float64]) -> list[float]:
    """PIL's eight numbers that take points of the result to points of the source."""
    rows, values = [], []
    for (x, y), (u, v) in zip(shown, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(c) for c in np.linalg.solve(np.array(rows), np.array(values))]


STYLES: dict[str, Callable[[Strokes, Random, float], bytes]] = {
    "screenshot": screenshot,
    "dark_mode": dark_mode,
    "transparent": transparent,
    "marker": marker,
    "photo": photo,
    "ruled": ruled,
}
