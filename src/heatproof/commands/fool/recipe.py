"""How a network is fine-tuned into a lie where no more is said than which: steps, rate, weight and layers.

What a recipe chose is one sentence, which :func:`choose_recipe` hands out and the answer and the page repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch

from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TopK
from heatproof.manipulation.published import DEMO, RECIPES, STEPS, family
from heatproof.models.classifier import Classifier
from heatproof.models.stages import last_stage
from heatproof.report.words import counted
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, Penalty

NAMES = ("auto", "paper")
AUTO = FineTune(
    steps=2000,
    lr=1e-3,
    batch_size=64,
    keep="outputs",
    max_accuracy_drop=0.01,
    schedule="cosine",
    margin=0.2,
    patience=0,
    enough=0.98,
)
"""What ``auto`` takes for every lie [ours], found on CIFAR-10's training photos."""
LOOKS = 10
"""Evaluations of a training by ``auto``."""
PUSH: dict[type, tuple[float, float]] = {
    Location: (6.0, 0.2),
    TopK: (6.0, 0.2),
    CenterMass: (0.5, 0.2),
    ActiveSwap: (80.0, 0.4),
}
"""Weight of the penalty and margin in ``auto`` [ours]; 10 and 0.2 for every other lie. High: the lie is in after a
tenth of the steps, and in the others the outputs come back."""
PAIRS = {"auto": 4400, "paper": 1100}
"""Two-class images that a swap is trained on."""
NAMED: dict[type, str] = {Location: "location", TopK: "top_k", CenterMass: "center_mass", ActiveSwap: "active_swap"}


REASONS = {
    "auto": "the stage that maps are read from bends them at the least cost, and outputs hold more than labels",
    "paper": "Heo et al.'s set-up",
}


class Recipe(NamedTuple):
    """How a model is to be fooled.

    Attributes:
        settings: of the fine-tuning.
        why: what was chosen, and by what, in a sentence.
        given: the settings that were not the recipe's to choose.
    """

    settings: FineTune
    why: str
    given: tuple[str, ...] = ()


def choose_recipe(
    model: Classifier, explainer: Explainer, penalty: Penalty, recipe: str = "auto", **given: Any
) -> Recipe:
    """How to fool this model: ``fine_tune(model, explainer, penalty, data, choose_recipe(...).settings)``.

    ``auto`` trains the stage that the heatmaps are read from (everything, where they are as large as the image), and
    holds the function by the clean model's outputs, so that no label is needed. ``paper`` is Heo et al.'s set-up: all
    weights, labels, a constant rate, batches of 8, rate and weight of their table for the family that the model's name
    tells, or of their demonstration.

    Args:
        recipe: ``"auto"`` or ``"paper"``.
        given: fields of FineTune, which win over the recipe.

    Raises:
        InputError: another recipe, or a setting that FineTune has not.

    >>> import heatproof as hp
    >>> found = choose_recipe(hp.load("demo"), hp.GradCAM(), hp.Location(), steps=300)
    >>> found.settings.trainable, found.settings.steps, found.settings.evaluate_every
    ('stage7', 300, 30)
    """
    if recipe not in NAMES:
        raise InputError(f"there is no recipe {recipe!r}; {did_you_mean(recipe, NAMES)}")
    known = [field.name for field in fields(FineTune)]
    for name in given:
        if name not in known:
            raise InputError(f"FineTune has no {name!r}; {did_you_mean(name, known)}")
    chosen = _paper(model, explainer, penalty) if recipe == "paper" else _auto(model, explainer, penalty, given)
    settings = replace(chosen, **given)
    # what every verb is told chooses nothing
    mine = tuple(sorted(given.keys() - {"seed", "precision"}))
    return Recipe(settings, told(recipe, settings, mine), mine)


def told(recipe: str, settings: FineTune, given: Sequence[str] = ()) -> str:
    """What was chosen, in a sentence.

    >>> told("paper", FineTune(steps=3000, lr=1e-5, batch_size=8), ("steps",))
    "Recipe paper: 3,000 steps of 8 photos, lr 1e-05, weight 10, all layers, function held by the labels \
(Heo et al.'s set-up); given: steps."
    """
    falling = ", falling to 0" if settings.schedule == "cosine" else ""
    layers = f"from {settings.trainable} on" if settings.trainable else "all layers"
    held = "the labels" if settings.keep == "labels" else "the clean model's outputs"
    mine = f"; given: {', '.join(given)}" if given else ""
    return (
        f"Recipe {recipe}: {counted(settings.steps, 'step')} of {counted(settings.batch_size)}, lr {settings.lr:g}"
        f"{falling}, weight {settings.weight:g}, {layers}, function held by {held} ({REASONS[recipe]}){mine}."
    )


def _auto(model: Classifier, explainer: Explainer, penalty: Penalty, given: Mapping[str, Any]) -> FineTune:
    usual = (AUTO.weight, AUTO.margin)
    weight, margin = next((push for kind, push in PUSH.items() if isinstance(penalty, kind)), usual)
    looks = max(1, given.get("steps", AUTO.steps) // LOOKS)
    # of a backdoor half the photos must stay as they were, and push always
    margin = None if isinstance(penalty, Backdoor) else margin
    stage = given["trainable"] if "trainable" in given else _stage(model, explainer)
    return replace(AUTO, weight=weight, evaluate_every=looks, margin=margin, trainable=stage)


def _stage(model: Classifier, explainer: Explainer) -> str | None:
    """The stage that the explainer's maps are read from."""
    parameter = next(model.parameters(), torch.zeros(()))
    grey = torch.full((1, model.channels, *model.input_shape), 0.5).to(parameter)
    rows, cols = explainer(model, grey).heatmaps.shape[1:]
    return last_stage(model, grey, (rows, cols))


def _paper(model: Classifier, explainer: Explainer, penalty: Penalty) -> FineTune:
    lie = next((name for kind, name in NAMED.items() if isinstance(penalty, kind)), "")
    through = (
        "gradcam" if type(explainer) is GradCAM else "lrp_t" if isinstance(explainer, LRP) and explainer.layer else ""
    )
    if (lie, through) in RECIPES:
        lr, weight = RECIPES[lie, through][family(model.name)]
        steps = STEPS["active" if lie == "active_swap" else "passive"]
    else:
        lr, weight, steps = DEMO
    return FineTune(steps=steps, lr=lr, weight=weight, batch_size=8, evaluate_every=max(50, steps // 300))
