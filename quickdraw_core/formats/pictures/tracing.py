"""A skeleton → strokes in a plausible order: `trace`.

Where lines cross, each goes on to the one that turns least. Nothing in a picture tells which
stroke came first; people begin with what is large (over real drawings, longest first is closest to
the order in which they were made), and at the upper left end.
"""

import numpy as np

from quickdraw_core.drawing import Float64Array
from quickdraw_core.formats.pictures.skeleton import Edge, Skeleton

Traced = tuple[Float64Array, Float64Array]
"""x and y of a stroke's points, float64 [n] each, in pixels."""

End = tuple[int, int]
"""One end of an edge: its index, and 0 for its first pixel, 1 for its last."""

_LARGEST_TURN = np.radians(75)


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


def _direction(pixels: list[tuple[int, int]], side: int, reach: float) -> Float64Array:
    """The way from an end into its line, looked at where the ink of the node is left behind."""
    points = np.asarray(pixels if side == 0 else pixels[::-1], float)
    away = np.hypot(*(points - points[0]).T)
    beyond = np.flatnonzero(away >= reach)
    last = int(beyond[0]) if len(beyond) else len(points) - 1
    way: Float64Array = points[last] - points[min(last // 3, 2)]
    return way


def _turn(a: Float64Array, b: Float64Array) -> float:
    """The angle by which a line turns that comes in along one way and leaves along the other."""
    size = np.hypot(*a) * np.hypot(*b)
    if size == 0:
        return float(np.pi / 2)
    return float(np.arccos(np.clip(-(a @ b) / size, -1, 1)))


def _stroke(line: list[tuple[int, int]]) -> Traced:
    """As x and y, from the end that is further up and left."""
    points = np.asarray(line, float)
    if points[0].sum() > points[-1].sum():
        points = points[::-1]
    return points[:, 1].copy(), points[:, 0].copy()


def _length(stroke: Traced) -> float:
    x, y = stroke
    return float(np.hypot(np.diff(x), np.diff(y)).sum())
