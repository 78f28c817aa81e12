"""The image task: where pictures come from, how they are split, and the networks."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from speedkit.recipe import Recipe
from speedkit.support.settings import data_folder
from speedkit.tasks.data import OnDevice, Source, bundled, prepared, share_of_commonest, split
from speedkit.techniques import augmentation
from speedkit.techniques import batchnorm as batchnorm_module

VALIDATION = 5_000
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = {
    ("train", "images"): "train-images-idx3-ubyte.gz",
    ("train", "labels"): "train-labels-idx1-ubyte.gz",
    ("test", "images"): "t10k-images-idx3-ubyte.gz",
    ("test", "labels"): "t10k-labels-idx1-ubyte.gz",
}


class Arrays(Source):
    """Images in memory, uint8 [N, C, H, W], resized when they are read if ``image_size`` is not their own."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, image_size: int | None = None):
        self.images, self.labels = images, labels
        self.image_size = image_size if image_size != images.shape[-1] else None

    def read(self, position: int) -> torch.Tensor:
        image = self.images[position]
        return image if self.image_size is None else _resized(image[None], self.image_size)[0]

    def all(self) -> torch.Tensor:
        if self.image_size is None:
            return self.images
        return torch.cat([_resized(some, self.image_size) for some in self.images.split(500)])

    def identity(self) -> tuple:
        return torch.__version__, self.image_size, self.images

    def samples(self, count, what):
        yield from ()  # too quick for any progress
        return Arrays(self.images[:count], self.labels, self.image_size).all()


def _resized(images, image_size):
    larger = F.interpolate(images.float(), size=(image_size, image_size), mode="bilinear", antialias=True)
    return larger.round_().clamp_(0, 255).to(torch.uint8)


def load(recipe: Recipe):
    """The data of a recipe. A generator: it yields :class:`Progress` while it works and returns :class:`Data`.

    Raises:
        DataError: images are missing or damaged, or there are too few.
    """
    kind, _, rest = recipe.data.partition(":")
    making_s = 0.0
    if kind == "fashion-mnist":
        train, validation, test, classes = _from_arrays(recipe)
    elif kind in ("jpeg", "sqlite"):
        from speedkit.tasks.generated import from_generated  # here, because most recipes do not need it

        train, validation, test, classes, making_s = yield from from_generated(recipe)
    elif kind == "folder":
        from speedkit.tasks.pictures import from_folder

        train, validation, test, classes = from_folder(recipe, rest)
    else:
        from speedkit.tasks.torchvision_sets import from_torchvision

        train, validation, test, classes = yield from from_torchvision(recipe, *rest.split(":", 1))
    return (
        yield from prepared(
            recipe,
            train,
            validation,
            test,
            classes,
            trivial=lambda __, labels: share_of_commonest(labels, train.labels),
            making_s=making_s,
            augment=augmentation.per_image(recipe.augment, recipe.shift, recipe.seed),
            on_device=ImagesOnDevice,
            copies=1 if recipe.augment == "off" else 6,  # mirrored, and both with their padding
        )
    )


class ImagesOnDevice(OnDevice):
    """All images on the device, where whole batches are gathered and augmented."""

    def __init__(self, recipe, source, samples):
        super().__init__(source, samples, None)
        self.labels, self.augment = source.labels.to(samples.device), recipe.augment
        if self.augment != "off":
            self.crop_and_flip = augmentation.BatchCropAndFlip(self.samples, recipe.shift)
        if self.augment == "heavy":
            self.heavy = augmentation.Heavy(recipe.shift, recipe.seed)

    def batches(self, order, epoch, generator):
        chosen = order if self.augment == "off" else self.crop_and_flip.draw(order, generator)
        for step, (some, labels) in enumerate(zip(chosen, self.labels[order], strict=True)):
            yield self._images(some, epoch * len(order) + step), labels

    def _images(self, chosen, key):
        if self.augment == "off":
            return self.samples.index_select(0, chosen)
        images = self.crop_and_flip.cut(chosen)
        return self.heavy.rand_augment(images, key) if self.augment == "heavy" else images


# Fashion-MNIST


def fashion_mnist(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [N, 1, 28, 28] and labels int64 [N] of "train" (60,000) or "test" (10,000).

    Raises:
        DataError: a file is missing, or its SHA-256 is not the one in ``SHA256SUMS``.
    """
    return _fashion_mnist(data_folder(), part)


@lru_cache(maxsize=4)
def _fashion_mnist(folder, part):  # another folder may hold other images
    images = np.frombuffer(bundled(FILES[part, "images"]), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(bundled(FILES[part, "labels"]), np.uint8, offset=8)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def fashion_mnist_split(recipe):
    """All images and labels, and the positions of those to train on and of those to validate on."""
    images, labels = fashion_mnist("train")
    order = split(len(images))
    return images, labels, order[:-VALIDATION][: recipe.subset], order[-VALIDATION:]


def _from_arrays(recipe):
    images, labels, train, validation = fashion_mnist_split(recipe)
    size = recipe.image_size
    parts = [Arrays(images[positions], labels[positions], size) for positions in (train, validation)]
    return *parts, Arrays(*fashion_mnist("test"), size), CLASSES


# The networks


class Normalise(nn.Module):
    """uint8 [B, C, H, W] to float32 with zero mean and unit variance in each channel."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor):
        """mean, std: float [C], of pixel values from 0 to 255."""
        super().__init__()
        self.register_buffer("mean", mean.float().view(1, -1, 1, 1))
        self.register_buffer("scale", (1 / std.float().clamp(min=1.0)).view(1, -1, 1, 1))

    def forward(self, images):
        return (images.float() - self.mean) * self.scale


class Pool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling of squares to ``output_size`` x ``output_size``, on Apple's GPU, too.

    There, torch refuses sizes that are not multiples of the output's, so it is computed as two products.
    """

    def forward(self, images):
        side = images.shape[-1]
        if images.device.type != "mps" or side % self.output_size == 0:
            return super().forward(images)
        means = self.means(side).to(images)
        return means @ images @ means.T

    def means(self, side: int) -> torch.Tensor:
        """The weight of each of ``side`` pixels in each output: float [output_size, side]."""
        return F.adaptive_avg_pool1d(torch.eye(side)[None], self.output_size)[0].T


def network(recipe, shape, classes: int, inputs=None) -> nn.Module:
    """The network of a recipe, see :mod:`speedkit.tasks`; ``inputs``: images uint8 [N, C, H, W]."""
    mean, std = torch.zeros(shape[0]), torch.ones(shape[0])
    if inputs is not None:
        mean, std = (getattr(inputs.float(), name)(dim=(0, 2, 3)) for name in ("mean", "std"))
    return build(recipe.model, shape, classes, mean=mean, std=std, batchnorm=recipe.batchnorm)


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
        layers += [batchnorm_module.convolution(channels, width, with_norm), nn.MaxPool2d(2)]
        layers += [batchnorm_module.norm(width, with_norm), nn.ReLU()]
        channels, side = width, side // 2
    if side > 3:
        layers.append(Pool(3))
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
    if shape[1] <= 64:  # small pictures: keep their resolution in the first layers
        network.conv1 = nn.Conv2d(shape[0], 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif shape[0] != 3:
        network.conv1 = nn.Conv2d(shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False)
    return [network]
