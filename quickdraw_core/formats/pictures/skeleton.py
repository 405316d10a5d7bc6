"""An ink mask → a graph of lines one pixel wide: `skeleton_of`.

Thinning leaves a line a pixel wide in the middle of each stroke. Its pixels with two neighbours
make up edges; ends and crossings are nodes. Two artefacts of thinning are taken back: spurs, which
stand out at corners and bulges by no more than half a pen, and crossings torn into two forks.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import ndimage

from quickdraw_core.drawing import Float32Array
from quickdraw_core.errors import PictureError
from quickdraw_core.formats.pictures.strokes import Mask

Pixel = tuple[int, int]

_MAX_PIXELS, _MAX_EDGES = 15_000, 2_000
"""Of a skeleton. Dense drawings have some thousand pixels and some hundred edges."""

_MAX_MEETING = 32
"""Forks are made one while no more lines meet there."""


@dataclass(eq=False)
class Edge:
    """A line of the skeleton: the pixels (y, x) from one node to another, both included."""

    pixels: list[Pixel]
    nodes: tuple[int, int]

    @cached_property
    def length(self) -> float:
        """In pixels, along the line; worked out once, and again after `extend`."""
        return math.fsum(math.dist(a, b) for a, b in pairwise(self.pixels))

    def extend(self, pixel: Pixel, at_start: bool) -> None:
        """Has the line begin or end at another pixel."""
        self.pixels.insert(0 if at_start else len(self.pixels), pixel)
        self.__dict__.pop("length", None)


@dataclass
class Skeleton:
    """edges: all lines. reach: node → half the pen's width there. dots: single pixels. pen_px: the
    width of the pen, the median over the skeleton.
    """

    edges: list[Edge]
    reach: dict[int, float]
    dots: list[Pixel]
    pen_px: float


def skeleton_of(mask: Mask) -> Skeleton:
    """The graph of a mask, bool [H, W]. Raises `PictureError` if it has too many lines."""
    from skimage.morphology import skeletonize

    padded = np.pad(mask, 1)
    depth: Float32Array = ndimage.distance_transform_edt(padded).astype(np.float32)
    thin = skeletonize(padded)
    if int(thin.sum()) > _MAX_PIXELS:
        raise _too_many_lines()
    pen_px = 2 * float(np.median(depth[thin])) if thin.any() else 1.0
    pixels = {(int(y), int(x)) for y, x in zip(*np.nonzero(thin), strict=True)}
    edges, dots = _edges_of(pixels)
    if len(edges) > _MAX_EDGES:
        raise _too_many_lines()
    skeleton = _Builder(edges, depth)
    skeleton.prune()
    skeleton.contract()
    return Skeleton(list(skeleton.edges), skeleton.reach, dots, pen_px)


def _too_many_lines() -> PictureError:
    return PictureError(
        "the picture has too many lines to be a drawing; crop it to the drawing, or take it on "
        "plain paper"
    )


def _neighbours(pixel: Pixel, pixels: set[Pixel]) -> list[Pixel]:
    """Those of the 8 around that are not next to another neighbour already."""
    y, x = pixel
    near = [p for p in ((y - 1, x), (y, x + 1), (y + 1, x), (y, x - 1)) if p in pixels]
    for dy, dx in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
        if (y + dy, x + dx) in pixels and not ((y + dy, x) in pixels or (y, x + dx) in pixels):
            near.append((y + dy, x + dx))
    return near


def _edges_of(pixels: set[Pixel]) -> tuple[list[Edge], list[Pixel]]:
    """The lines between nodes, loops included, and the pixels that have no neighbour."""
    around = {pixel: _neighbours(pixel, pixels) for pixel in pixels}
    nodes = {p: i for i, p in enumerate(sorted(p for p in pixels if len(around[p]) != 2))}
    edges: list[Edge] = []
    passed: set[tuple[Pixel, Pixel]] = set()
    walked: set[Pixel] = set()

    def walk(start: Pixel, first: Pixel) -> None:
        line = [start, first]
        passed.add((start, first))
        while line[-1] not in nodes:
            a, b = around[line[-1]]
            line.append(b if a == line[-2] else a)
        walked.update(line)
        passed.add((line[-1], line[-2]))
        edges.append(Edge(line, (nodes[start], nodes[line[-1]])))

    for node in list(nodes):
        for first in around[node]:
            if (node, first) not in passed:
                walk(node, first)
    for pixel in sorted(pixels):  # what is left are loops without a node
        if pixel not in walked and pixel not in nodes:
            nodes[pixel] = len(nodes)
            walk(pixel, around[pixel][0])
    dots = [pixel for pixel in nodes if not around[pixel]]
    return edges, dots


class _Builder:
    """The graph while it is cleaned. at: node → its edges, one that is a loop twice."""

    def __init__(self, edges: list[Edge], depth: Float32Array) -> None:
        self.edges = dict.fromkeys(edges)  # a set that keeps its order
        self.reach: dict[int, float] = {}
        self.at: dict[int, list[Edge]] = {}
        for edge in edges:
            for node, pixel in zip(edge.nodes, (edge.pixels[0], edge.pixels[-1]), strict=True):
                self.reach[node] = float(depth[pixel])
                self.at.setdefault(node, []).append(edge)

    def prune(self) -> None:
        """Removes spurs: lines with a free end that stay in the ink around the fork."""
        removed = True
        while removed:
            removed = False
            for edge in sorted(self.edges, key=lambda e: e.length):
                a, b = edge.nodes
                fork, tip = (a, b) if len(self.at[b]) == 1 else (b, a)
                is_spur = len(self.at[tip]) == 1 and len(self.at[fork]) > 2
                if is_spur and edge.length < 1.2 * self.reach[fork] + 1.5:
                    self._remove(edge)
                    removed = True
            self.join()

    def join(self) -> None:
        """Makes one line of two that meet at a node where no third one does."""
        for node in list(self.at):
            meeting = self.at[node]
            if len(meeting) == 2 and meeting[0] is not meeting[1]:
                first, second = meeting
                before = first.pixels if first.nodes[1] == node else first.pixels[::-1]
                after = second.pixels if second.nodes[0] == node else second.pixels[::-1]
                start = first.nodes[0] if first.nodes[1] == node else first.nodes[1]
                end = second.nodes[1] if second.nodes[0] == node else second.nodes[0]
                self._remove(first)
                self._remove(second)
                self._add(Edge(before + after[1:], (start, end)))

    def contract(self) -> None:
        """Makes one node of two forks that are closer than the ink around them reaches."""
        for edge in sorted(self.edges, key=lambda e: e.length):
            a, b = edge.nodes
            near = edge.length <= 1.1 * max(self.reach[a], self.reach[b]) + 1.5
            if a == b or not near:
                continue
            meeting = len(self.at[a]), len(self.at[b])
            if min(meeting) > 2 and sum(meeting) <= _MAX_MEETING:
                self._contract(edge)

    def _contract(self, bridge: Edge) -> None:
        kept, gone = bridge.nodes
        middle = bridge.pixels[len(bridge.pixels) // 2]
        self._remove(bridge)
        self.reach[kept] = max(self.reach[kept], self.reach[gone])
        for edge in {id(e): e for e in self.at[kept] + self.at[gone]}.values():
            a, b = edge.nodes
            if a in (kept, gone):
                edge.extend(middle, at_start=True)
            if b in (kept, gone):
                edge.extend(middle, at_start=False)
            edge.nodes = (kept if a == gone else a, kept if b == gone else b)
        self.at[kept] += self.at.pop(gone)

    def _add(self, edge: Edge) -> None:
        self.edges[edge] = None
        for node in edge.nodes:
            self.at[node].append(edge)

    def _remove(self, edge: Edge) -> None:
        del self.edges[edge]
        for node in edge.nodes:
            self.at[node].remove(edge)
