"""Batch normalisation: with and without it in the same network, and its two modes."""

import pytest
import torch
from torch import nn

from speedkit.tasks import IMAGES
from speedkit.tasks.images import CLASSES, build
from speedkit.techniques import batchnorm


def network(name, with_norm, shape=(1, 16, 16)):
    torch.manual_seed(7)
    return build(name, shape, len(CLASSES), mean=torch.zeros(shape[0]), std=torch.ones(shape[0]), batchnorm=with_norm)


def weights(model):
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("name", IMAGES.networks)
def test_the_same_seed_gives_the_same_weights_with_and_without(name):
    with_norm, without = weights(network(name, True)), weights(network(name, False))
    assert len(with_norm) == len(without) >= 3
    assert all(torch.equal(a, b) for a, b in zip(with_norm, without, strict=True))


@pytest.mark.parametrize("name", IMAGES.networks)
def test_the_switch_puts_norms_in_or_leaves_them_out(name):
    def norms(model):
        return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]

    assert len(norms(network(name, True))) >= 2
    assert norms(network(name, False)) == []


def test_a_convolution_before_a_norm_has_no_bias():
    assert batchnorm.convolution(1, 4, True).bias is None
    assert "bias" not in dict(batchnorm.convolution(1, 4, True).named_parameters())
    assert batchnorm.convolution(1, 4, False).bias.shape == (4,)


def test_training_mode_uses_the_batch():
    torch.manual_seed(0)
    values = torch.randn(64, 3, 5, 5) * 7 + 100
    result = batchnorm.norm(3, True).train()(values)
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(result.var((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-3, rtol=0)


def test_evaluation_mode_uses_the_running_averages():
    norm, values = batchnorm.norm(1, True), torch.full((2, 1, 2, 2), 10.0)
    norm.train()(values)  # the running mean moves from 0 to 0.1 * 10, the running variance from 1 to 0.9 * 1 + 0.1 * 0
    norm.eval()
    assert norm.running_mean.item() == pytest.approx(1.0)
    assert norm.running_var.item() == pytest.approx(0.9)
    expected = (10 - 1) / (0.9 + norm.eps) ** 0.5
    torch.testing.assert_close(norm(values), torch.full_like(values, expected))
    assert norm.running_mean.item() == pytest.approx(1.0)  # evaluation does not move it


def test_in_evaluation_mode_an_image_does_not_depend_on_its_batch():
    model = network("small", True)
    images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8)
    model.train()(images)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-4)
        model.train()
        assert not torch.allclose(model(images)[:1], model(images[:2])[:1], rtol=1e-2, atol=1e-2)


def test_a_batch_of_one_cannot_be_normalised():
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network("mlp", True).train()(image)
    assert network("mlp", False).train()(image).shape == (1, 10)
    assert network("mlp", True).eval()(image).shape == (1, 10)


def test_without_the_norm_nothing_is_done():
    values = torch.randn(2, 3, 4, 4)
    assert batchnorm.norm(3, False)(values) is values
