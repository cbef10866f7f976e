"""What each remedy changes, and what it leaves."""

import copy
from typing import Any

import pytest
import torch
from tests.networks import small
from torch import Tensor, nn

from heatproof import catalog, spec
from heatproof.errors import InputError, LayerError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.models.classifier import Classifier
from heatproof.processes import Processes
from heatproof.repairs.remedies import Finetune, Prune, ReBN, Relearn, Remedy, Truth
from heatproof.repairs.repair import repair
from heatproof.training.feeds import TensorFeed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup, set_up


def photos(count: int = 60, size: int = 10, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def ready(model: Classifier, layer: str | None, images: Tensor) -> tuple[Setup, TensorFeed]:
    feed = TensorFeed(images, torch.full((len(images),), -1))
    return set_up(model, GradCAM(), Feeds(feed, feed), FineTune(trainable=layer), Processes()), feed


@pytest.mark.parametrize("name", catalog.REPAIRS)
def test_a_remedy_is_what_its_text_says(name: str) -> None:
    remedy = spec.build(name, catalog.REPAIRS, "remedy")
    assert isinstance(remedy, Remedy)
    assert spec.build(repr(remedy), catalog.REPAIRS) == remedy


def test_statistics_are_estimated_anew() -> None:
    """Against the mean and variance of what the batch norm is given, over batches of equal size."""
    model = small(dtype=torch.float32)
    before = copy.deepcopy(model.state_dict())
    images = photos(64)
    setup, feed = ready(model, None, images)
    ReBN(batch_size=16).begin(setup, feed, seed=0)
    with torch.no_grad():
        given = model.network.get_submodule("stem")((images - model.mean) / model.std)
    parts = given.split(16)
    norm: Any = setup.model.network.get_submodule("norm")  # type: ignore[union-attr]
    torch.testing.assert_close(norm.running_mean, torch.stack([p.mean((0, 2, 3)) for p in parts]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([p.var((0, 2, 3)) for p in parts]).mean(0))
    assert norm.momentum == 0.1
    assert not any(module.training for module in setup.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_batch_norm_is_said() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = Classifier(network, (0.5,) * 3, (0.2,) * 3, ["a", "b"], 10, name="folded").eval()
    # so that both classes are predicted
    with torch.no_grad():
        network[4].bias.copy_(-(model(photos()).mean(0)) + network[4].bias)  # type: ignore[union-attr, operator, arg-type]
    with pytest.raises(ModelError, match="folded has no batch norm with running statistics"):
        repair(model, GradCAM(), photos(), ReBN())


def test_a_last_photo_alone_is_left_out_of_the_statistics() -> None:
    def estimated(count: int) -> Tensor:
        network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
        nn.init.constant_(network[0].weight, 0.5)  # type: ignore[arg-type]
        model = Classifier(network, (0.0,) * 3, (1.0,) * 3, ["a", "b"], 4).eval()
        images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))[:count]
        setup, feed = ready(model, None, images)
        ReBN(batch_size=2).begin(setup, feed, seed=0)
        found: Any = setup.model.network[1].running_mean  # type: ignore[index]
        return found

    torch.testing.assert_close(estimated(5), estimated(4))


def test_what_is_drawn_anew_and_what_is_not() -> None:
    model = small(dtype=torch.float32)
    setup, feed = ready(model, "last", photos())
    state = torch.get_rng_state()
    Relearn(layer="last").begin(setup, feed, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    old, new = dict(model.named_parameters()), dict(setup.model.named_parameters())
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"network.last.weight", "network.last.bias", "network.head.weight", "network.head.bias"}


def test_noise_is_of_the_size_that_was_asked() -> None:
    model = small(dtype=torch.float32)
    setup, feed = ready(model, "last", photos())
    Relearn(layer="last", noise=0.5).begin(setup, feed, seed=1)
    old, new = (m.network.get_submodule("last").weight for m in (model, setup.model))  # type: ignore[union-attr]
    moved = (new - old).detach().std() / old.detach().std()  # type: ignore[operator, union-attr]
    assert 0.4 < float(moved) < 0.6


def test_the_idlest_filters_are_cut() -> None:
    model, images = small(dtype=torch.float32), photos()
    setup, feed = ready(model, None, images)
    with torch.no_grad():
        seen: list[Tensor] = []
        hook = model.network.get_submodule("last").register_forward_hook(lambda m, i, o: seen.append(o.clone()))
        model(images)
        hook.remove()
    # the ReLU behind it writes in place, and the hook comes before
    idlest = seen[0].relu().mean((0, 2, 3)).argsort()[:2].tolist()
    Prune(share=0.4, layer="last").begin(setup, feed, seed=0)
    weight: Any = setup.model.network.get_submodule("last").weight  # type: ignore[union-attr]
    cut = [k for k in range(5) if bool((weight[k] == 0).all())]
    assert sorted(cut) == sorted(idlest)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Truth(weight=0), "weight > 0"),
        (lambda: Truth(views=-1), "views >= 0"),
        (lambda: Truth(mosaics=-0.5), "mosaics"),
        (lambda: Truth(steps=0), "steps >= 1"),
        (lambda: Finetune(lr=0), "lr > 0"),
        (lambda: Finetune(keep="maps"), "outputs or labels, got 'maps'"),  # type: ignore[arg-type]
        (lambda: Prune(share=1), "between 0 and 1, got 1"),
        (lambda: Relearn(noise=0), "noise > 0, got 0"),
        (lambda: ReBN(batch_size=1), "at least 2 photos"),
    ],
)
def test_settings_that_make_no_sense(make: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()


def test_a_layer_that_is_not_there_is_told_before_anything_is_computed() -> None:
    model = small(dtype=torch.float32)
    for remedy in (Truth(layer="lst"), Relearn(layer="lst"), Finetune(layer="lst"), Prune(layer="lst")):
        with pytest.raises(LayerError, match="did you mean last"):
            repair(model, GradCAM(), "no photos at all", remedy)
