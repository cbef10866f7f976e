"""Batch norm's statistics, estimated anew: those of the photos by hand, and nothing else of the model."""

import torch
from tests.training.nets import convolutions, patches
from torch import nn

from heatproof.training.feeds import TensorFeed
from heatproof.training.statistics import estimate_statistics, norms_of


def test_they_are_those_of_the_photos() -> None:
    model, (images, labels) = convolutions(), patches(48, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    momenta = [norm.momentum for norm in norms_of(model)]
    estimate_statistics(model, TensorFeed(images, labels).ordered(16), torch.device("cpu"))
    convolution = model.network.get_submodule("stage1.0")
    parts = [convolution(model.normalised(part)).transpose(0, 1).flatten(1) for part in images.split(16)]
    first = norms_of(model)[0]
    assert torch.allclose(torch.as_tensor(first.running_mean), torch.stack([p.mean(1) for p in parts]).mean(0))
    assert torch.allclose(torch.as_tensor(first.running_var), torch.stack([p.var(1) for p in parts]).mean(0))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked") for name in changed)
    assert [norm.momentum for norm in norms_of(model)] == momenta
    assert not any(module.training for module in model.modules())


def test_a_network_without_batch_norm_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    assert norms_of(network) == []
    estimate_statistics(
        network, TensorFeed(torch.rand(4, 3, 2, 2), torch.zeros(4).long()).ordered(2), torch.device("cpu")
    )
