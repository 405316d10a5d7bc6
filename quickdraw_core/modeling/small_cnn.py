"""`small_cnn`: a narrow residual network for CPUs, about 1.2 million weights at width 32.

ResNet-18's plan (He et al., "Deep Residual Learning for Image Recognition", 2015) with one block
a stage instead of two and half of its width; a 3 × 3 stem and one pooling, for images of 24 to
64 px. At 32 px it takes a seventh of the time of ResNet-18 with a stem of stride 2.
"""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm, added to a (projected) copy of the input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        same = in_channels == out_channels and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """float [N, in, H, W] → float [N, out, H / stride, W / stride]."""
        return self.activation(self.body(x) + self.shortcut(x))  # type: ignore[no-any-return]


def picture_layers(channels: int, width: int) -> list[nn.Module]:
    """All but its head: float [N, channels, S, S] → float [N, 8 · width, S / 16, S / 16]."""
    widths = (width, 2 * width, 4 * width, 8 * width)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    ]
    inputs = width
    for number, outputs in enumerate(widths):
        layers.append(ResidualBlock(inputs, outputs, stride=1 if number == 0 else 2))
        inputs = outputs
    return layers


def small_cnn(channels: int, classes: int, width: int = 32, dropout: float = 0.2) -> nn.Module:
    """Builds the network: float [N, channels, S, S] → logits float [N, classes]."""
    layers = picture_layers(channels, width)
    last = nn.Linear(8 * width, classes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), last)
