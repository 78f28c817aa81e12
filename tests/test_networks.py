"""The networks: what goes in, what comes out, and how large they are."""

import pytest
import torch

from speedkit.tasks import IMAGES
from speedkit.tasks.images import Normalise, Pool, build

MODELS = IMAGES.networks


def network(name, shape, with_norm=False, classes=10):
    return build(
        name, shape, classes, mean=torch.full(shape[:1], 128.0), std=torch.full(shape[:1], 64.0), batchnorm=with_norm
    )


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 8, 8)])
@pytest.mark.parametrize("name", MODELS)
def test_images_go_in_and_logits_come_out(name, shape, with_norm):
    images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    model = network(name, shape, with_norm, classes=7).eval()
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet18_takes_large_pictures_too(channels):
    with torch.no_grad():
        logits = network("resnet18", (channels, 96, 96)).eval()(torch.zeros(1, channels, 96, 96, dtype=torch.uint8))
    assert logits.shape == (1, 10)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name):
    model = network(name, (1, 16, 16), with_norm=True)
    model(torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_small_network_counted_by_hand():
    """Three convolutions, three norms with a scale and a shift, one linear layer. The sides: 28 -> 14 -> 7 -> 3."""
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64)
    norms, biases = 2 * (16 + 32 + 64), 16 + 32 + 64
    linear = 64 * 3 * 3 * 10 + 10
    assert size(network("small", (1, 28, 28), with_norm=True)) == convolutions + norms + linear == 29_178
    assert size(network("small", (1, 28, 28), with_norm=False)) == convolutions + biases + linear


def test_the_mlp_counted_by_hand():
    assert size(network("mlp", (1, 28, 28))) == 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10


def test_larger_pictures_do_not_enlarge_the_convolutional_networks():
    for name in ("small", "wide", "resnet18"):
        assert size(network(name, (3, 64, 64))) == size(network(name, (3, 32, 32)))


def test_normalise_gives_each_channel_zero_mean_and_unit_variance():
    images = torch.tensor([[[[0, 100]], [[50, 250]]]], dtype=torch.uint8)
    normalise = Normalise(mean=torch.tensor([50.0, 150.0]), std=torch.tensor([50.0, 100.0]))
    assert normalise(images).tolist() == [[[[-1.0, 1.0]], [[-1.0, 1.0]]]]
    assert list(normalise.parameters()) == []


def test_a_channel_without_contrast_does_not_divide_by_zero():
    images = torch.full((1, 1, 2, 2), 9, dtype=torch.uint8)
    assert Normalise(torch.tensor([9.0]), torch.tensor([0.0]))(images).abs().max() == 0


def test_the_generator_decides_the_weights():
    def drawn(seed):
        torch.manual_seed(seed)
        return network("small", (1, 8, 8))[1].weight

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("side", [3, 4, 7, 8, 28])
def test_pooling_by_products_is_adaptive_pooling(side):
    """On Apple's GPU torch has no adaptive pooling for sizes such as 4 and 8."""
    pool, images = Pool(3), torch.randn(2, 5, side, side)
    means = pool.means(side)
    torch.testing.assert_close(means @ images @ means.T, torch.nn.functional.adaptive_avg_pool2d(images, 3))
    assert torch.equal(pool(images), torch.nn.functional.adaptive_avg_pool2d(images, 3))
