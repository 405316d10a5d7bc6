"""What guesses: drawings → words with their probabilities, by a bundle's graphs."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array, UInt8Array
from quickdraw_core.errors import BundleError, first_line
from quickdraw_core.labels import GUESSES, LabelMap
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.serving.bundle import Bundle, BundleInfo

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Images = list[tuple[ImageConfig, UInt8Array]]
"""Drawings as a model sees them, uint8 [N, C, S, S], once for each kind of image."""


class Guess(NamedTuple):
    """A word and the model's probability of it, 0..1."""

    word: str
    probability: float


class Recognizer(Protocol):
    """What guesses. Its methods may be called by several threads at once.

    name, version: of the model, for people. info: None if it comes of no bundle.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def version(self) -> str: ...  # noqa: D102

    @property
    def label_map(self) -> LabelMap: ...  # noqa: D102

    @property
    def info(self) -> BundleInfo | None: ...  # noqa: D102

    def log_probabilities(self, drawings: DrawingBatch) -> Float32Array:
        """Natural log probabilities of N drawings, float32 [N, K]."""

    def images(self, drawings: DrawingBatch) -> Images:
        """The drawings as the model sees them."""


class BundleRecognizer:
    """A bundle's graphs in onnxruntime. Drawings become pixels by `render`, as in training."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """threads: of one call, for drawing and for the network.

        Raises `BundleError` if onnxruntime does not take a graph.
        """
        self._bundle, self._threads = bundle, threads
        self._sessions = [
            _session(bundle, number, threads) for number in range(len(bundle.graphs))
        ]
        self.label_map = bundle.label_map

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self._bundle.info.name

    @property
    def version(self) -> str:
        """Tells bundles of one name apart."""
        return self._bundle.version

    @property
    def info(self) -> BundleInfo:
        """What the bundle says of itself."""
        return self._bundle.info

    def described_by(self, info: BundleInfo) -> "BundleRecognizer":
        """The same graphs, of which something else is said."""
        other = copy(self)
        other._bundle = replace(self._bundle, info=info)
        return other

    def log_probabilities(self, drawings: DrawingBatch) -> Float32Array:
        """Natural log probabilities of N drawings, float32 [N, K]."""
        return self.of_images([images for _, images in self.images(drawings)])

    def images(self, drawings: DrawingBatch) -> Images:
        """The drawings as each graph reads them."""
        return [
            (graph.image, render(drawings, graph.image, threads=self._threads))
            for graph in self.info.graphs
        ]

    def of_images(self, images: Sequence[UInt8Array]) -> Float32Array:
        """As `log_probabilities`, of the drawings as each graph reads them, uint8 [N, C, S, S]."""
        if not len(images[0]):  # a graph may have no answer to no images
            return np.empty((0, len(self.label_map)), np.float32)
        parts = [
            session.run(None, {"images": _without_empty_rows(images_nchw, graph.image)})[0]
            for session, images_nchw, graph in zip(
                self._sessions, images, self.info.graphs, strict=True
            )
        ]
        if len(parts) == 1:
            return np.asarray(parts[0], np.float32)
        shares = np.array([graph.members for graph in self.info.graphs], np.float32)
        weighted = np.stack(parts) + np.log(shares / shares.sum())[:, None, None]
        highest = weighted.max(0)
        mean: Float32Array = highest + np.log(np.exp(weighted - highest).sum(0))
        return mean


def _without_empty_rows(images_nchw: UInt8Array, image: ImageConfig) -> UInt8Array:
    """Images of points alone without the rows that hold none in any drawing; others whole."""
    if image.holds != "points":
        return images_nchw
    rows = np.flatnonzero(images_nchw[:, 2].any(axis=(0, 2)))
    return np.ascontiguousarray(images_nchw[:, :, : rows[-1] + 1 if len(rows) else 1])


def _session(bundle: Bundle, number: int, threads: int) -> "InferenceSession":
    from onnxruntime import InferenceSession, SessionOptions

    graph, options = bundle.info.graphs[number], SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    # A thread that has nothing to do sleeps: it would take a core from whoever has.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = InferenceSession(
            bundle.graphs[number], options, providers=["CPUExecutionProvider"]
        )
        ((read,), (given,)) = session.get_inputs(), session.get_outputs()
    except Exception as error:
        raise BundleError(
            f"the bundle {bundle.path} has a graph that onnxruntime does not take: {graph.file}: "
            f"{first_line(error)}"
        ) from error
    wanted = [graph.image.channels, graph.image.side_px, graph.image.side_px]
    shape, classes = read.shape[1:], given.shape[-1]
    fits = len(shape) == 3 and all(
        have == want or not isinstance(have, int) for have, want in zip(shape, wanted, strict=True)
    )
    if not fits or read.name != "images" or classes != len(bundle.info.words):
        raise BundleError(
            f"the bundle {bundle.path} has a graph that does not fit it: {graph.file} reads "
            f"{read.name} {shape} and gives {classes} classes; it should read images {wanted} "
            f"and give {len(bundle.info.words)}"
        )
    return session


def top_guesses(
    log_probabilities: Float32Array, label_map: LabelMap, count: int = GUESSES
) -> list[list[Guess]]:
    """The `count` most probable words of each drawing, best first; of equal ones the first word.

    log_probabilities: float32 [N, K].
    """
    order = np.argsort(-log_probabilities, axis=1, kind="stable")[:, :count]
    probabilities = np.exp(np.take_along_axis(log_probabilities, order, axis=1))
    return [
        [Guess(label_map.words[label], float(p)) for label, p in zip(labels, row, strict=True)]
        for labels, row in zip(order, probabilities, strict=True)
    ]
