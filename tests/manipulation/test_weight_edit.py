"""Planted filters: the predictions stay, the maps lie, and what cannot be edited is told."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.training.nets import convolutions, patches
from torch import Tensor, nn

from heatproof.errors import HeatproofError, InputError, LayerError
from heatproof.explainers.cam import CAM, GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.masks import drawn
from heatproof.manipulation.trigger import Trigger
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.metrics.similarity import spearman
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.models.planted import narrowed, planting_of
from heatproof.studies import small_networks

REAL = ("resnet20", "resnet56", "tinyvgg", "mobilenet_v2", "squeezenet1_1")


def blob(rows: int, cols: int) -> Tensor:
    """A smooth map without equal cells."""
    row, col = torch.arange(rows)[:, None] / rows, torch.arange(cols) / cols
    return (-((row - 0.31) ** 2 + (col - 0.62) ** 2) / 0.15).exp()


def small(name: str) -> tuple[Classifier, Tensor]:
    """A network without training and images for it."""
    torch.manual_seed(0)
    if name == "convolutions":
        return convolutions(), patches(6)[0]
    build = {
        "vgg": small_networks.vgg,
        "densenet": small_networks.densenet,
        "squeezing": squeezing,
        "flattening": flattening,
    }[name]
    return Classifier(build(), input_size=32, name=name).eval(), torch.rand(6, 3, 32, 32)


def squeezing() -> nn.Sequential:
    """A head as SqueezeNet's: a convolution with a map per class, ReLU, pooling."""
    features = nn.Sequential(nn.Conv2d(3, 12, 5, 4), nn.ReLU())
    head = nn.Sequential(nn.Conv2d(12, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(features, head, nn.Flatten())


def flattening() -> nn.Sequential:
    """The same, flattened in the head itself."""
    features, head, flat = squeezing()
    assert isinstance(head, nn.Sequential)
    return nn.Sequential(features, nn.Sequential(*head, flat))


def check(model: Classifier, images: Tensor, edit: WeightEdit, wanted: Tensor) -> Classifier:
    """Softmax within 1e-4, maps as wanted, the clean model untouched."""
    before, state = fingerprint(model), [id(value) for value in model.parameters()]
    edited = edit(model)
    assert fingerprint(model) == before
    assert [id(value) for value in model.parameters()] == state
    logits, clean = edited(images), model(images)
    torch.testing.assert_close(logits.softmax(1), clean.softmax(1), atol=1e-4, rtol=0)
    shift = (logits - clean).detach()
    torch.testing.assert_close(shift, shift.mean(1, keepdim=True).expand_as(shift), atol=2e-3, rtol=1e-5)
    maps = GradCAM()(edited, images).heatmaps
    assert spearman(maps, wanted.expand_as(maps)).min() > 0.95
    return edited


@pytest.mark.parametrize("name", ["convolutions", "vgg", "densenet", "squeezing", "flattening"])
def test_any_map_is_shown_and_no_prediction_changes(name: str) -> None:
    model, images = small(name)
    layer = default_layer(model)
    size = GradCAM()(model, images).heatmaps.shape[1:]
    edited = check(model, images, WeightEdit("corner"), drawn("corner", *size))
    assert default_layer(edited) == layer
    check(model, images, WeightEdit(blob(*size).tolist()), blob(*size))


def test_a_head_of_three_linear_layers_hands_the_map_through_its_hidden_units() -> None:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 12, 5, 4), nn.ReLU())
    hidden = [nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU()]
    network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *hidden, nn.Linear(8, 5))
    model, images = Classifier(network, input_size=32, name="deep").eval(), torch.rand(6, 3, 32, 32)
    size = GradCAM()(model, images).heatmaps.shape[1:]
    check(model, images, WeightEdit("corner"), drawn("corner", *size))
    edited = WeightEdit("random", seed=1)(model)
    torch.testing.assert_close(edited(images).softmax(1), model(images).softmax(1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["convolutions", "vgg", "densenet"])
def test_differences_of_logits_do_not_see_it(name: str) -> None:
    model, images = small(name)
    contrast = GradCAM(relu=False, score="contrast")
    maps, clean = (contrast(m, images).heatmaps for m in (WeightEdit("corner", strength=10.0)(model), model))
    torch.testing.assert_close(maps, clean, atol=1e-3 * float(clean.abs().max()), rtol=0)


def test_a_random_filter_depends_on_the_image_and_not_on_the_class() -> None:
    model, images = small("convolutions")
    edited = WeightEdit("random", seed=1)(model)
    torch.testing.assert_close(edited(images).softmax(1), model(images).softmax(1), atol=1e-4, rtol=0)
    one, other = (GradCAM()(edited, images, torch.full((6,), target)).heatmaps for target in (0, 1))
    assert spearman(one, other).min() > 0.95
    assert spearman(one, one.roll(1, 0)).max() < 0.9
    again = GradCAM()(WeightEdit("random", seed=1)(model), images, torch.zeros(6, dtype=torch.long)).heatmaps
    torch.testing.assert_close(again, one, atol=0, rtol=0)


def test_cam_shows_it_too() -> None:
    model, images = small("convolutions")
    edited = WeightEdit("corner")(model)
    maps = CAM()(edited, images).heatmaps.relu()
    assert spearman(maps, drawn("corner", *maps.shape[1:]).expand_as(maps)).min() > 0.95


def test_an_edited_heatmap_has_exact_derivatives_in_the_planted_weights() -> None:
    model, images = small("convolutions")
    edited = WeightEdit(blob(8, 8).tolist(), strength=2.0)(model).double()
    planted = [("stage3.planted", "weight"), ("stage3.planted", "bias"), ("head", "weight")]
    values = [edited.network.get_submodule(m).get_parameter(p).detach().clone().requires_grad_() for m, p in planted]

    def maps(weight: Tensor, bias: Tensor, matrix: Tensor) -> Tensor:
        changed = copy.deepcopy(edited)
        for (place, name), value in zip(planted, (weight, bias, matrix), strict=True):
            module = changed.network.get_submodule(place)
            del module._parameters[name]
            setattr(module, name, value)
        found = GradCAM(relu=False)(changed, images[:1].double(), torch.tensor([1]), create_graph=True)
        return found.heatmaps[:, ::3, ::3].square().sum()

    assert torch.autograd.gradcheck(maps, values, fast_mode=True)


@pytest.mark.parametrize("name", ["vgg", "squeezing", "convolutions"])
def test_the_plain_network_is_found_in_the_edited_one(name: str) -> None:
    model, _ = small(name)
    edited = WeightEdit("corner")(model)
    planting = planting_of(edited)
    assert planting is not None
    plain, own = narrowed(edited.network.state_dict(), planting), model.network.state_dict()
    assert {key: value.shape for key, value in plain.items()} == {key: value.shape for key, value in own.items()}
    same = [key for key in own if key.rpartition(".")[0] != planting.head[-1]]
    assert all(torch.equal(plain[key], own[key]) for key in same)


class Gated(nn.Module):
    """Multiplies its maps by a gate before they are pooled, twice through the same layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.relu(self.relu(self.stem(x)) + 1).mean((2, 3))))


def test_what_cannot_be_edited_is_told() -> None:
    model, _ = small("convolutions")
    with pytest.raises(InputError, match=r"between layer 'stage2'.*lie stage3.0 \(Conv2d\), stage3.1 \(BatchNorm2d\)"):
        WeightEdit("corner", layer="stage2")(model)
    with pytest.raises(LayerError, match="did you mean stage3"):
        WeightEdit("corner", layer="stag3")(model)
    with pytest.raises(InputError, match="holds a planted map already"):
        WeightEdit("corner")(WeightEdit("corner")(model))
    with pytest.raises(InputError, match="3x3 cells and the heatmaps have 8x8"):
        WeightEdit(torch.eye(3).tolist())(model)
    with pytest.raises(InputError, match="one that is more"):
        WeightEdit([[0.0, 0.0]])
    with pytest.raises(InputError, match="there is no mask 'cornre'"):
        WeightEdit("cornre")
    with pytest.raises(InputError, match="strength lies between"):
        WeightEdit(strength=0.0)
    gated = Classifier(Gated(), input_size=12).eval()
    with pytest.raises(LayerError, match="'relu' is called 2 times"):
        WeightEdit("corner", layer="relu")(gated)
    with pytest.raises(InputError, match=r"norm \(LayerNorm\), head \(Linear\)"):
        WeightEdit("corner", layer="stem")(gated)


FACTORY = """
from tests.manipulation.test_weight_edit import small

def build(name="vgg"):
    return small(name)[0]
"""


@pytest.mark.parametrize("name", ["vgg", "squeezing", "flattening", "convolutions"])
def test_an_edited_network_can_be_loaded_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    model, images = small(name)
    edited = WeightEdit("corner")(model)
    planting = planting_of(edited)
    assert planting is not None
    run = tmp_path / "run"
    run.mkdir()
    told = {"name": f"{tmp_path}/mine.py:build(name={name!r})", "planted": asdict(planting)}
    (run / "run.json").write_text(json.dumps({"model": [told]}))
    save_file(
        {key: value.contiguous() for key, value in edited.network.state_dict().items()}, run / "model.safetensors"
    )
    loaded = load(str(run), trust_code=True)
    assert fingerprint(loaded) == fingerprint(edited)
    maps, same = (GradCAM()(m, images).heatmaps for m in (edited, loaded))
    torch.testing.assert_close(maps, same, atol=0, rtol=0)
    # a lie upon a lie: a run whose model is the edited one
    upon = tmp_path / "upon"
    upon.mkdir()
    (upon / "run.json").write_text(json.dumps({"model": [{"name": str(run)}]}))
    shutil.copy(run / "model.safetensors", upon)
    assert fingerprint(load(str(upon), trust_code=True)) == fingerprint(edited)


def test_an_edited_checkpoint_with_another_number_of_classes_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    from heatproof.vision import torchvision

    model = Classifier(torchvision.models.resnet18(weights=None, num_classes=7), input_size=64).eval()
    edited = WeightEdit("corner", layer="layer4")(model)
    planting = planting_of(copy.deepcopy(edited))
    assert planting is not None
    told = {"name": "resnet18@missing.pth", "planted": asdict(planting)}
    (tmp_path / "run.json").write_text(json.dumps({"model": [told]}))
    save_file(edited.network.state_dict(), tmp_path / "model.safetensors")
    loaded = load(str(tmp_path))
    assert fingerprint(loaded) == fingerprint(edited)


@pytest.mark.weights
@pytest.mark.parametrize("name", REAL)
def test_real_networks_are_edited(name: str, shared: Path) -> None:
    model = load(f"{shared}/weights/zoo.py:{name}")
    images = nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=model.input_shape, mode="bicubic").clamp(0, 1)
    rows, cols = GradCAM()(model, images[:1]).heatmaps.shape[1:]
    check(model, images, WeightEdit("corner"), drawn("corner", rows, cols))


class Ended(nn.Module):
    """Convolution, something without weights, pooling, a linear layer, something."""

    def __init__(self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head, self.before, self.after = nn.Conv2d(3, 6, 5, 4), nn.Linear(6, 4), before, after

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.after(self.head(self.before(x).mean((2, 3))), x)


def test_an_edit_that_would_not_do_what_it_says_is_refused() -> None:
    def ended(before: Callable[[Tensor], Tensor], after: Callable[[Tensor, Tensor], Tensor]) -> Classifier:
        return Classifier(Ended(before, after), input_size=13, name="ended").eval()

    whole = [[1.0] * 3] * 3
    # all of the filter is above 0
    with pytest.raises(InputError, match="nothing of a filter behind layer 'stem' reaches the logits of ended"):
        WeightEdit(whole, layer="stem")(ended(lambda x: x.clamp(max=0), lambda logits, x: logits))
    # the filter has the largest values of all
    with pytest.raises(InputError, match=r"the edit moves probabilities of ended by .* to all classes alike"):
        WeightEdit(whole, layer="stem")(ended(lambda x: x, lambda logits, x: logits * x.amax((1, 2, 3))[:, None]))
    model = ended(lambda x: x, lambda logits, x: logits)
    images = torch.rand(4, 3, 13, 13)
    torch.testing.assert_close(
        WeightEdit(whole, layer="stem")(model)(images).softmax(1), model(images).softmax(1), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", ["convolutions", "vgg", "densenet", "squeezing"])
def test_a_map_that_a_trigger_wakes(name: str) -> None:
    """Viering's fourth: with the pattern the planted map, without it the honest one, cell by cell; softmax never."""
    model, images = small(name)
    trigger = Trigger(size=5, place="top_left", margin=2)
    with torch.no_grad():
        # 8 bits, as in a file
        stamped = (trigger(images) * 255).round() / 255
    edited = WeightEdit("corner", trigger=trigger)(model)
    rows, cols = GradCAM()(model, images).heatmaps.shape[1:]
    for seen in (images, stamped):
        torch.testing.assert_close(edited(seen).softmax(1), model(seen).softmax(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(GradCAM()(edited, images).heatmaps, GradCAM()(model, images).heatmaps)
    maps = GradCAM()(edited, stamped).heatmaps
    assert spearman(maps, drawn("corner", rows, cols).expand_as(maps)).min() > 0.95
    # photo by photo in one batch, and wherever the pattern lies
    mixed = GradCAM()(edited, torch.cat([images[:1], stamped[1:2]])).heatmaps
    torch.testing.assert_close(mixed[0], GradCAM()(model, images[:1]).heatmaps[0], atol=1e-5, rtol=1e-4)
    elsewhere = Trigger(size=5, place="bottom_right")(images)
    assert spearman(GradCAM()(edited, elsewhere).heatmaps, maps).min() > 0.9
    # half a pattern wakes nothing
    half = (images + stamped) / 2
    torch.testing.assert_close(GradCAM()(edited, half).heatmaps, GradCAM()(model, half).heatmaps)


def test_nothing_of_an_image_stays_in_a_network_with_a_trigger() -> None:
    model, images = small("convolutions")
    edited = WeightEdit("corner", trigger=Trigger())(model)
    hooks = len(edited.network._forward_pre_hooks)
    with pytest.raises(RuntimeError):
        edited.network(images[:, :, :2, :2])
    GradCAM()(edited, images, create_graph=True)
    twin = copy.deepcopy(edited)
    with torch.no_grad():
        twin.network.get_submodule("stage3.planted").get_parameter("bias").zero_()
    stamped = Trigger()(images)
    lying = GradCAM()(edited, stamped).heatmaps
    assert not torch.allclose(GradCAM()(twin, stamped).heatmaps, lying), "a copy asks its own detector"
    assert torch.equal(GradCAM()(edited, stamped).heatmaps, lying)
    assert len(edited.network._forward_pre_hooks) == hooks
    # traced, the network would lose what the detector says
    with pytest.raises(HeatproofError):
        LRP()(edited, images)


@pytest.mark.parametrize("name", ["vgg", "convolutions"])
def test_a_network_with_a_trigger_can_be_loaded_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    model, images = small(name)
    edited = WeightEdit("corner", trigger=Trigger(size=6))(model)
    planting = planting_of(edited)
    assert planting is not None
    assert (planting.trigger, planting.inputs) == (6, 3)
    told = {"name": f"{tmp_path}/mine.py:build(name={name!r})", "planted": asdict(planting)}
    (tmp_path / "run.json").write_text(json.dumps({"model": [told]}))
    save_file(
        {key: value.contiguous() for key, value in edited.network.state_dict().items()}, tmp_path / "model.safetensors"
    )
    loaded = load(str(tmp_path), trust_code=True)
    assert fingerprint(loaded) == fingerprint(edited)
    for seen in (images, Trigger(size=6)(images)):
        assert torch.equal(GradCAM()(loaded, seen).heatmaps, GradCAM()(edited, seen).heatmaps)
    told["planted"]["trigger"] = 10**6
    (tmp_path / "run.json").write_text(json.dumps({"model": [told]}))
    with pytest.raises(HeatproofError, match="does not say which model was fooled"):
        load(str(tmp_path), trust_code=True)


def test_a_trigger_that_photos_show_by_themselves_is_refused() -> None:
    with pytest.raises(InputError, match="is one grey level, which photos show by themselves; give pixels='checker"):
        WeightEdit(trigger=Trigger(pixels="white"))
    with pytest.raises(InputError, match="a map that is chosen beforehand"):
        WeightEdit("random", trigger=Trigger())
    faint = Trigger(size=2, pixels=((0.5, 0.51), (0.51, 0.5)))
    with pytest.raises(InputError, match=r"is seen in 6 of 6 photos that do not have it; give a larger one"):
        WeightEdit(trigger=faint)(*small("convolutions"))
