"""The three networks as one would write them for themselves alone, in plain PyTorch.

Layers are those of the members in `problem.py`, declared in the same order, so that weights can be copied one by one.
What only a hand can know is used: an activation that two layers read is computed once, and what nobody reads again is
overwritten.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_CLASSES = 10


def conv(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the resolution at stride 1."""
    return nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)


class Cell(nn.Module):
    """The cell |conv3x3~0|+|conv3x3~0|conv3x3~1|+|skip~0|conv3x3~1|conv3x3~2| of NAS-Bench-201."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv01, self.norm01 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv02, self.norm02 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv12, self.norm12 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv13, self.norm13 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv23, self.norm23 = conv(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        active = functional.relu(x)
        one = torch.relu_(self.norm01(self.conv01(active)))
        two = self.norm02(self.conv02(active))
        two = torch.relu_(two.add_(self.norm12(self.conv12(one))))
        three: Tensor = self.norm13(self.conv13(one))
        return three.add_(x).add_(self.norm23(self.conv23(two)))


class Reduction(nn.Module):
    """The residual block at stride 2 of NAS-Bench-201."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(in_channels, channels, 3, 2), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.shortcut = conv(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the resolution."""
        branch = torch.relu_(self.norm1(self.conv1(functional.relu(x))))
        result: Tensor = self.norm2(self.conv2(branch))
        return result.add_(self.shortcut(functional.avg_pool2d(x, 2)))


class NasBench201(nn.Module):
    """Three stages of five cells, 16, 32 and 64 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(3, 16, 3), nn.BatchNorm2d(16)
        self.body = nn.Sequential(
            *(Cell(16) for _ in range(5)),
            Reduction(16, 32),
            *(Cell(32) for _ in range(5)),
            Reduction(32, 64),
            *(Cell(64) for _ in range(5)),
        )
        self.norm = nn.BatchNorm2d(64)
        self.classifier = nn.Linear(64, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = torch.relu_(self.norm(self.body(self.stem_norm(self.stem(x)))))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


class Bottleneck(nn.Module):
    """1x1 to a quarter of the width, 3x3, 1x1 back; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1, self.norm1 = conv(in_channels, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.norm2 = conv(inner, inner, 3, stride), nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = conv(inner, channels, 1), nn.BatchNorm2d(channels)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut, self.shortcut_norm = conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channels, height / stride, width / stride)."""
        branch = torch.relu_(self.norm1(self.conv1(x)))
        branch = torch.relu_(self.norm2(self.conv2(branch)))
        result: Tensor = self.norm3(self.conv3(branch))
        return torch.relu_(result.add_(x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))


class ResNet(nn.Module):
    """Three stages of two bottlenecks, 64, 128 and 256 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(3, 16, 3), nn.BatchNorm2d(16)
        widths = ((16, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1))
        self.body = nn.Sequential(*(Bottleneck(*each) for each in widths))
        self.classifier = nn.Linear(256, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.body(torch.relu_(self.stem_norm(self.stem(x))))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


class Perceptron(nn.Module):
    """Linear layers with batch norms: 128, two residual ones, 64, two residual ones."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((54, 128), (128, 128), (128, 128), (128, 64), (64, 64), (64, 64))
        layers = [[nn.Linear(*each, bias=False), nn.BatchNorm1d(each[1])] for each in widths]
        self.layers = nn.ModuleList(layer for pair in layers for layer in pair)
        self.norm = nn.BatchNorm1d(64)
        self.classifier = nn.Linear(64, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        gelu = functional.gelu
        linear0, norm0, linear1, norm1, linear2, norm2, linear3, norm3, linear4, norm4, linear5, norm5 = self.layers
        x = norm0(linear0(x))
        x = x + norm1(linear1(gelu(x)))
        x = x + norm2(linear2(gelu(x)))
        x = norm3(linear3(gelu(x)))
        x = x + norm4(linear4(gelu(x)))
        x = x + norm5(linear5(gelu(x)))
        logits: Tensor = self.classifier(gelu(self.norm(x)))
        return logits


BY_HAND: dict[str, type[nn.Module]] = {"nasbench201": NasBench201, "resnet": ResNet, "mlp": Perceptron}


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters and buffers in their order. Raises ValueError where the two networks differ."""
    theirs, ours = source.state_dict().values(), target.state_dict().values()
    if [each.shape for each in theirs] != [each.shape for each in ours]:
        raise ValueError("the network written by hand has other layers than the one of the space")
    for value, own in zip(theirs, ours, strict=True):
        own.copy_(value)
