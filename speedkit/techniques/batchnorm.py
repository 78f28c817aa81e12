"""Batch normalisation: give each channel zero mean and unit variance over the batch, then learn its scale and shift.

Sources: Ioffe and Szegedy 2015; Bjorck et al. 2018 on why it helps (it permits larger learning rates).
"""

from torch import nn


def convolution(channels_in: int, channels_out: int, batchnorm: bool) -> nn.Conv2d:
    """A 3 x 3 convolution, without a bias if a norm follows: the norm would subtract it again.

    The bias is drawn and then dropped, so both variants start from the same random weights.
    """
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    if batchnorm:
        layer.register_parameter("bias", None)
    return layer


def norm(channels: int, batchnorm: bool) -> nn.Module:
    """Batch norm over ``channels`` feature maps, or a layer that does nothing.

    After ``model.train()`` it uses the mean and variance of the batch, and raises ``ValueError``
    if there is only one value per channel. After ``model.eval()`` it uses the running averages
    collected during training.
    """
    return nn.BatchNorm2d(channels) if batchnorm else nn.Identity()
