"""`sketch_fusion`: reads the picture and the points, each by a branch of its own.

The picture's branch is `small_cnn`'s, or ResNet-34's for GPUs. The points' branch is a residual
convolutional network along the order of drawing, of two levels: a token is two points, then four.
What both found is joined for one linear layer.

A drawing has 44 points on average, and a batch of 64 one of 140 or more. So the drawings of a
batch stand one behind the other in one long row of tokens, with empty ones between them: a third
of the work on a padded batch. The empty ones are set back to zero after each layer, so that no
drawing reads its neighbour.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from quickdraw_core.modeling.layers import last_linear, weight_layers
from quickdraw_core.modeling.small_cnn import picture_layers
from quickdraw_core.modeling.stroke_transformer import is_exported, spread
from quickdraw_core.modeling.torchvision_models import torchvision_network
from quickdraw_core.render.encodings import POINT_CHANNELS

FEATURES = 8
_WIDTHS = (64, 128)
_GROUP: int = 2 ** len(_WIDTHS)
"""Points that one token of the last level covers; each drawing's tokens are a multiple of it."""
ROUND_TO = 256
"""The row is as many points long as a multiple of this: for each length that it has not seen,
oneDNN makes code, which takes longer than running it."""
_STROKES = 8
"""The number of a stroke is given as a share of this."""


class _Points(NamedTuple):
    """Tokens of the points of N drawings, padded to L: features float [N, L, FEATURES], present
    bool [N, L], counts int64 [N].
    """

    features: Tensor
    present: Tensor
    counts: Tensor


def read_points(slots: Tensor) -> _Points:
    """Takes the channels of points apart: float [N, 3, S, S], 0..1, as `point_slots.py` has them.

    Features of a point: x and y (-1..1), dx and dy from the point before it and their length
    (0 for the first), whether a stroke begins, the stroke's number and the share of the points
    that come before it. L is the longest drawing of the batch and an empty group behind it.
    """
    flat = slots.flatten(2)
    counts = (flat[:, 2] > 0.25).sum(1)
    length = _padded_length(counts, flat.shape[2])
    flat = functional.pad(flat, (0, 2 * _GROUP))[:, :, :length].float()
    x, y, pen = flat.unbind(1)
    there = pen > 0.25
    xy = torch.stack((x, y), 2) * 2 - 1
    # The first point's own neighbour before it is itself.
    step = xy - torch.cat((xy[:, :1], xy[:, :-1]), 1)
    starts = (pen > 0.75).float()
    index = there.float().cumsum(1) - 1
    share = index / (counts[:, None] - 1).clamp(min=1)
    strokes = starts.cumsum(1) / _STROKES
    rest = torch.stack((step.square().sum(2).sqrt(), starts, strokes, share), 2)
    features = torch.cat((xy, step, rest), 2) * there[..., None]
    return _Points(features, there, counts)


def _padded_length(counts: Tensor, slots: int) -> "int | Tensor":
    """Of the longest drawing, rounded up to whole groups, and one group more."""
    if torch.compiler.is_exporting():  # shapes do not depend on what is in them
        return slots // _GROUP * _GROUP + 2 * _GROUP
    longest = (counts.max() + _GROUP - 1) // _GROUP * _GROUP + _GROUP
    return longest if is_exported() else int(longest)


def _convolution(channels: int, width: int, taps: int, stride: int = 1) -> nn.Sequential:
    """A convolution along the tokens, and batch norm: [1, channels, 1, T] → [1, width, 1, T / s].

    As one of two dimensions, which takes channels last as it is in memory: on a CPU in less time
    than torch's of one dimension, or than matrix products of each token with its neighbours.
    """
    padding = (0, (taps - stride) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, (1, taps), (1, stride), padding, bias=False),
        nn.BatchNorm2d(width),
    )


class PointBlock(nn.Module):
    """Two convolutions of three tokens, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width, 3), _convolution(width, width, 3)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """float [1, C, 1, T] → the same shape, 0 or more. real: float [1, 1, 1, T], 0 for empty
        tokens.
        """
        hidden = _activated(self.first(tokens), real)
        return _activated(self.second(hidden) + tokens, real)


def _activated(tokens: Tensor, real: Tensor) -> Tensor:
    """Through a ReLU, and the empty ones back to 0; in bf16 if they are."""
    return functional.relu(tokens, inplace=True) * real.to(tokens.dtype)


class PointBranch(nn.Module):
    """float [N, 3, S, S], the channels of points → features float [N, 2 · _WIDTHS[-1]]: mean and
    maximum over the tokens of the last level.
    """

    compilable = False

    def __init__(self) -> None:
        super().__init__()
        self.embed = _convolution(FEATURES, _WIDTHS[0], 4, 2)
        self.merges = nn.ModuleList(_convolution(*two, 2, 2) for two in pairwise(_WIDTHS))
        self.blocks = nn.ModuleList(PointBlock(width) for width in _WIDTHS)

    def forward(self, slots: Tensor) -> Tensor:
        """As the class says; of an empty drawing zeros."""
        features, present, counts = read_points(slots)
        n, length = present.shape
        groups = (counts + _GROUP - 1) // _GROUP + 1
        if is_exported():  # all of them; padding is ignored
            positions = torch.arange(n * length // _GROUP, device=slots.device)
        else:
            kept = torch.arange(length // _GROUP, device=slots.device) < groups[:, None]
            positions = kept.flatten().nonzero().squeeze(1)
        # Whole groups are taken, so that a token of the last level never covers two drawings.
        marked = torch.cat((features, present[..., None].float()), 2)
        rows = marked.view(-1, _GROUP, FEATURES + 1).index_select(0, positions).flatten(0, 1)
        if not is_exported():
            rows = functional.pad(rows, (0, 0, 0, -len(rows) % ROUND_TO))
        tokens, real = (part.T[None, :, None] for part in (rows[:, :-1], rows[:, -1:]))
        tokens = tokens.contiguous(memory_format=torch.channels_last)
        for narrow, block in zip((self.embed, *self.merges), self.blocks, strict=True):
            real = functional.max_pool2d(real, (1, 2))
            tokens = block(_activated(narrow(tokens), real), real)
        read = tokens[0, :, 0].T[: positions.shape[0]]
        padded = spread(read, positions, n * length // _GROUP)
        padded = padded.view(n, length // _GROUP, -1)
        mean = padded.sum(1) / (groups - 1).clamp(min=1)[:, None]
        return torch.cat((mean, padded.amax(1)), 1)


class SketchFusion(nn.Module):
    """The network: float [N, C + 3, S, S], picture and points → logits float [N, classes]."""

    def __init__(
        self, picture: nn.Module, channels: int, features: int, classes: int, dropout: float = 0.2
    ) -> None:
        """picture: the branch that reads it, float [N, channels, S, S] → float [N, features]."""
        super().__init__()
        self.of_picture = channels
        self.picture = picture
        self.points = PointBranch()
        self.branch_drop_share = 0.0
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features + 2 * _WIDTHS[-1], classes)

    @property
    def input_layers(self) -> tuple[nn.Module, ...]:
        """The layers that read the input, one a branch."""
        return *weight_layers(self.picture)[:1], self.points.embed[0]

    def forward(self, images_nchw: Tensor) -> Tensor:
        """float [N, C + 3, S, S], values 0..1 → logits float [N, classes]."""
        picture, slots = images_nchw[:, : self.of_picture], images_nchw[:, self.of_picture :]
        of_picture, of_points = self.picture(picture), self.points(slots)
        if self.training and self.branch_drop_share:
            # Each drawing loses one branch or the other or none, so that neither may rely on what
            # the other sees.
            drawn = torch.rand(len(of_picture), 1, device=of_picture.device)
            of_picture = of_picture * (drawn >= self.branch_drop_share)
            of_points = of_points * (drawn < 1 - self.branch_drop_share)
        found = torch.cat((of_picture, of_points), 1)
        return self.head(self.dropout(found))  # type: ignore[no-any-return]


def sketch_fusion(channels: int, classes: int, width: int = 32) -> SketchFusion:
    """With `small_cnn`'s layers for the picture. channels: of picture and points together."""
    of_picture = channels - len(POINT_CHANNELS)
    layers = picture_layers(of_picture, width)
    picture = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return SketchFusion(picture, of_picture, 8 * width, classes)


def sketch_fusion_resnet34(
    channels: int, classes: int, side_px: int, small_stem: bool
) -> SketchFusion:
    """With ResNet-34 for the picture. channels: of picture and points together."""
    of_picture = channels - len(POINT_CHANNELS)
    picture = torchvision_network("resnet34", of_picture, classes, side_px, small_stem)
    _, last = last_linear(picture)
    picture.fc = nn.Identity()
    return SketchFusion(picture, of_picture, last.in_features, classes)
