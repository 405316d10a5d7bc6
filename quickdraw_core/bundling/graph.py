"""Networks → one ONNX graph that takes images as they are drawn.

Brightness as 0..1, flip TTA and the mean of an ensemble are in the graph, so that whoever runs
it needs nothing but the pixels.
"""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quickdraw_core.errors import BundleError, first_line
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.modeling.models import ModelConfig
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.system.quiet import quiet_thread

OPSET = 20
"""Of the operators that a graph is made of: onnxruntime has them since 1.17, of January 2024."""
MAX_GRAPH_BYTES = 1_900_000_000
"""protobuf, the form of ONNX files, ends at 2 GB."""
_BATCH, _ROWS = 5, 8
"""Of the example: a size that is also another axis's, or 1, may be taken for a fixed one."""


@dataclass(frozen=True)
class BundleMember:
    """A network as it leaves its training: float [N, C, S, S], 0..1 → logits [N, K], on the CPU.

    flip_tta: the graph has it judge each drawing and its mirror image. weights_sha256: as its
    checkpoint has it. logit_adjustment: the tau that is in its last layer's bias.
    """

    network: nn.Module
    model: ModelConfig
    image: ImageConfig
    flip_tta: bool
    weights_sha256: str
    logit_adjustment: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Of its weights."""
        return sum(t.numel() * t.element_size() for t in self.network.state_dict().values())


class MeanOfMembers(nn.Module):
    """uint8 [N, C, S, S] → natural log of the members' mean probabilities, float32 [N, K]."""

    def __init__(self, members: Sequence[BundleMember]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            _Flipped(member.network, member.model.reads) if member.flip_tta else member.network
            for member in members
        )

    def forward(self, images_nchw: Tensor) -> Tensor:
        """As inference/ensemble.py."""
        scaled = images_nchw.float() / 255
        each = [network(scaled).float().log_softmax(1) for network in self.networks]
        if len(each) == 1:
            return each[0]  # type: ignore[no-any-return]
        return torch.stack(each).logsumexp(0) - math.log(len(each))


class _Flipped(FlipTTA):
    """The same by operators that the exporter knows: `logaddexp` is none of them."""

    def forward(self, images_nchw: Tensor) -> Tensor:
        """As `FlipTTA`."""
        looks = [look.float().log_softmax(1) for look in self.looks(images_nchw)]
        return torch.stack(looks).logsumexp(0)


def graph_of(members: Sequence[BundleMember]) -> bytes:
    """An ONNX file of members that read the same images, for batches of any size.

    Points are laid out row by row, and a graph that reads them alone takes any number of rows: the
    last ones are mostly empty, and would cost as much as full ones.

    Raises `BundleError` where a network cannot be exported.
    """
    network, image = MeanOfMembers(members).eval(), members[0].image
    axes, rows = {0: "batch"}, image.side_px
    if image.holds == "points":
        axes[2], rows = "rows", _ROWS
    example = torch.zeros(_BATCH, image.channels, rows, image.side_px, dtype=torch.uint8)
    file = io.BytesIO()
    try:
        with torch.no_grad(), _quiet():
            # By tracing: torch's newer way takes 2.5 to 3.5 s of a core for `small_cnn` with flip
            # TTA, where this takes 0.2 s, and each training ends with it.
            torch.onnx.export(
                network,
                (example,),
                file,  # type: ignore[arg-type]  # any file, if it traces
                input_names=["images"],
                output_names=["log_probabilities"],
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes={"images": axes, "log_probabilities": {0: "batch"}},
            )
            return file.getvalue()
    except Exception as error:
        names = ", ".join(member.model.name for member in members)
        raise BundleError(
            f"the network cannot be written as a graph ({names}): {first_line(error)}; the "
            "checkpoint is kept"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch reports each step of an export, and warns of what its own libraries do."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), quiet_thread():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def groups_of(members: Sequence[BundleMember]) -> list[list[int]]:
    """Which members share a graph, by number: those of the same images, up to the size that a
    file can have.
    """
    groups: list[list[int]] = []
    for number, member in enumerate(members):
        for group in groups:
            size = sum(members[other].size_bytes for other in group) + member.size_bytes
            if members[group[0]].image == member.image and size <= MAX_GRAPH_BYTES:
                group.append(number)
                break
        else:
            groups.append([number])
    return groups
