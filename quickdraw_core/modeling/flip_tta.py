"""Two looks at each drawing, as it is and mirrored, where a network is judged or used.

Most doodles are the same thing either way round, and the two looks err on different ones; it is
test-time augmentation, as old as AlexNet (Krizhevsky, Sutskever and Hinton, 2012).
"""

from torch import Tensor, logaddexp, nn

from quickdraw_core.modeling.models import Reads


class FlipTTA(nn.Module):
    """Logits whose softmax is the mean of both looks': float [N, C, S, S] → [N, K].

    reads: what the network reads; points are mirrored where they are, in their channel for x.
    """

    def __init__(self, network: nn.Module, reads: Reads) -> None:
        super().__init__()
        self.network, self.reads = network, reads

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Logarithms of the two looks' probabilities together, up to a constant."""
        seen = self.network(images_nchw).float().log_softmax(1)
        return logaddexp(seen, self.network(self._mirrored(images_nchw)).float().log_softmax(1))

    def _mirrored(self, images_nchw: Tensor) -> Tensor:
        if self.reads == "picture":
            return images_nchw.flip(3)
        mirrored = images_nchw.clone()
        there = images_nchw[:, 2] > 0
        mirrored[:, 0] = (1 - images_nchw[:, 0]) * there
        return mirrored
