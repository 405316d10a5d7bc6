"""`net`: the report's own network, two convolutions and three linear layers.

LeNet-5's plan (LeCun et al., "Gradient-based learning applied to document recognition", 1998) as
the PyTorch tutorial has it for 32 px and 10 classes. Here the first linear layer is as wide as
what the poolings leave of the picture, and the last as there are classes.
"""

from torch import nn


def net(channels: int, classes: int, side_px: int) -> nn.Module:
    """Builds the network: float [N, channels, side_px, side_px] → logits float [N, classes]."""
    cells = ((side_px - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * cells * cells, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, classes),
    )
