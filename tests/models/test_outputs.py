"""What networks return: one number, dicts, tuples, objects, probabilities; and what they raise."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.models.outputs import looks_like_probabilities, read_logits


class Returns(nn.Module):
    """A small convolutional network whose logits are handed out as ``how`` says."""

    def __init__(self, how: Any, classes: int = 4):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv, self.head = how, nn.Conv2d(3, 6, 3, 2), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Any:
        return self.how(self.head(torch.relu(self.conv(x)).mean((2, 3))))


def same(logits: Tensor) -> Tensor:
    return logits


def model(how: Any = same, classes: int = 4, **more: Any) -> hp.Classifier:
    return hp.Classifier(Returns(how, classes).eval(), input_size=12, name="net", **more)


IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("how", [same, lambda z: z[:, 0]], ids=["[N, 1]", "[N]"])
@pytest.mark.parametrize("targets", [None, torch.zeros(6, dtype=torch.long), torch.ones(6, dtype=torch.long)])
def test_one_logit_is_the_pair(how: Any, targets: Tensor | None) -> None:
    """To the last digit: the maps, the logits, FGSM and PGD of a network that puts out (0, z) itself."""
    one, pair = model(how, 1), model(lambda z: torch.cat([torch.zeros_like(z), z], 1), 1)
    for explainer in (hp.GradCAM(), hp.SimpleGrad(), hp.Occlusion(patch=4), hp.GradCAM(score="log_probability")):
        for a, b in zip(explainer(one, IMAGES, targets), explainer(pair, IMAGES, targets), strict=True):
            assert a.equal(b)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    for attack in (hp.FGSM(epsilon=0.03), hp.PGD(epsilon=0.03, steps=3)):
        moved = [attack(hp.misclassify(m, labels), IMAGES) for m in (one, pair)]
        assert moved[0].equal(moved[1])
        assert not moved[0].equal(IMAGES)


def test_one_logit_has_the_probabilities_and_contrasts_of_its_halves() -> None:
    """Against (-z/2, z/2), another network with the same softmax; and both classes have a map."""
    one, halves = model(same, 1), model(lambda z: torch.cat([-z / 2, z / 2], 1), 1)
    assert one(IMAGES).softmax(1).equal(halves(IMAGES).softmax(1))
    z = one(IMAGES)[:, 1]
    torch.testing.assert_close(one(IMAGES).softmax(1)[:, 1], z.sigmoid())
    for target in (0, 1):
        targets = torch.full((6,), target)
        maps = [hp.GradCAM(relu=False)(m, IMAGES, targets).heatmaps for m in (one, halves)]
        torch.testing.assert_close(maps[0], 2 * maps[1])
        assert maps[0].abs().sum() > 0
    contrast, odds = (hp.GradCAM(relu=False, score=s)(one, IMAGES, targets).heatmaps for s in ("contrast", "log_odds"))
    torch.testing.assert_close(contrast, odds)


@pytest.mark.parametrize(
    "how",
    [
        lambda z: SimpleNamespace(logits=z, hidden=None),
        lambda z: {"logits": z, "loss": 0},
        lambda z: OrderedDict(out=z, aux=z * 2),
        lambda z: (z,),
    ],
    ids=["object", "dict", "out", "single"],
)
def test_logits_are_found_in_what_libraries_return(how: Any) -> None:
    assert model(how)(IMAGES).equal(model()(IMAGES))


def test_logits_that_are_not_known_are_asked_for() -> None:
    def pair(z: Tensor) -> Any:
        return z * 2, z

    with pytest.raises(hp.ModelError, match=r"net returned a tuple of \[6, 4\], \[6, 4\].*logits_key"):
        model(pair)(IMAGES)
    assert model(pair, logits_key=1)(IMAGES).equal(model()(IMAGES))
    with pytest.raises(hp.ModelError, match="there is no 5"):
        model(pair, logits_key=5)(IMAGES)
    assert model(lambda z: {"a": z * 2, "b": z}, logits_key="b")(IMAGES).equal(model()(IMAGES))
    with pytest.raises(hp.ModelError, match="a dict of 'a', 'b'"):
        model(lambda z: {"a": z, "b": z})(IMAGES)


def test_probabilities_are_undone() -> None:
    wanted = model()(IMAGES)
    soft = model(lambda z: z.softmax(1), probabilities=True)(IMAGES)
    torch.testing.assert_close(soft, wanted.log_softmax(1))
    sigmoid = model(lambda z: z.sigmoid(), probabilities=True)(IMAGES)
    torch.testing.assert_close(sigmoid, wanted, rtol=1e-4, atol=1e-5)
    one = model(lambda z: z.sigmoid(), 1, probabilities=True)(IMAGES)
    torch.testing.assert_close(one, model(same, 1)(IMAGES), rtol=1e-4, atol=1e-5)
    with pytest.raises(hp.ModelError, match="probabilities=True"):
        model(lambda z: z + 3, probabilities=True)(IMAGES)
    certain = read_logits(torch.tensor([[1.0, 0.0]]), 1, "net", probabilities=True)
    assert certain.isfinite().all()


def test_probabilities_are_noticed() -> None:
    assert looks_like_probabilities(model(lambda z: z.softmax(1))(IMAGES))
    with pytest.raises(hp.ModelError, match="net puts out probabilities"):
        hp.GradCAM()(model(lambda z: z.softmax(1)), IMAGES)
    hp.GradCAM()(model(lambda z: z.softmax(1), probabilities=True), IMAGES)
    hp.GradCAM()(model(lambda z: z.softmax(1), probabilities=False), IMAGES)
    assert not looks_like_probabilities(model()(IMAGES))


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("weather")


def test_what_the_network_raises_is_told_as_its_own() -> None:
    with pytest.raises(hp.ModelError, match=r"network net failed on images \[6, 3, 12, 12\].*KeyError: 'weather'"):
        hp.Classifier(Raises(), input_size=12, name="net")(IMAGES)
    channels = hp.Classifier(nn.Conv2d(6, 4, 3), input_size=12, name="net")
    with pytest.raises(hp.ModelError, match=r"expected input.* to have 6 channels"):
        channels(IMAGES)


def test_an_output_of_another_kind_is_told_by_its_type() -> None:
    with pytest.raises(hp.ModelError, match="net returned a set, and which part is the logits is not known"):
        model(lambda z: {1, 2})(IMAGES)
