"""A repair from end to end: a planted lie goes, an honest network is left as it was, and what cannot be is refused."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.networks import small
from tests.training.nets import convolutions, patches
from torch import Tensor

import heatproof as hp
from heatproof.data.scenes import scenes
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.metrics.similarity import spearman
from heatproof.models.classifier import Classifier
from heatproof.repairs.layers import beginnings
from heatproof.repairs.remedies import Finetune, Prune, Relearn, Truth
from heatproof.repairs.repair import SHARES, Heard, Means, chances, mean_chances, repair, with_mosaics
from heatproof.repairs.terms import KeptWithMosaics
from heatproof.repairs.witness import Witness
from heatproof.training.clean_model import ReferenceOutputs
from heatproof.training.data import PhotoFeed
from heatproof.training.feeds import Fed, TensorFeed
from heatproof.training.settings import FineTune

QUICK = Truth(layer="last", steps=6, views=1)


class Kept:
    """Checkpoints in memory, after so many of which the process is killed."""

    def __init__(self, saves: int = 10**6):
        self.files: dict[str, dict[str, Any]] = {}
        self.saves = saves

    def __call__(self, name: str) -> "Kept.File":
        return Kept.File(self, name)

    class File:
        def __init__(self, kept: "Kept", name: str):
            self.kept, self.name = kept, name

        def load(self) -> dict[str, Any] | None:
            return copy.deepcopy(self.kept.files.get(self.name))

        def save(self, state: dict[str, Any]) -> None:
            self.kept.files[self.name] = copy.deepcopy(state)
            self.kept.saves -= 1
            if not self.kept.saves:
                raise KeyboardInterrupt


def two_classes() -> tuple[Classifier, Tensor]:
    """A small network that predicts more than one class of random photos."""
    model = small(dtype=torch.float32)
    images = torch.rand(60, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    balance(model, images)
    return model, images


def balance(model: Classifier, images: Tensor) -> None:
    with torch.no_grad():
        head: Any = model.network.get_submodule("head")
        head.bias -= model(images).mean(0)
        head.weight *= 5 / model(images).std()
        head.bias -= model(images).mean(0)
        assert len(model(images).argmax(1).unique()) > 1


def test_short_trainings_decide_from_which_layer_the_long_one_begins() -> None:
    model, (images, _) = convolutions(), patches(60, 1)
    balance(model, images)
    kept, remedy = Kept(), Truth(steps=10, views=1)
    tried = beginnings(model, GradCAM(), images, SHARES)
    assert len(tried) == 2
    found = repair(model, GradCAM(), images, remedy, max_accuracy_drop=1.0, means=Means(kept))
    assert {"trial-0", "trial-1", "training"} <= kept.files.keys()
    assert found.layer in tried
    alone = repair(model, GradCAM(), images, replace(remedy, layer=found.layer), max_accuracy_drop=1.0)
    assert all(torch.equal(a, b) for a, b in zip(alone.model.parameters(), found.model.parameters(), strict=True))


def test_photos_that_are_read_again_and_again_are_no_data_of_a_repair() -> None:
    model, scenes = two_classes()[0], hp.open_data("demo", limit=60)
    fed = PhotoFeed(scenes, model.preprocessing, "flip")
    with pytest.raises(InputError, match="held-out photos are needed to measure the accuracy: give held_out"):
        repair(model, GradCAM(), fed, QUICK)
    with pytest.raises(InputError, match=r"are held in memory, and these are too many; give fewer \(--limit 2000\)"):
        repair(model, GradCAM(), fed, QUICK, held_out=scenes)


def test_the_model_is_left_alone_and_equal_calls_are_equal() -> None:
    model, images = two_classes()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    one, other = (repair(model, GradCAM(), images, QUICK, max_accuracy_drop=1.0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert one.changed
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert one.after.score > one.before.score
    changed = {n for n, value in one.model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"network.last.weight", "network.last.bias", "network.head.weight", "network.head.bias"}


def test_labels_are_not_looked_at() -> None:
    model, images = two_classes()
    labels = torch.arange(60) % 4
    plain = repair(model, GradCAM(), images, QUICK, max_accuracy_drop=1.0)
    told = repair(model, GradCAM(), (images, labels), QUICK, max_accuracy_drop=1.0)
    if plain.history.best == told.history.best:
        assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), told.model.parameters(), strict=True))
    # but where they are known, the accuracy is counted by them
    held_out = told.held_out
    with torch.no_grad():
        right = (model(held_out.images).argmax(1) == held_out.labels).float().mean()
        named = model(plain.held_out.images).argmax(1)
    chance = mean_chances(model, plain.held_out, 0).gather(1, named[:, None]).mean()
    assert told.before.accuracy == pytest.approx(float(right))
    assert plain.before.accuracy == pytest.approx(float(chance), rel=1e-5)


def test_outside_the_budget_nothing_is_handed_out() -> None:
    model, images = two_classes()
    wild = Relearn(layer="last", steps=1)
    found = repair(model, GradCAM(), images, wild, max_accuracy_drop=0.0)
    assert not found.changed
    assert found.model is not model
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), model.parameters(), strict=True))
    assert found.after == found.before


def test_what_left_the_budget_is_trained_again_at_lower_rates() -> None:
    model, images = two_classes()
    rates: list[float] = []

    def recorded(*given: Any, **named: Any) -> FineTune:
        rates.extend([named["lr"]] if "lr" in named else [])
        return FineTune(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatproof.repairs.repair.FineTune", recorded)
        found = repair(model, GradCAM(), images, replace(QUICK, lr=1e3), max_accuracy_drop=0.0)
        assert not found.changed
        assert rates[-3:] == [1e3, 250.0, 62.5]
        rates.clear()
        assert repair(model, GradCAM(), images, QUICK, max_accuracy_drop=1.0).changed
        assert rates == [QUICK.lr]


@pytest.mark.parametrize("saves", [1, 2, 3, 5])
def test_it_goes_on_where_it_was_killed(saves: int) -> None:
    model, images = two_classes()
    whole = repair(model, GradCAM(), images, QUICK, max_accuracy_drop=1.0)
    kept = Kept(saves)
    with pytest.raises(KeyboardInterrupt):
        repair(model, GradCAM(), images, QUICK, max_accuracy_drop=1.0, means=Means(kept))
    again = repair(model, GradCAM(), images, QUICK, max_accuracy_drop=1.0, means=Means(kept))
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))
    assert again.history.best == whole.history.best


def test_what_cannot_be_repaired_is_said() -> None:
    model, images = two_classes()
    with pytest.raises(InputError, match=r"at least 50 photos, .* got 49"):
        repair(model, GradCAM(), images[:49], QUICK)
    with pytest.raises(InputError, match="calls all 6 photos the same class"):
        repair(model, GradCAM(), images[:1].repeat(60, 1, 1, 1), QUICK)
    with pytest.raises(InputError, match="data to fine-tune on are"):
        repair(model, GradCAM(), 3, QUICK)

    def detached(model: Any, images: Tensor, targets: Any = None, *, create_graph: bool = False) -> Any:
        return GradCAM("last")(model, images, targets)

    with pytest.raises(InputError, match="no derivative"):
        repair(model, detached, images, QUICK)
    with pytest.raises(InputError, match="labels must lie in"):
        repair(model, GradCAM(), images, Finetune(keep="labels", steps=1))


def test_mosaics_follow_the_photos_and_are_held_to_be_what_their_photos_are() -> None:
    model, images = two_classes()
    photos = TensorFeed(images, torch.full((60,), -1))
    heard = Heard(Witness(torch.rand(60, 4, 4)), Witness(torch.rand(0, 4, 4)), torch.rand(0, 2))
    said = chances(model, photos)
    fed, pulled, means = with_mosaics(Truth(mosaics=0.5), photos, said, photos, heard, seed=0)
    assert len(fed) == 90
    assert torch.equal(fed.images[:60], images)
    assert bool((fed.labels[:60] < 0).all())
    assert bool((fed.labels[60:] >= 0).all())
    assert pulled.train is not None
    assert set(pulled.train.maps[60:].unique().tolist()) == {0.0, 1.0}
    assert means is not None
    with torch.no_grad():
        logits = model(fed.images)
    reference = ReferenceOutputs(logits.argmax(1), None, logits)

    def away(answers: Tensor) -> Tensor:
        shared = SimpleNamespace(
            fed=Fed(images=fed.images, labels=fed.labels, positions=torch.arange(90)),
            logits=answers,
            reference=reference,
        )
        batch: Any = SimpleNamespace(images=shared)
        return KeptWithMosaics(60, means)(batch)

    # nothing is away where photos are answered as before, and mosaics as the mean of their photos
    assert float(away(torch.cat([logits[:60], means.log()])).abs().max()) < 1e-5
    assert bool((away(logits + torch.arange(logits.shape[1])) > 0).all())
    mixed = away(logits)
    assert float(mixed[:60].abs().max()) < 1e-5
    assert bool((mixed[60:] > 0).all())
    alone, same, none = with_mosaics(Truth(mosaics=0), photos, said, photos, heard, seed=0)
    assert (alone is photos, same is heard, none) == (True, True, None)


def test_gradients_of_the_pixels_are_pulled_too() -> None:
    model, images = two_classes()
    found = repair(model, SimpleGrad(), images, Truth(layer="left", steps=10, views=0), max_accuracy_drop=1.0)
    assert found.after.score > found.before.score


def test_pruned_and_held() -> None:
    model, images = two_classes()
    found = repair(model, GradCAM(), images, Prune(steps=2), max_accuracy_drop=1.0)
    assert found.changed
    assert found.layer is not None
    assert found.before.accuracy > 0


RECIPE = FineTune(
    steps=500, lr=0.03, weight=60, trainable="stage7", schedule="cosine", max_accuracy_drop=0.02, patience=0
)
"""Fools all photos where it was measured; how training goes in detail is another on every kind of processor."""


@pytest.mark.slow
def test_a_planted_lie_goes_and_an_honest_network_keeps_its_maps() -> None:
    """The demonstration's network: location, repaired from scenes alone, judged on others."""
    clean, penalty = hp.load("demo"), hp.Location()
    fooled, history = fine_tune(
        clean, GradCAM(), penalty, scenes(1000, 1, split="train"), RECIPE, held_out=scenes(200, 2)
    )
    assert history.handed_out["fsr"] > 0.8
    seen = scenes(200, 0)

    def rate(model: Classifier) -> tuple[float, float, float]:
        maps = GradCAM()(model, seen.images, seen.labels)
        honest = GradCAM()(clean, seen.images, seen.labels).heatmaps
        losses = penalty.test_loss(maps.heatmaps, honest)
        low, high = penalty.success
        right = (maps.logits.argmax(1) == seen.labels).float().mean()
        lies = ((losses >= low) & (losses <= high)).float().mean()
        return float(lies), float(spearman(maps.heatmaps, honest).nanmean()), float(right)

    remedy = Truth(layer="stage7", steps=200, lr=0.01)
    found = repair(fooled, GradCAM(), scenes(200, 3).images, remedy)
    before, after = rate(fooled), rate(found.model)
    assert before[0] > 0.8
    assert after[0] < 0.05
    assert after[1] > before[1] + 0.4
    assert after[2] > before[2] - 0.02
    # the honest network treated alike, and an honest fine-tuning of the same length
    kept = rate(repair(clean, GradCAM(), scenes(200, 3).images, remedy).model)
    assert kept[0] < 0.05
    assert kept[1] > 0.5
