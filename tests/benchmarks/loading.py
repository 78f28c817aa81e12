"""How many images per second the kit delivers, compared with what people would otherwise write.

Each way delivers whole epochs of shuffled batches with labels, without workers, in the process that would train. All
are warmed up: files are in the page cache, and the kit's caches are filled.
``python -m tests.benchmarks.loading`` takes about four minutes on two cores. Run nothing else meanwhile.
"""

import gzip
import itertools
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import FashionMNIST, ImageFolder

import speedkit as sk
from speedkit import hardware
from speedkit.loading import drain, make_loader
from speedkit.support import settings
from speedkit.tasks import generated
from speedkit.tasks import images as data
from speedkit.tasks.images import load
from tests.benchmarks import Figures, paired
from tests.benchmarks.by_hand import now

BATCH, SHIFT, JPEG_SIZE = 64, 2, 224
PAIRS = 11


class PerThousand:
    """Seconds per thousand images from an endless stream of batches; each call takes ``images`` of them."""

    def __init__(self, batches, images: int):
        self.batches, self.count = iter(batches), max(1, images // BATCH)
        for _ in range(3):
            next(self.batches)

    def __call__(self) -> float:
        start = now()
        for _ in range(self.count):
            next(self.batches)
        return (now() - start) / (self.count * BATCH) * 1000


def kit(recipe: sk.Recipe):
    """The kit's batches, without end and without the first epoch, which fills the cache."""
    device = hardware.machine(recipe.device).device
    loader = drain(make_loader(recipe, drain(load(recipe)), device))
    for _ in loader.epoch(0):
        pass
    for epoch in itertools.count(1):
        for images, labels, _ in loader.epoch(epoch):
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def loaded(dataset: Dataset):
    """The batches of a DataLoader with its usual settings, on the device, without end."""
    device = hardware.machine().device
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    while True:
        for images, labels in loader:
            yield images.to(device), labels.to(device)


def newcomer_transform(size: int = 28):
    """Crops, flips and normalises an image, as the tutorials do."""
    steps = [transforms.RandomCrop(size, padding=SHIFT), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize((0.286,), (0.353,))])


def torchvision_set(root: Path, train: bool = True, transform=None) -> FashionMNIST:
    """torchvision's own dataset, from the kit's files, unpacked where torchvision expects them."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in data.FILES.values():
        target = raw / Path(name).stem
        if not target.exists():
            target.write_bytes(gzip.decompress((settings.data_folder() / name).read_bytes()))
    return FashionMNIST(str(root), train=train, transform=transform)


def by_masks(images: torch.Tensor, labels: torch.Tensor):
    """Crops of the whole dataset, as in fast CIFAR-10 training (Jordan 2024): for each offset, a mask picks its images.

    Images uint8 [N, 1, 28, 28] and labels [N], both on the device.
    """
    padded, size = F.pad(images, (SHIFT,) * 4), images.shape[-1]
    while True:
        offsets = torch.randint(0, 2 * SHIFT + 1, (len(images), 2), device=images.device)
        cropped = torch.empty_like(images)
        for down, right in itertools.product(range(2 * SHIFT + 1), repeat=2):
            chosen = (offsets[:, 0] == down) & (offsets[:, 1] == right)
            cropped[chosen] = padded[chosen, :, down : down + size, right : right + size]
        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        cropped = torch.where(mirrored, cropped.flip(-1), cropped)
        for some in torch.randperm(len(images), device=images.device).split(BATCH)[:-1]:
            yield cropped[some], labels[some]


class Opened(Dataset):
    """Image files that are opened and decoded at every access."""

    def __init__(self, paths, labels):
        self.paths, self.labels = paths, labels

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return transforms.functional.pil_to_tensor(Image.open(self.paths[index])), self.labels[index]


def png_files(folder: Path, count: int = 6400) -> Opened:
    """The first training images as PNG files of 28 x 28."""
    images, labels = data.fashion_mnist("train")
    paths = [folder / f"{position}.png" for position in range(count)]
    for image, path in zip(images, paths, strict=False):
        Image.fromarray(image[0].numpy()).save(path)
    return Opened(paths, labels[:count].tolist())


def jpeg_folders(folder: Path, count: int = 640) -> Path:
    """Colour JPEG files in class folders, as ImageFolder reads them."""
    images, labels = data.fashion_mnist("train")
    for position in range(count):
        path = folder / str(int(labels[position])) / f"{position}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(generated.rendered(images[position], position, JPEG_SIZE))
    return folder


def measure(root: Path) -> Figures:
    def against(ours, our_images, other, other_images, pairs=PAIRS):
        ways = {"other": PerThousand(other, other_images), "kit": PerThousand(ours, our_images)}
        return paired(ways, pairs)

    light = sk.Recipe(batch_size=BATCH, augment="light", shift=SHIFT)
    on_device = light.but(cache="device")
    train = data.fashion_mnist("train")
    device = hardware.machine().device
    figures = Figures("loading")
    tutorial = loaded(torchvision_set(root, transform=newcomer_transform()))
    figures["torchvision crop and flip / cache on the device"] = against(kit(on_device), 200_000, tutorial, 5_000)
    masks = by_masks(*(tensor.to(device) for tensor in train))
    figures["crop by masks, whole set / cache on the device"] = against(kit(on_device), 220_000, masks, 120_000)
    (png := root / "png").mkdir()
    ram = sk.Recipe(batch_size=BATCH, cache="ram")
    figures["PNG decoded at every access / cache in RAM"] = against(kit(ram), 200_000, loaded(png_files(png)), 5_000)
    (jpeg := root / "jpeg").mkdir()
    folder = sk.Recipe(data=f"folder:{jpeg_folders(jpeg)}", image_size=JPEG_SIZE, batch_size=BATCH, augment="light")
    tutorial = loaded(ImageFolder(jpeg, newcomer_transform(JPEG_SIZE)))
    figures["colour JPEG 224 with crop / the same from a cache in RAM"] = against(
        kit(folder.but(cache="ram")), 2_000, tutorial, 400
    )
    return figures


def main():
    with tempfile.TemporaryDirectory() as folder:
        print(measure(Path(folder)).path)


if __name__ == "__main__":
    main()
