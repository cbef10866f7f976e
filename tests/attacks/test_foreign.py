"""Attacks of other libraries, by stand-ins of these: what is handed to them, what is checked, what is put right again.

The libraries themselves are witnesses in ``tests/peers``.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import heatproof as hp
from heatproof.attacks.foreign import Foreign
from heatproof.errors import InputError, SpecError


class Sign:
    """One signed step of torchattacks' manner, which leaves the model in another state."""

    targeted = False

    def __init__(self, model: Any, eps: float, scale: float = 1.0) -> None:
        self.model, self.eps, self.scale = model, eps, scale

    def set_mode_targeted_by_label(self, quiet: bool) -> None:
        self.targeted = True

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        assert not self.model.training
        images = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        assert images.grad is not None
        sign = -1 if self.targeted else 1
        moved = images + sign * self.scale * self.eps * images.grad.sign() * torch.rand(()).ceil()
        return moved.clamp(0, 1)


class Boxed:
    """The same as foolbox would have it: a wrapped model, a criterion and the radii."""

    def __call__(self, model: Any, images: Tensor, criterion: tuple[str, Tensor], epsilons: float) -> tuple[Any, ...]:
        assert model.bounds == (0, 1)
        kind, labels = criterion
        attack = Sign(model.model, epsilons)
        attack.targeted = kind == "reach"
        return None, attack(images, labels), None


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    torchattacks, foolbox, attacks = ModuleType("torchattacks"), ModuleType("foolbox"), ModuleType("foolbox.attacks")
    torchattacks.FGSM = Sign  # type: ignore[attr-defined]
    attacks.FGSM = Boxed  # type: ignore[attr-defined]
    foolbox.criteria = SimpleNamespace(  # type: ignore[attr-defined]
        Misclassification=lambda labels: ("leave", labels), TargetedMisclassification=lambda labels: ("reach", labels)
    )
    foolbox.PyTorchModel = lambda model, bounds, device: SimpleNamespace(model=model, bounds=bounds)  # type: ignore[attr-defined]
    for module in (torchattacks, foolbox, attacks):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["torchattacks.FGSM", "foolbox.FGSM"])
def test_their_step_is_ours_and_the_model_is_as_it_was(name: str, model, images: Tensor, labels: Tensor) -> None:
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    grads = [parameter.grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    for goal in (hp.misclassify(model, labels), hp.reach(model, labels)):
        torch.testing.assert_close(Foreign(name, epsilon=0.01)(goal, images), hp.FGSM(epsilon=0.01)(goal, images))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is grad
        assert bool((grad == 7).all())
    assert torch.equal(Foreign(name, epsilon=0)(hp.misclassify(model, labels), images), images)


@pytest.mark.usefixtures("libraries")
def test_what_leaves_the_ball_is_refused(model, images: Tensor, labels: Tensor) -> None:
    far = Foreign("torchattacks.FGSM", epsilon=0.01, options={"scale": 3.0})  # type: ignore[arg-type]
    assert far.options == (("scale", 3.0),)
    with pytest.raises(InputError, match=r"0\.01"):
        far(hp.misclassify(model, labels), images)


@pytest.mark.usefixtures("libraries")
def test_what_does_not_exist_is_named(model, images: Tensor, labels: Tensor) -> None:
    goal = hp.misclassify(model, labels)
    with pytest.raises(SpecError, match="torchattacks has no attack 'FGSN'; did you mean FGSM"):
        Foreign("torchattacks.FGSN")(goal, images)
    with pytest.raises(SpecError, match=r"NAME or foolbox\.NAME, got 'torchatacks\.FGSM'; did you mean torchattacks"):
        Foreign("torchatacks.FGSM")(goal, images)
    with pytest.raises(InputError, match=r"its objective must be misclassify\(model, labels\)"):
        Foreign("torchattacks.FGSM")(lambda images: images.sum((1, 2, 3)), images)


def test_a_library_that_is_not_installed_is_named(model, images, labels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(SpecError, match="foolbox is not installed; pip install foolbox"):
        Foreign("foolbox.FGSM")(hp.misclassify(model, labels), images)
