"""An attack of torchattacks or foolbox in the place of one of ours."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from heatproof.attacks.balls import Norm, check_epsilon, check_inside
from heatproof.attacks.objectives import Goal
from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.models.intact import evaluating
from heatproof.types import Images, Objective, Targets, settings


@settings
class Foreign:
    """An attack of another library: ``Foreign("torchattacks.PGD", epsilon=8/255, options=(("steps", 10),))``.

    These attacks know a model and labels instead of an objective, so the objective must be that of ``misclassify`` or
    ``reach`` (then the attack is targeted). What they return is checked: shape, finite, [0, 1], inside the ball.
    Where a class of torchattacks asks for the norm, the number of classes or a seed (``torchattacks.AutoAttack``, whose
    seed is the clock otherwise), it is told ours, unless ``options`` say.

    **Differs** from our own attacks: what is random in them may depend on the batch; equal calls give equal images.

    Args:
        name: ``torchattacks.NAME`` or ``foolbox.NAME`` (of ``foolbox.attacks``).
        epsilon: the ball's radius in pixel units of [0, 1].
        norm: of the ball.
        options: further arguments of that class, as pairs ``(name, value)`` or a dict.
        seed: of its random numbers.

    Raises:
        SpecError: a library or an attack that does not exist, or is not installed.
        InputError: an objective without model and labels, one that asks for a targeted form that the attack has not,
            or a result outside the ball.
    """

    name: str
    epsilon: float = 8 / 255
    norm: Norm = "linf"
    options: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon, self.norm)
        if isinstance(self.options, Mapping):
            object.__setattr__(self, "options", tuple(self.options.items()))

    def __call__(self, objective: Objective, images: Images) -> Images:
        if not isinstance(objective, Goal) or objective.model is None or objective.labels is None:
            raise InputError(
                f"{self.name} needs a model and labels: its objective must be misclassify(model, labels) or "
                "reach(model, wanted)"
            )
        clean = images.detach()
        if self.epsilon == 0:
            return clean.clone()
        labels = objective.labels.to(clean.device).long().expand(len(clean)).clone()
        library, _, attack = self.name.partition(".")
        run = {"torchattacks": self._torchattacks, "foolbox": self._foolbox}.get(library)
        if run is None:
            raise SpecError(
                f"a foreign attack is called torchattacks.NAME or foolbox.NAME, got {self.name!r}; "
                f"{did_you_mean(library, ['torchattacks', 'foolbox'])}"
            )
        # both draw from torch's global generator
        devices = [clean.device] if clean.device.type == "cuda" else []
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            with _intact(objective.model), evaluating(objective.model):
                found = run(attack, objective.model, clean, labels, objective.targeted).detach()
        check_inside(found, clean, self.epsilon, self.norm)
        return found

    def _torchattacks(self, name: str, model: nn.Module, images: Images, labels: Targets, targeted: bool) -> Images:
        kind = _class("torchattacks", "torchattacks", name)
        attack = kind(model, eps=self.epsilon, **(self._told(kind, model, images) | dict(self.options)))
        if targeted:
            try:
                attack.set_mode_targeted_by_label(quiet=True)
            except ValueError as error:
                raise InputError(
                    f"{self.name} has no targeted form ({error}); raise misclassify(model, labels)"
                ) from error
        return attack(images, labels)

    def _told(self, kind: type, model: nn.Module, images: Images) -> dict[str, Any]:
        """What the class asks for of the things that are known here."""
        asked = inspect.signature(kind).parameters
        told: dict[str, Any] = {"norm": {"linf": "Linf", "l2": "L2"}[self.norm], "seed": self.seed}
        if "n_classes" in asked:
            with torch.no_grad():
                told["n_classes"] = model(images[:1]).shape[1]
        return {name: value for name, value in told.items() if name in asked}

    def _foolbox(self, name: str, model: nn.Module, images: Images, labels: Targets, targeted: bool) -> Images:
        foolbox = _library("foolbox")
        attack = _class("foolbox.attacks", "foolbox", name)(**dict(self.options))
        judged = foolbox.criteria.TargetedMisclassification if targeted else foolbox.criteria.Misclassification
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        # its last iterate inside the ball, whether it succeeded or not
        return attack(wrapped, images, judged(labels), epsilons=self.epsilon)[1]


class _intact:
    """What these libraries leave changed: gradients and the flags that say which weights have one."""

    def __init__(self, model: nn.Module):
        self.before = [(p, p.requires_grad, p.grad) for p in model.parameters()]

    def __enter__(self) -> None:
        # a backward pass would add to the gradients that are there, in place
        for parameter, _, _ in self.before:
            parameter.grad = None

    def __exit__(self, *raised: object) -> None:
        for parameter, flag, grad in self.before:
            parameter.requires_grad_(flag)
            parameter.grad = grad


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise SpecError(f"{package} is not installed; pip install {package}") from error


def _class(module: str, library: str, name: str) -> Any:
    found = _library(module)
    known = [entry for entry in dir(found) if isinstance(getattr(found, entry), type)]
    if name not in known:
        raise SpecError(f"{library} has no attack {name!r}; {did_you_mean(name, known)}")
    return getattr(found, name)
