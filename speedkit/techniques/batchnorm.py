"""Batch normalisation: give every channel zero mean and unit variance over the batch, then scale and shift it anew.

Sources: Ioffe and Szegedy 2015; Bjorck et al. 2018 for why it helps (it permits larger learning rates).
"""

from torch import nn


def convolution(channels_in: int, channels_out: int, batchnorm: bool) -> nn.Conv2d:
    """A 3 x 3 convolution. Before a norm a bias is dead weight: the norm subtracts it again.

    The bias is drawn first and dropped after, so that both variants start from the same random weights.
    """
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    if batchnorm:
        layer.register_parameter("bias", None)
    return layer


def norm(channels: int, batchnorm: bool) -> nn.Module:
    """The normalisation of ``channels`` feature maps, or a layer that does nothing.

    In ``model.train()`` it uses the batch's own mean and variance (so a batch of 1 value a channel raises
    ``ValueError``), in ``model.eval()`` the running averages that it kept while training.
    """
    return nn.BatchNorm2d(channels) if batchnorm else nn.Identity()
