"""The walk over the network's own graph: every way to write a network, and the network left as it was."""

import copy
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError, ModelError, SpecError
from heatproof.explainers.lrp import graph, rules
from heatproof.explainers.lrp.composites import COMPOSITES, paper
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models import structure
from heatproof.models.classifier import Classifier
from networks import photos, small


class Written(nn.Module):
    """One small network; subclasses write its forward method in different ways."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.inplace = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(6, 4)
        nn.init.normal_(self.norm.weight, 1, 0.2)
        nn.init.normal_(self.norm.get_buffer("running_mean"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.one(x)))
        y = self.relu(self.two(x) + x)
        return self.head(nn.functional.adaptive_avg_pool2d(self.pool(y), 1).flatten(1))


class InPlace(Written):
    def forward(self, x: Tensor) -> Tensor:
        x = self.inplace(self.norm(self.one(x)))
        y = self.two(x)
        y += x
        y = self.inplace(y)
        return self.head(F.adaptive_avg_pool2d(self.pool(y), (1, 1)).view(y.size(0), -1))


class Functional(Written):
    def forward(self, x: Tensor) -> Tensor:
        n = self.norm
        x = F.conv2d(x, self.one.weight, self.one.bias, padding=1)
        x = F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)
        x = F.relu(input=x)
        y = torch.relu_(torch.add(F.conv2d(input=x, weight=self.two.weight, bias=self.two.bias, padding=1), x))
        y = F.max_pool2d(y, kernel_size=2, stride=2).mean(dim=(2, 3))
        return F.linear(y, self.head.weight, self.head.bias)


class Overwritten(Written):
    """In-place operations whose results nobody takes, and reads of what they overwrote."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.one(x))
        self.inplace(x)
        y = self.two(x).add_(x)
        F.relu(y, inplace=True)
        y = self.pool(y)
        return self.head(torch.flatten(F.avg_pool2d(y, y.size()[3]), 1))


class Branching(Written):
    """Python that looks at sizes; the same modules under another name."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.one(x)))
        if x.shape[2] % 2:
            x = F.pad(x, (0, 1, 0, 1))
        y = self.relu(self.two(x) + x)
        return self.head(self.pool(y).mean([2, 3])[: int(x.shape[0])])


class OfAType(Written):
    """Python that looks at types and devices."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype != torch.int64:
            x = self.relu(self.norm(self.one(x)))
        y = self.relu(self.two(x) + x).to(x.dtype)
        return self.head(self.pool(y).mean([2, 3]))


@pytest.fixture(params=[InPlace, Functional, Overwritten, Branching, OfAType])
def written(request: pytest.FixtureRequest) -> nn.Module:
    return request.param().double().eval()


@pytest.mark.parametrize(
    "setting", [{}, {"composite": "epsilon"}, {"composite": "alpha2beta1"}, {"layer": "norm"}], ids=str
)
def test_however_it_is_written(written: nn.Module, setting: dict[str, Any]) -> None:
    if setting.get("layer") and isinstance(written, Functional):
        pytest.skip("its layers are not called by name")
    images = photos(2, 8)
    kept = images.clone()
    wanted = LRP(**setting)(Written().double().eval(), images)
    found = LRP(**setting)(written, images)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found.logits, written(images))
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


def test_the_first_layer_may_overwrite_the_pixels() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 2)).double()
    images = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    kept = images.clone()
    LRP()(network, images)
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


def test_an_image_does_not_feel_its_neighbours() -> None:
    model, images = small(), photos(3)
    together = LRP()(model, images).heatmaps
    alone = torch.cat([LRP()(model, image[None]).heatmaps for image in images])
    torch.testing.assert_close(together, alone)


def test_stops_at_every_layer_that_has_a_map() -> None:
    model, images = small(), photos(2)
    whole = LRP()(model, images, torch.tensor([1, 2]))
    for layer, shape in [("stem", (10, 10)), ("norm", (10, 10)), ("pool", (5, 5)), ("gate", (1, 1)), ("last", (5, 5))]:
        if layer == "gate":
            with pytest.raises(LayerError, match="no relevance reaches"):
                LRP(layer=layer)(model, images)
            continue
        found = LRP(layer=layer)(model, images, torch.tensor([1, 2]))
        assert found.heatmaps.shape == (2, *shape)
        torch.testing.assert_close(found.logits, whole.logits)
    with pytest.raises(LayerError, match="did you mean left"):
        LRP(layer="lef")(model, images)
    with pytest.raises(LayerError, match=r"puts out \[2, 4\]; a heatmap needs"):
        LRP(layer="head")(model, images)


def test_the_layer_and_the_pixels_tell_one_story() -> None:
    """Where nothing is lost in between, the maps of a layer and of the pixels have one sum."""
    network = Written().double().eval()
    for name, value in network.named_parameters():
        if "bias" in name:
            nn.init.zeros_(value)
    nn.init.zeros_(network.norm.get_buffer("running_mean"))
    sums = [
        LRP(layer=layer, stabilizer=1e-15)(network, photos(2, 8)).heatmaps.sum((1, 2)) for layer in (None, "two", "one")
    ]
    # "two" is one of two branches, "one" is the whole network
    torch.testing.assert_close(sums[0], sums[2])
    assert not torch.allclose(sums[0], sums[1])


def test_layers_within_the_default() -> None:
    model, images = small(), photos(2)
    model.default_layer = "last"
    torch.testing.assert_close(LRP(layer="default")(model, images), LRP(layer="last")(model, images))
    torch.testing.assert_close(LRP(layer="pixels")(model, images), LRP()(model, images))


@pytest.mark.parametrize("score", ["contrast", "softmax_contrast"])
def test_logit_differences_are_the_difference_of_their_maps(score: Any) -> None:
    """With the epsilon rule at the head the map is linear in the weights that the score gives the logits."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    images = torch.rand(2, 3, 2, 2, dtype=torch.float64)
    target = torch.tensor([0, 2])
    found = LRP(score=score, stabilizer=1e-12)(network, images, target)
    each = torch.stack([LRP(stabilizer=1e-12)(network, images, torch.tensor([c, c])).heatmaps for c in range(3)], 1)
    rivals = torch.ones(2, 3).double() if score == "contrast" else found.logits.softmax(1)
    rivals = rivals.scatter(1, target[:, None], 0)
    weights = F.one_hot(target, 3) - rivals / rivals.sum(1, keepdim=True)
    torch.testing.assert_close(found.heatmaps, (weights[:, :, None, None] * each).sum(1))


def test_a_score_that_is_no_difference_of_logits_is_refused() -> None:
    with pytest.raises(SpecError, match="shares out a logit, an output or a difference of logits"):
        LRP(score="probability")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="did you mean epsilon"):
        LRP(composite="epsilonn")
    with pytest.raises(SpecError, match="'fold' or 'pass'"):
        LRP(batch_norm="merge")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be positive"):
        LRP(stabilizer=0)


def test_traced_once_and_again_only_when_modules_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    trace = graph._trace
    monkeypatch.setattr(graph, "_trace", lambda *given: made.append(given[0]) or trace(*given))
    model, images = small(), photos(1)
    for _ in range(3):
        LRP()(model, images)
        LRP(composite="epsilon", layer="stem")(model, images)
    assert len(made) == 1
    before = LRP()(model, images)
    with torch.no_grad():
        last = model.network.get_submodule("last")
        last.get_parameter("weight").mul_(2)
    assert not torch.allclose(LRP()(model, images).heatmaps, before.heatmaps)
    assert len(made) == 1
    model.network.last = nn.Sequential(last, nn.Dropout())
    LRP()(model, images)
    assert len(made) == 2


def test_no_linear_layer_is_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule takes what the layer put out in the forward pass, though others have read it and gone on."""

    def again(*args: Any) -> None:
        raise AssertionError("a linear layer was computed again")

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.Linear(6, 4)).eval()
    monkeypatch.setattr("heatproof.explainers.lrp.affine._linear", again)
    relevance = LRP(composite="epsilon")(network, torch.rand(2, 3, 2, 2)).heatmaps
    assert relevance.isfinite().all()
    assert relevance.abs().amax() > 0


def test_a_dead_model_is_not_kept_alive() -> None:
    model = small()
    LRP()(model, photos(1))
    with pytest.raises(ModelError):
        LRP()(Untraceable(), photos(1))
    gone = [weakref.ref(model.network), weakref.ref(model.network.get_parameter("stem.weight"))]
    del model
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert not any(isinstance(network, Untraceable) for network in structure._MEMORIES)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0.5:
            x = x * 2
        return self.head(x.mean((2, 3)))


def test_an_untraceable_network_is_told_its_line() -> None:
    with pytest.raises(ModelError, match=r"cannot trace at test_walk.py:\d+, in forward: `if x.mean\(\) > 0.5:`"):
        LRP()(Untraceable(), photos(1))
    # of lines of torch itself none is named
    told = graph._untraceable(nn.LSTM(3, 4), ValueError("expected 2D\nand more"))
    assert told.startswith("LRP walks the graph of LSTM, which torch.fx cannot trace (expected 2D). The way through")


class Scaled(nn.Module):
    """A buffer by its name, or taken from where torch keeps it by a method that asks for the number of cells."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head, self.plain = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), plain
        self.register_buffer("scale", torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.plain:
            x = x * self.scale  # type: ignore[operator]
        elif x.numel() == 2 * 4 * 10 * 10:
            x = x * self._buffers["scale"]  # type: ignore[operator]
        return self.head(x.relu().mean((2, 3)))


def test_a_buffer_is_read_from_where_torch_keeps_it() -> None:
    wanted, found = (LRP()(Scaled(plain).double().eval(), photos(2)).heatmaps for plain in (True, False))
    torch.testing.assert_close(found, wanted)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class OddLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.odd, self.head = nn.Conv2d(3, 4, 1).double(), Odd(), nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.odd(self.stem(x)).mean((2, 3)))


def test_a_layer_without_a_rule_is_named_and_can_be_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = OddLayer(), photos(2)
    with pytest.raises(ModelError, match=r"no rule for the function 'cumsum'.*in odd.*of OddLayer. Write one"):
        LRP()(network, images)
    with pytest.raises(ModelError, match=r"no rule for layer '1' \(LocalResponseNorm\)"):
        LRP()(
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.LocalResponseNorm(2), nn.Flatten(), nn.Linear(400, 2)).double(), images
        )

    def mine(layer: Any, inputs: Any, relevance: Tensor) -> Tensor:
        assert isinstance(layer.module, Odd)
        return relevance

    monkeypatch.setitem(COMPOSITES, "mine", lambda stabilizer: (((Odd,), mine), *paper(stabilizer)))
    found = LRP(composite="mine")(network, images)
    assert found.heatmaps.shape == (2, 10, 10)
    torch.testing.assert_close(found.logits, network(images))


class Product(nn.Module):
    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.gate = nn.Conv2d(3, 4, 1).double(), nn.Conv2d(3, 4, 1).double(), gate
        self.head = nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.gate(self.two(x)) * self.one(x)).mean((2, 3)))


def test_a_gate_takes_nothing() -> None:
    images = photos(2)
    for gate in (torch.sigmoid, F.hardsigmoid, lambda x: F.relu6(x + 3) / 6, lambda x: x.amax((2, 3), keepdim=True)):
        network = Product(gate)
        with pytest.raises(LayerError, match="no relevance reaches"):
            LRP(layer="two")(network, images)
        assert LRP(layer="one")(network, images).heatmaps.shape == (2, 10, 10)
    with pytest.raises(LayerError, match="multiplies two signals of shape"):
        LRP()(Product(nn.Identity()), images)


def test_batch_norm_alone_is_a_layer_of_its_own() -> None:
    """BN -> ReLU -> linear: relevance passes a channel where its scaled input is positive, and is lost to the shift."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2, bias=False)).double().eval()
    nn.init.constant_(network.get_parameter("0.bias"), 10.0)
    network.get_parameter("0.weight").data[1] = -1.0
    images = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    explain = partial(LRP, stabilizer=1e-12)
    passed = explain(batch_norm="pass")(network, images)
    folded = explain()(network, images)
    channels = passed_channels(network, images, passed.targets)
    torch.testing.assert_close(passed.heatmaps, channels.sum(1))
    torch.testing.assert_close(folded.heatmaps, channels[:, [0, 2]].sum(1))


def passed_channels(network: Any, images: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        x = network[1](network[0](images))
        return x * network[3].weight[targets].view_as(x)


def test_batch_norm_of_the_batch_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), nn.Flatten())
    network = nn.Sequential(network, nn.Linear(400, 2)).double().eval()
    with pytest.raises(ModelError, match="without running statistics mixes the images"):
        LRP()(network, photos(2))


def test_z_box_needs_the_range_of_the_pixels() -> None:
    model, images = small(), photos(1)
    assert LRP(composite="epsilon_gamma_box")(model, images).heatmaps.isfinite().all()
    with pytest.raises(LayerError, match="put the network into a Classifier"):
        LRP(composite="epsilon_gamma_box")(model.network, images)


def test_the_model_is_left_alone_in_the_middle_of_a_failure() -> None:
    model = small()
    model.network.relu = nn.LocalResponseNorm(2)
    model.train()
    norm, pool = (model.network.get_submodule(name) for name in ("norm", "pool"))
    pool.eval()
    state = copy.deepcopy(model.state_dict())
    attributes = [set(vars(module)) for module in model.modules()]
    with pytest.raises(ModelError, match="no rule"):
        LRP()(model, photos(1))
    assert norm.training
    assert not pool.training
    assert attributes == [set(vars(module)) for module in model.modules()]
    torch.testing.assert_close(model.state_dict(), state)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "frozen"])
def test_in_every_mode(mode: str) -> None:
    model, images = small(), photos(2)
    wanted = LRP()(model, images)
    if mode == "frozen":
        model.requires_grad_(False)
        found = LRP()(model, images.requires_grad_(), create_graph=True)
        (gradient,) = torch.autograd.grad(found.heatmaps.square().sum(), images)
        assert gradient.abs().sum() > 0
    else:
        with getattr(torch, mode)():
            found = LRP()(model, images.clone())
    torch.testing.assert_close(found.heatmaps.detach(), wanted.heatmaps)


def test_memory_formats_and_half_precision() -> None:
    model, images = small(dtype=torch.float32), photos(2, dtype=torch.float32)
    wanted = LRP()(model, images)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    found = LRP()(last, images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = LRP()(model, images, wanted.targets)
    assert half.heatmaps.dtype == torch.float32
    error = (half.heatmaps - wanted.heatmaps).norm() / wanted.heatmaps.norm()
    assert error < 0.05
    half = LRP()(copy.deepcopy(model).bfloat16(), images.bfloat16(), wanted.targets)
    assert (half.heatmaps - wanted.heatmaps).norm() / wanted.heatmaps.norm() < 0.1


def test_split_concat_and_shuffle_put_relevance_where_it_belongs() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 2, bias=False).double()

        def forward(self, x: Tensor) -> Tensor:
            one, two = x.chunk(2, 1)
            three, four = torch.split(two, [1, 1], dim=1)
            x = torch.cat([four, one.flip(-1), three.transpose(2, 3)], dim=1)
            b, c, h, w = x.size()
            x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
            return self.head(x.flatten(1))

    network = Shuffled()
    images = torch.rand(2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    logits = network(images)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), images)
    found = LRP(stabilizer=1e-14)(network, images.detach())
    torch.testing.assert_close(found.heatmaps, (images * gradient).detach().sum(1))


def test_rules_may_be_read_one_by_one() -> None:
    assert rules.z_plus.__doc__ is not None
    assert all(make.__doc__ for make in COMPOSITES.values())


def test_where_lrp_can_neither_start_nor_stop() -> None:
    model, images = small(), photos(2)
    model.network.spare = nn.Conv2d(3, 3, 1).double()
    with pytest.raises(LayerError, match="layer 'spare' is not reached by the forward pass of Residual"):
        LRP(layer="spare")(model, images)
    ended = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)).double().eval()
    with pytest.raises(ModelError, match="LRP starts at logits, and Sequential puts out probabilities"):
        LRP()(Classifier(ended, input_size=10, probabilities=True), images)
