"""Flip TTA: a network is evaluated and used on each drawing and on its mirror image.

Most doodles are the same thing either way round, and the network errs on different ones of the
two. Test-time augmentation is as old as AlexNet (Krizhevsky, Sutskever and Hinton, 2012).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, logaddexp, nn

from quickdraw_core.render.encodings import POINT_CHANNELS, Holds


class FlipTTA(nn.Module):
    """Logits whose softmax is the mean of both: float [N, C, S, S] → [N, K].

    reads: what the network reads; points are mirrored where they are, in their channel for x, a
    picture beside them as any picture.
    """

    def __init__(self, network: nn.Module, reads: Holds) -> None:
        super().__init__()
        self.network, self.reads = network, reads

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Logarithms of the sum of both probabilities."""
        return mean_of(self.looks(images_nchw))

    def looks(self, images_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each drawing as it is, and of its mirror image: [N, K] each."""
        return self.network(images_nchw), self.network(self._flipped(images_nchw))

    def _flipped(self, images_nchw: Tensor) -> Tensor:
        if self.reads == "picture":
            return images_nchw.flip(3)
        if self.reads == "points":
            return _mirrored(images_nchw)
        of_picture = images_nchw.shape[1] - len(POINT_CHANNELS)
        picture, points = images_nchw[:, :of_picture], images_nchw[:, of_picture:]
        return torch.cat((picture.flip(3), _mirrored(points)), 1)


def looks_of(network: nn.Module, images_nchw: Tensor) -> Sequence[Tensor]:
    """The logits that a network's answer is made of: its own, or those of both looks."""
    if isinstance(network, FlipTTA):
        return network.looks(images_nchw)
    return (network(images_nchw),)


def mean_of(looks: Sequence[Tensor]) -> Tensor:
    """Logits [N, K] of one look, or of two: logarithms of the sum of their probabilities."""
    if len(looks) == 1:
        return looks[0]
    plain, flipped = looks
    return logaddexp(plain.float().log_softmax(1), flipped.float().log_softmax(1))


def _mirrored(points: Tensor) -> Tensor:
    """x becomes 1 - x where there is a point: float [N, 3, S, S], as `point_slots.py` has it."""
    x, pen = points[:, :1], points[:, 2:]
    return torch.cat(((1 - x) * (pen > 0), points[:, 1:]), 1)
