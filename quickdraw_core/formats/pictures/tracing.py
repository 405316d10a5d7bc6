"""A skeleton → strokes in a plausible order: `trace`.

Where lines cross, each goes on to the one that turns least. Nothing in a picture tells which
stroke came first; people begin with what is large (over real drawings, longest first is closest to
the order in which they were made), and at the upper left end.
"""

import math

import numpy as np

from quickdraw_core.formats.pictures.skeleton import Edge, Skeleton
from quickdraw_core.formats.pictures.strokes import Traced

Way = tuple[int, int]
"""A direction: y and x."""

End = tuple[int, int]
"""One end of an edge: its index, and 0 for its first pixel, 1 for its last."""

_LARGEST_TURN = math.radians(75)


def trace(skeleton: Skeleton) -> list[Traced]:
    """The strokes of a skeleton, longest first; dots are strokes of one point."""
    edges = skeleton.edges
    partner = _partners(skeleton)
    used = [False] * len(edges)
    ends = [(i, side) for i in range(len(edges)) for side in (0, 1)]
    # From free ends first: what is left then are closed loops.
    starts = [*(end for end in ends if end not in partner), *ends]
    strokes = [
        _stroke(_follow(start, edges, partner, used)) for start in starts if not used[start[0]]
    ]
    strokes.sort(key=lambda stroke: -_length(stroke))
    dots = [(np.array([x], float), np.array([y], float)) for y, x in skeleton.dots]
    return strokes + dots


def _follow(
    start: End, edges: list[Edge], partner: dict[End, End], used: list[bool]
) -> list[tuple[int, int]]:
    """The pixels from an end on, over all crossings."""
    line: list[tuple[int, int]] = []
    end: End | None = start
    while end is not None and not used[end[0]]:
        index, side = end
        used[index] = True
        pixels = edges[index].pixels
        line += pixels if side == 0 else pixels[::-1]
        end = partner.get((index, 1 - side))
    return line


def _partners(skeleton: Skeleton) -> dict[End, End]:
    """Which ends go on as which, at all nodes: the pair that turns least first."""
    at: dict[int, list[End]] = {}
    for index, edge in enumerate(skeleton.edges):
        for side in (0, 1):
            at.setdefault(edge.nodes[side], []).append((index, side))
    partner: dict[End, End] = {}
    for node, ends in at.items():
        reach = 2.0 * skeleton.reach.get(node, 1.0) + 3.0
        ways = [_direction(skeleton.edges[i].pixels, side, reach) for i, side in ends]
        pairs = [
            (_turn(ways[a], ways[b]), a, b)
            for a in range(len(ends))
            for b in range(a + 1, len(ends))
        ]
        for turn, a, b in sorted(pairs):
            free = ends[a] not in partner and ends[b] not in partner
            if free and (turn <= _LARGEST_TURN or len(ends) == 2):
                partner[ends[a]], partner[ends[b]] = ends[b], ends[a]
    return partner


def _direction(pixels: list[tuple[int, int]], side: int, reach: float) -> Way:
    """The way from an end into its line, measured where the ink of the node is left behind."""
    points = pixels if side == 0 else pixels[::-1]
    beyond = (i for i, point in enumerate(points) if math.dist(point, points[0]) >= reach)
    last = next(beyond, len(points) - 1)
    (end_y, end_x), (y, x) = points[last], points[min(last // 3, 2)]
    return end_y - y, end_x - x


def _turn(a: Way, b: Way) -> float:
    """The angle by which a line turns that comes in along one way and leaves along the other."""
    size = math.hypot(*a) * math.hypot(*b)
    if size == 0:
        return math.pi / 2
    return math.acos(min(1, max(-1, -(a[0] * b[0] + a[1] * b[1]) / size)))


def _stroke(line: list[tuple[int, int]]) -> Traced:
    """As x and y, from the end that is further up and left."""
    points = np.asarray(line, float)
    if points[0].sum() > points[-1].sum():
        points = points[::-1]
    return points[:, 1].copy(), points[:, 0].copy()


def _length(stroke: Traced) -> float:
    x, y = stroke
    return float(np.hypot(np.diff(x), np.diff(y)).sum())
