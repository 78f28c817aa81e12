"""The networks: each takes uint8 images and normalises them itself, so that every way of loading feeds it the same."""

import torch
from torch import nn

from speedkit.techniques import batchnorm


class Normalise(nn.Module):
    """uint8 [B, C, H, W] to float32 with zero mean and unit variance a channel."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor):
        """mean, std: float [C], of pixel values from 0 to 255."""
        super().__init__()
        self.register_buffer("mean", mean.float().view(1, -1, 1, 1))
        self.register_buffer("scale", (1 / std.float().clamp(min=1.0)).view(1, -1, 1, 1))

    def forward(self, images):
        return (images.float() - self.mean) * self.scale


def build(name: str, shape: tuple[int, int, int], classes: int, *, mean, std, batchnorm: bool = False) -> nn.Module:
    """The network called ``name`` ("small", "wide", "mlp", "resnet18"), its weights drawn from torch's generator.

    shape: (channels, height, width) of an image. Returns uint8 [B, C, H, W] -> logits [B, classes].
    """
    bodies = {"small": _convolutional, "wide": _wide, "mlp": _mlp, "resnet18": _resnet18}
    return nn.Sequential(Normalise(mean, std), *bodies[name](shape, classes, batchnorm))


def _convolutional(shape, classes, with_norm, widths=(16, 32, 64)):
    channels, side = shape[0], shape[1]
    layers = []
    for width in widths:
        # Pooling first: the norm and the ReLU then touch a quarter of the values.
        layers += [batchnorm.convolution(channels, width, with_norm), nn.MaxPool2d(2)]
        layers += [batchnorm.norm(width, with_norm), nn.ReLU()]
        channels, side = width, side // 2
    if side > 3:
        layers.append(nn.AdaptiveAvgPool2d(3))
        side = 3
    return [*layers, nn.Flatten(), nn.Linear(channels * side * side, classes)]


def _wide(shape, classes, with_norm):
    return _convolutional(shape, classes, with_norm, widths=(64, 256, 256))


def _mlp(shape, classes, with_norm, width=512):
    features = shape[0] * shape[1] * shape[2]
    norm = nn.BatchNorm1d if with_norm else lambda width: nn.Identity()
    layers = [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Linear(features, width), norm(width), nn.ReLU()]
        features = width
    return [*layers, nn.Linear(width, classes)]


def _resnet18(shape, classes, with_norm):
    from torchvision.models import resnet18

    norm = nn.BatchNorm2d if with_norm else lambda width: nn.Identity()
    network = resnet18(num_classes=classes, norm_layer=norm, zero_init_residual=False)
    if shape[1] <= 64:  # small pictures: keep their resolution at the entrance
        network.conv1 = nn.Conv2d(shape[0], 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif shape[0] != 3:
        network.conv1 = nn.Conv2d(shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False)
    return [network]
