"""One row of the ingest benchmark's input, and the next: the compiled writer and its tables.

In: a seed and row numbers. Out: lines of Kaggle's training CSV in a buffer, about 480 MB/s a
core. The drawings mean nothing, but cost a reader what real ones do: as many strokes, points and
digits, pens that turn smoothly, coordinates that compress as little. Each is drawn on its own.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

LARGEST_LINE_BYTES = 1 << 13
"""No line is longer."""

_MAX_STROKES, _MAX_POINTS = 74, 500
_DIRECTIONS = 1024
_UNRECOGNIZED = round(0.08 * 2**16)

# Thousandths of the most frequent countries; those without a number share what is left, each
# with 0.985 of the one before. `NA` is Namibia, `ZZ` is unknown.
_COUNTRIES = """
US=437 GB=72 CA=38 DE=30 RU=23 AU=23 BR=19 FI=18 SE=18 CZ=18 FR=15 IT=15 PL=15 KR=15 TH=13 PH=13
SA=13 NL=12 HU=12 ID=9 RO=9 IN=8 SK=8 VN=8 JP=8 AE=8 TW=8 UA=6 NO=6 MY=6 HR=5 TR=5 NZ=5 AT=5 HK=5
IE=5 BG=4 PT=4 RS=4 MX=4 DK=4 ES=3 CH=3 SG=3 IL=3 EE=3 AR=3 BE=3 ZA=2 IQ=2 GR=2 LT=2 NA=0.2
ZZ=0.9 KH DZ LV CO BA EG KZ KW SI BY QA JO MA PK CL OM PE GE BH LB BD MK VE ME PR MD EC UY TT MT
AL LU PS CR IS GU TN NP MV BN DO CY KE AZ AM KG BO MN JE AX RE MU MP KY GT UZ BM MO SV SO CW HN
PA PY GI IM FO CI SR MQ MM JM CN BS LK GG GP MH VI DM AN VC NG NC GD GY AF UG LY BB ZM TC AW NI
SN GF LA GH TZ BZ ET SY YE BW ZW SD FJ MG CM HT RW AO MZ CD TL LC AG KN PF GL BT SC GM ML BF BJ
TG NE LR SL GN GA CG TD DJ SZ LS MR CV TJ TM PG WS TO VU SB AD MC LI SM AS AI MS VG BQ SX MF FM
PW KI
"""

U64 = np.uint64
_GOLDEN = U64(0x9E3779B97F4A7C15)

# The pen, fitted by eye to real drawings. Chances are of 256.
_START_X, _START_Y = np.float32(0.9), np.float32(0.75)  # of the canvas, where strokes begin
_EDGE_X, _EDGE_Y = np.float32(150), np.float32(120)  # px from the middle of the canvas
_SENSE_CHANGES = 48  # the pen begins to turn the other way
_STRAIGHTENED = 8  # a step goes straight up, down or aside
_DOTS = 42  # a stroke of two points is a dot
_ASPECT = 0.45  # spread of the logarithm of width against height

Bytes = NDArray[np.uint8]


class Tables(NamedTuple):
    """What the compiled writer looks up: distributions as tables of equally likely values."""

    countries: Bytes  # (n, 2) letters
    country: Bytes  # (65536,) place in `countries`
    strokes: Bytes  # (65536,) strokes of a drawing
    normal: NDArray[np.float64]  # (65536,) standard normal, with a longer tail
    medians: NDArray[np.float64]  # (75,) points of a drawing of so many strokes
    sigmas: NDArray[np.float64]  # (75,) their spread, of the logarithm
    shares: NDArray[np.float32]  # (1024,) a stroke's share of the points, before it is normed
    steps: NDArray[np.float32]  # (1024,) from a point to the next, in px
    turns: NDArray[np.int64]  # (1024,) by how much the pen turns, in 1/1024 of a circle
    cosines: NDArray[np.float32]  # (1024,)
    coordinates: Bytes  # (256, 5) "255, "
    widths: NDArray[np.int64]  # (256,) bytes of those
    pairs: Bytes  # (100, 2) "00" to "99"
    dates: Bytes  # (256, 10) "2017-03-01"


def make_tables() -> Tables:
    """The distributions of real drawings, as formulas fitted to a sample of 16 a class."""
    codes, shares = _country_shares()
    count = np.maximum(1, np.arange(_MAX_STROKES + 1))
    sigmas = 0.30 + 0.32 / count
    numbers = [f"{value}, ".ljust(5) for value in range(256)]
    normal = _normal(1 << 16)
    small = _normal(1 << 10)
    uniform = _uniform(1 << 10)
    circle = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    turn_degrees = 24 * np.exp(1.05 * small)
    return Tables(
        countries=_letters(codes),
        country=np.searchsorted(np.cumsum(shares), _uniform(1 << 16)).astype(np.uint8),
        strokes=np.clip(np.exp(1.50 + 0.69 * normal), 1, _MAX_STROKES).astype(np.uint8),
        normal=normal + 0.012 * normal**3,
        medians=(24.5 + 3.8 * count) * np.exp(-0.5 * sigmas**2),
        sigmas=sigmas,
        shares=((-np.log1p(-uniform)) ** 1.5).astype(np.float32),
        steps=np.clip(20 * np.exp(0.85 * small), 2.5, 260).astype(np.float32),
        turns=np.clip(turn_degrees / 360 * _DIRECTIONS, 4, _DIRECTIONS // 2).astype(np.int64),
        cosines=np.cos(circle).astype(np.float32),
        coordinates=_letters(numbers),
        widths=np.array([len(number.rstrip()) + 1 for number in numbers]),
        pairs=_letters([f"{value:02}" for value in range(100)]),
        dates=_letters(_dates()),
    )


def _uniform(count: int) -> NDArray[np.float64]:
    return (np.arange(count) + 0.5) / count


def _normal(count: int) -> NDArray[np.float64]:
    """Values of a standard normal that split it into `count` equally likely parts."""
    standard = NormalDist()
    return np.array([standard.inv_cdf(share) for share in _uniform(count)])


def _letters(texts: Sequence[str]) -> Bytes:
    """Texts of one length as rows of bytes."""
    return np.frombuffer("".join(texts).encode(), np.uint8).reshape(len(texts), -1).copy()


def _country_shares() -> tuple[list[str], NDArray[np.float64]]:
    entries = [entry.partition("=") for entry in _COUNTRIES.split()]
    shares = np.array([float(share or 0) / 1000 for _, _, share in entries])
    rare = shares == 0
    tail = 0.985 ** np.arange(rare.sum())
    shares[rare] = tail / tail.sum() * (1 - shares.sum())
    return [code for code, _, _ in entries], shares


def _dates() -> list[str]:
    """256 dates: most of the game's drawings kept are of 23-31 January and March 2017."""
    busy = [f"2017-01-{day}" for day in range(23, 32)]
    busy += [f"2017-03-{day:02}" for day in range(1, 30)]
    quiet = [f"2017-01-{day:02}" for day in range(4, 23)] + ["2017-03-30", "2017-03-31"]
    dates = quiet + 7 * busy
    return [dates[place % len(dates)] for place in range(256)]


@numba.njit(inline="always")
def _mixed(value):  # type: ignore[no-untyped-def]
    """A full avalanche mix (the finaliser of SplitMix64, Steele et al., 2014)."""
    value = (value ^ (value >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> U64(27))) * U64(0x94D049BB133111EB)
    return value ^ (value >> U64(31))


@numba.njit(inline="always")
def _put(out, position, text):  # type: ignore[no-untyped-def]
    for place in range(len(text)):
        out[position + place] = text[place]
    return position + len(text)


@numba.njit(inline="always")
def _put_pairs(out, position, value, count, pairs):  # type: ignore[no-untyped-def]
    """Writes `value` with 2 * count digits."""
    for place in range(count - 1, -1, -1):
        pair = value % U64(100)
        value //= U64(100)
        out[position + 2 * place] = pairs[pair, 0]
        out[position + 2 * place + 1] = pairs[pair, 1]
    return position + 2 * count


@numba.njit(inline="always")
def _put_numbers(out, position, values, begin, end, factor, low, t):  # type: ignore[no-untyped-def]
    """Writes `12, 34, 56`."""
    for place in range(begin, end):
        value = int((values[place] - low) * factor + 0.5)
        for letter in range(5):
            out[position + letter] = t.coordinates[value, letter]
        position += t.widths[value]
    return position - 2


@numba.njit(inline="always")
def _share_points(ends, points, strokes, state, t):  # type: ignore[no-untyped-def]
    """Deals `points` out to `strokes`, two at least to each; `ends` gets where each one ends."""
    shares = np.empty(_MAX_STROKES, np.float32)
    total = np.float32(0)
    for stroke in range(strokes):
        state += _GOLDEN
        shares[stroke] = t.shares[_mixed(state) >> U64(54)]
        total += shares[stroke]
    free, so_far = points - 2 * strokes, np.float32(0)
    for stroke in range(strokes):
        so_far += shares[stroke]
        ends[stroke] = int(free * (so_far / total)) + 2 * (stroke + 1)
    ends[strokes - 1] = points
    return state


@numba.njit(inline="always")
def _walk(x, y, begin, end, state, t):  # type: ignore[no-untyped-def]
    """Moves the pen from point `begin` to `end` of one stroke.

    It mostly goes on turning in the same sense, and turns back at the edge of its canvas.
    """
    state += _GOLDEN
    chance = _mixed(state)
    pen_x = (np.float32(chance & U64(0xFF)) - np.float32(127.5)) * _START_X
    pen_y = (np.float32((chance >> U64(8)) & U64(0xFF)) - np.float32(127.5)) * _START_Y
    direction = np.int64((chance >> U64(16)) & U64(_DIRECTIONS - 1))
    sense = np.int64(1)
    dot = end - begin == 2 and (chance >> U64(32)) & U64(0xFF) < U64(_DOTS)
    scale = np.float32(0 if dot else 1)
    for point in range(begin, end):
        x[point], y[point] = pen_x, pen_y
        state += _GOLDEN
        chance = _mixed(state)
        if (chance >> U64(32)) & U64(0xFF) < U64(_SENSE_CHANGES):
            sense = -sense
        direction += sense * t.turns[(chance >> U64(10)) & U64(0x3FF)]
        if (chance >> U64(40)) & U64(0xFF) < U64(_STRAIGHTENED):
            direction = (direction + _DIRECTIONS // 8) & -(_DIRECTIONS // 4)
        step = t.steps[chance & U64(0x3FF)] * scale
        step_x = step * t.cosines[direction & (_DIRECTIONS - 1)]
        step_y = step * t.cosines[(direction - _DIRECTIONS // 4) & (_DIRECTIONS - 1)]
        if abs(pen_x + step_x) > _EDGE_X or abs(pen_y + step_y) > _EDGE_Y:
            direction += _DIRECTIONS // 2
            step_x, step_y = -step_x, -step_y
        pen_x += step_x
        pen_y += step_y
    return state


@numba.njit(inline="always")
def _put_drawing(out, position, x, y, ends, strokes, chance, t):  # type: ignore[no-untyped-def]
    """Writes `[[[x, …], [y, …]], …]`, moved and scaled such that the longer side is 0..255."""
    left, top = x[0], y[0]
    right, bottom = left, top
    for point in range(ends[strokes - 1]):
        left, right = min(left, x[point]), max(right, x[point])
        top, bottom = min(top, y[point]), max(bottom, y[point])
    # Real drawings are wide or high, and one of nine ends at 254.
    width = np.float32(np.exp(_ASPECT * t.normal[chance & U64(0xFFFF)]))
    side = max((right - left) * width, bottom - top)
    largest = np.float32(254.49 if (chance >> U64(16)) % U64(9) == 0 else 254.99)
    factor = largest / side if side > 0 else np.float32(0)
    position = _put(out, position, b"[")
    begin = 0
    for stroke in range(strokes):
        position = _put(out, position, b"[[")
        position = _put_numbers(out, position, x, begin, ends[stroke], factor * width, left, t)
        position = _put(out, position, b"], [")
        position = _put_numbers(out, position, y, begin, ends[stroke], factor, top, t)
        position = _put(out, position, b"]], ")
        begin = ends[stroke]
    return _put(out, position - 2, b"]")


@numba.njit(inline="always")
def _key_id(row, seed):  # type: ignore[no-untyped-def]
    """An id of its own for each row: an odd multiple of 2**21 from 2**52 on, as real ones are.

    2**29 of them stand below 1.5 * 2**52; the steps below permute them.
    """
    mask = U64((1 << 29) - 1)
    place = (U64(row) * U64(0x165667B1) + seed) & mask
    place = ((place ^ (place >> U64(15))) * U64(0x1B873593)) & mask
    place ^= place >> U64(13)
    return (U64(1 << 31) + (place << U64(1)) + U64(1)) << U64(21)


@numba.njit(inline="always")
def _put_time(out, position, chance, t):  # type: ignore[no-untyped-def]
    """Writes `2017-03-01 12:34:56.789120`; real times count hundred-thousandths of a second."""
    position = _put(out, position, t.dates[chance & U64(0xFF)])
    seconds = ((chance >> U64(8)) & U64(0xFFFFFF)) % U64(86_400)
    out[position] = ord(" ")
    position = _put_pairs(out, position + 1, seconds // U64(3600), 1, t.pairs)
    out[position] = ord(":")
    position = _put_pairs(out, position + 1, seconds // U64(60) % U64(60), 1, t.pairs)
    out[position] = ord(":")
    position = _put_pairs(out, position + 1, seconds % U64(60), 1, t.pairs)
    out[position] = ord(".")
    return _put_pairs(out, position + 1, (chance >> U64(32)) % U64(100_000) * U64(10), 3, t.pairs)


@numba.njit(nogil=True, cache=True)
def write_rows(out, position, row, last, seed, ending, t):  # type: ignore[no-untyped-def]
    """Writes rows `row` to `last` from `position` on, until `out` is nearly full.

    Returns the first row not written and where it belongs. A row is a function of `seed` and its
    number alone.
    """
    x = np.empty(_MAX_POINTS, np.float32)
    y = np.empty(_MAX_POINTS, np.float32)
    ends = np.empty(_MAX_STROKES, np.int64)
    while row < last and position + LARGEST_LINE_BYTES <= len(out):
        state = _mixed(_mixed(seed) + U64(row) * _GOLDEN)
        chance = _mixed(state)
        country = t.country[chance & U64(0xFFFF)]
        recognized = ((chance >> U64(16)) & U64(0xFFFF)) >= U64(_UNRECOGNIZED)
        strokes = np.int64(t.strokes[(chance >> U64(32)) & U64(0xFFFF)])
        wanted = t.medians[strokes] * np.exp(t.sigmas[strokes] * t.normal[chance >> U64(48)])
        points = np.int64(min(max(wanted, 2.0 * strokes), float(_MAX_POINTS)))
        state = _share_points(ends, points, strokes, state, t)
        begin = 0
        for stroke in range(strokes):
            state = _walk(x, y, begin, ends[stroke], state, t)
            begin = ends[stroke]

        position = _put(out, position, t.countries[country])
        position = _put(out, position, b',"')
        state += _GOLDEN
        position = _put_drawing(out, position, x, y, ends, strokes, _mixed(state), t)
        position = _put(out, position, b'",')
        position = _put_pairs(out, position, _key_id(row, seed), 8, t.pairs)
        if recognized:
            position = _put(out, position, b",True,")
        else:
            position = _put(out, position, b",False,")
        position = _put_time(out, position, _mixed(state + _GOLDEN), t)
        position = _put(out, position, ending)
        row += 1
    return row, position
