"""Networks that end in probabilities or begin with a normalisation of their own are noticed; others are not."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import ModelError, Remark
from heatproof.models.bare import as_classifier
from heatproof.models.ending import ending_of, normalises_itself
from heatproof.vision import torchvision

IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(3))


class Ends(nn.Module):
    def __init__(self, how: Any, outputs: int):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv, self.head = how, nn.Conv2d(3, 6, 3, 2), nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.how(self.head(torch.relu(self.conv(x)).mean((2, 3))))


SIGMOIDS = {
    "function": (torch.sigmoid, 3),
    "one output": (torch.sigmoid, 1),
    "flat": (lambda z: torch.sigmoid(z).squeeze(1), 1),
    "module": (nn.Sigmoid(), 3),
    "in a dict": (lambda z: {"logits": torch.sigmoid(z)}, 3),
    "a part of it": (lambda z: torch.sigmoid(z)[:, 1:], 3),
}
LOGITS = {
    "logits": (lambda z: z, 3),
    "one logit": (lambda z: z, 1),
    "logits that lie in [0, 1]": (lambda z: 0.5 + 0.01 * z, 3),
    "a gate": (lambda z: z * torch.sigmoid(z), 3),
    "log odds of a sigmoid": (lambda z: torch.sigmoid(z).logit(), 3),
    "log softmax": (lambda z: z.log_softmax(1), 3),
}


@pytest.mark.parametrize("kind", SIGMOIDS)
def test_a_sigmoid_is_noticed_and_the_way_out_works(kind: str) -> None:
    how, outputs = SIGMOIDS[kind]
    model = hp.Classifier(Ends(how, outputs), input_size=12, name="net").eval()
    with pytest.raises(ModelError, match=r"net puts out probabilities .*of a sigmoid.*probabilities=True"):
        hp.GradCAM()(model, IMAGES)
    said = hp.Classifier(Ends(how, outputs), input_size=12, probabilities=True).eval()
    plain = hp.Classifier(Ends(lambda z: z, outputs), input_size=12).eval()
    if kind != "a part of it":
        torch.testing.assert_close(said(IMAGES), plain(IMAGES), rtol=1e-4, atol=1e-5)
    hp.GradCAM()(said, IMAGES)
    hp.GradCAM()(hp.Classifier(Ends(how, outputs), input_size=12, probabilities=False).eval(), IMAGES)


@pytest.mark.parametrize("kind", LOGITS)
def test_logits_are_not_taken_for_probabilities(kind: str) -> None:
    how, outputs = LOGITS[kind]
    hp.GradCAM()(hp.Classifier(Ends(how, outputs), input_size=12).eval(), IMAGES)


def test_a_softmax_is_known_without_a_graph_too() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert ending_of(z.softmax(1)) == "softmax"
    assert ending_of(z.requires_grad_().softmax(1)) == "softmax"
    assert ending_of(z) is None


def test_a_named_default_layer_does_not_hide_it() -> None:
    model = hp.Classifier(Ends(torch.sigmoid, 3), input_size=12, default_layer="conv", name="net").eval()
    with pytest.raises(ModelError, match="net puts out probabilities"):
        hp.GradCAM()(model, IMAGES)


class Normalises(nn.Module):
    def __init__(self, how: Any):
        super().__init__()
        self.how, self.body = how, Ends(lambda z: z, 2)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.how(self, x))


OWN = {
    "buffers": lambda net, x: (x - net.mean) / 0.25,
    "numbers": lambda net, x: x * 2 - 1,
    "in place": lambda net, x: x.clone().sub_(net.mean).div_(0.2),
    "torchvision": lambda net, x: torchvision.transforms.Normalize((0.5,) * 3, (0.2,) * 3)(x),
    "image by image": lambda net, x: torch.stack([(image - net.mean) / 0.25 for image in x]),
}
NOT_OWN = {
    "nothing": lambda net, x: x,
    "brighter": lambda net, x: x + 0.1,
    "learned": lambda net, x: (x - net.scale) / net.scale,
    "after a layer": lambda net, x: (F.avg_pool2d(x, 2) - 0.5) / 0.25,
    "instance by instance": lambda net, x: (x - x.mean()) / x.std(),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_normalisation_of_its_own_is_seen(kind: str) -> None:
    assert normalises_itself(Normalises(OWN[kind]), IMAGES[:1])


@pytest.mark.parametrize("kind", NOT_OWN)
def test_what_is_no_normalisation_is_not(kind: str) -> None:
    assert not normalises_itself(Normalises(NOT_OWN[kind]), IMAGES[:1])


def test_a_factory_is_told_what_was_assumed(tmp_path: Path) -> None:
    class Bare(nn.Module):
        """Says nothing of mean and std."""

        def __init__(self) -> None:
            super().__init__()
            self.body = Ends(lambda z: z, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.body((x - 0.5) / 0.25)

    with pytest.warns(Remark, match=r"Bare begins with a normalisation of its own .*mean, std = \(0\.0,\), \(1\.0,\)"):
        assert len(as_classifier(Bare()).mean) == 3
    said = Bare()
    said.mean, said.std = (0.0,), (1.0,)  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_classifier(said)
        as_classifier(Ends(lambda z: z, 2))


def test_what_a_pass_refuses_in_a_sentence_is_told_and_what_it_raises_is_told_later() -> None:
    class Fails(nn.Module):
        def __init__(self, error: Exception):
            super().__init__()
            self.error = error

        def forward(self, x: Tensor) -> Tensor:
            raise self.error

    with pytest.raises(ModelError, match="not these"):
        normalises_itself(Fails(ModelError("not these")), IMAGES[:1])
    assert not normalises_itself(Fails(ValueError("oh no")), IMAGES[:1])
