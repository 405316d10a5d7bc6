"""Flip TTA: a network is evaluated and used on each drawing and on its mirror image.

Most doodles are the same thing either way round, and the network errs on different ones of the
two. Test-time augmentation is as old as AlexNet (Krizhevsky, Sutskever and Hinton, 2012).
"""

from torch import Tensor, logaddexp, nn

from quickdraw_core.modeling.models import Reads


class FlipTTA(nn.Module):
    """Logits whose softmax is the mean of both: float [N, C, S, S] → [N, K].

    reads: what the network reads; points are mirrored where they are, in their channel for x.
    """

    def __init__(self, network: nn.Module, reads: Reads) -> None:
        super().__init__()
        self.network, self.reads = network, reads

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Logarithms of the sum of both probabilities."""
        plain, flipped = self.network(images_nchw), self.network(self._flipped(images_nchw))
        return logaddexp(plain.float().log_softmax(1), flipped.float().log_softmax(1))

    def _flipped(self, images_nchw: Tensor) -> Tensor:
        if self.reads == "picture":
            return images_nchw.flip(3)
        mirrored = images_nchw.clone()
        is_point = images_nchw[:, 2] > 0
        mirrored[:, 0] = (1 - images_nchw[:, 0]) * is_point
        return mirrored
