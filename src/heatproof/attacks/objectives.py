"""What an attack raises: one value per image, up is success, and when it counts as reached.

A :class:`Goal` is an objective that also says so. Goals add (``reach(a, cat) + 0.5 * reach(b, cat)`` attacks two
models at once). Any other function ``images -> [batch]`` is an objective too; it is never "reached".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.classifier import class_numbers, resolve_targets
from heatproof.models.intact import evaluating
from heatproof.models.layers import at_named_layer
from heatproof.models.smooth import smooth
from heatproof.types import Classes, Explainer, Heatmaps, Images, Logits, Objective, Penalty, PerImage, Targets, redrawn


class Look(NamedTuple):
    """An objective at some images."""

    value: PerImage
    """What is raised; it has the graph that leads to the pixels."""
    reached: Bool[Tensor, "batch"]
    """Whether the attack has got there."""
    allowed: Bool[Tensor, "batch"]
    """Whether the image may be handed out at all (the predicted class stays)."""


@dataclass(frozen=True)
class Goal:
    """An objective that knows when it is reached; made by :func:`misclassify` and others.

    Args:
        look: value, reached and allowed, from one forward pass.
        start: binds the goal to the clean images (a reference heatmap, the class to keep); ``None``: needs nothing.
        climb: ``(images, share of the steps done) -> value`` whose gradient an attack follows where it is not that of
            ``look`` (a softened copy of the model).
        hint: what to do where the gradient is zero in every image.
        of_logits: the value from the model's logits, where it is a function of these alone.
        model, labels, targeted: what an attack of another library needs to know.
        holds, leaves: the models whose clean prediction an image must keep, and must lose. No image does both, so that
            such goals do not add.
    """

    look: Callable[[Images], Look]
    start: Callable[[Images], "Goal"] | None = None
    climb: Callable[[Images, float], PerImage] | None = None
    hint: str = ""
    of_logits: Callable[[Logits], Look] | None = None
    model: nn.Module | None = None
    labels: Targets | Int[Tensor, ""] | None = None
    targeted: bool = False
    holds: tuple[nn.Module, ...] = ()
    leaves: tuple[nn.Module, ...] = ()

    def __call__(self, images: Images) -> PerImage:
        """The value; a goal that was not started takes these images for the clean ones."""
        return begin(self, images).look(images).value

    def __add__(self, other: "Goal") -> "Goal":
        """Values add; reached and allowed where both are.

        Raises:
            InputError: one goal holds the predicted class of a model, and the other changes it.
        """
        if not isinstance(other, Goal):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        _check_together(self, other)

        def look(images: Images) -> Look:
            a, b = self.look(images), other.look(images)
            return Look(a.value + b.value, a.reached & b.reached, a.allowed & b.allowed)

        def start(images: Images) -> Goal:
            return begin(self, images) + begin(other, images)

        def climb(images: Images, done: float) -> PerImage:
            return _climbed(self, images, done) + _climbed(other, images, done)

        return Goal(
            look,
            start if self.start or other.start else None,
            climb if self.climb or other.climb else None,
            hint=self.hint or other.hint,
            holds=self.holds + other.holds,
            leaves=self.leaves + other.leaves,
        )

    def __rmul__(self, weight: float) -> "Goal":
        """A multiple of the value."""

        def look(images: Images) -> Look:
            value, reached, allowed = self.look(images)
            return Look(weight * value, reached, allowed)

        return Goal(
            look,
            (lambda images: weight * begin(self, images)) if self.start else None,
            (lambda images, done: weight * _climbed(self, images, done)) if self.climb else None,
            hint=self.hint,
            holds=self.holds,
            leaves=self.leaves,
        )


def begin(objective: Objective, images: Images) -> Goal:
    """The objective as a goal, bound to the clean images."""
    if isinstance(objective, Goal):
        return objective.start(images) if objective.start else objective
    return Goal(partial(_never_reached, objective))


def _never_reached(objective: Objective, images: Images) -> Look:
    value = objective(images)
    return Look(value, torch.zeros_like(value, dtype=torch.bool), torch.ones_like(value, dtype=torch.bool))


def misclassify(model: nn.Module, labels: Classes) -> Goal:
    """Raise the cross-entropy to the true class; reached where the prediction is another.

    **Source** Goodfellow et al. 2015; Madry et al. 2018. **Range** [0, inf), in nats.

    Args:
        labels: a class for each image, or one for all, by number or by the model's name for it.

    Raises:
        InputError: labels that are no class of the model, or of the wrong number.
    """
    numbers = class_numbers(model, labels)

    def of_logits(logits: Logits) -> Look:
        chosen = _classes(logits, numbers, "labels")
        value = F.cross_entropy(logits, chosen, reduction="none")
        return Look(value, logits.argmax(1) != chosen, torch.ones_like(chosen, dtype=torch.bool))

    return Goal(
        lambda images: of_logits(_logits(model, images)),
        of_logits=of_logits,
        model=model,
        labels=numbers,
        leaves=(model,),
    )


def reach(model: nn.Module, wanted: Classes) -> Goal:
    """Lower the cross-entropy to a wanted class; reached where it is predicted. The targeted form of every attack.

    **Range** (-inf, 0], in nats.

    Args:
        wanted: a class for each image, or one for all, by number or by the model's name for it.

    Raises:
        InputError: a wanted class that the model does not have.
    """
    numbers = class_numbers(model, wanted)

    def of_logits(logits: Logits) -> Look:
        chosen = _classes(logits, numbers, "wanted classes")
        value = -F.cross_entropy(logits, chosen, reduction="none")
        return Look(value, logits.argmax(1) == chosen, torch.ones_like(chosen, dtype=torch.bool))

    return Goal(
        lambda images: of_logits(_logits(model, images)),
        of_logits=of_logits,
        model=model,
        labels=numbers,
        targeted=True,
        leaves=(model,),
    )


def lower_score(model: nn.Module, score: Callable[[Logits, Targets], PerImage], targets: Targets | None = None) -> Goal:
    """Lower a score that is no class's: a regression's output, a likeness; reached where it is below the clean one.

    **Range** that of the score, negated.

    Args:
        score: ``score(outputs, targets) -> [batch]``, differentiable.
        targets: the second argument of the score; ``None``: the clean predictions.
    """

    def start(clean: Images) -> Goal:
        outputs = _logits(model, clean).detach()
        chosen = resolve_targets(outputs, targets)
        before = score(outputs, chosen)

        def of_logits(logits: Logits) -> Look:
            value = score(logits, chosen)
            return Look(-value, value < before, torch.ones_like(chosen, dtype=torch.bool))

        return Goal(lambda images: of_logits(_logits(model, images)), of_logits=of_logits, model=model)

    return Goal(lambda images: start(images).look(images), start=start)


def move_heatmap(
    model: nn.Module,
    explainer: Explainer,
    penalty: Penalty,
    *,
    targets: Targets | None = None,
    wanted: Targets | int | None = None,
    hold: float = 1.0,
    betas: tuple[float, float] | None = None,
    through: Explainer | None = None,
    draws: int = 0,
) -> Goal:
    """Move the heatmap as a penalty wants it, while the predicted class stays, or while it becomes a wanted one.

    value = -penalty(h(x), h(clean)) - hold * max(0, strongest other logit - logit of the class held): the second
    part is zero as long as that class is predicted, and pulls towards it elsewhere. An image is allowed where the
    prediction is the class held, and reached where, besides, its penalty is lower than the clean image's.

    The class held is the clean prediction; with ``wanted`` it is that class, and the attack is ADV^2: one perturbation
    that changes the answer *and* shows a map that was planted (``target_map``, ``location``), or the clean one, so that
    nothing is noticed (``same_map``).

    **Source** Ghorbani et al. 2019, algorithm 1 (top-k, center-mass and region are penalties here); Dombrowski et al.
    2019, eq. 5 (the target map) and section 4 (softplus). **Differs** Dombrowski holds all logits in place by their
    squared error; here only the order at the top is held. With ``wanted``: Zhang et al. 2020 ("Interpretable deep
    learning under fire"), eq. 3, whose first part is the cross-entropy.
    **Range** that of the penalty, negated.

    Args:
        targets: the class explained; ``None``: the class held, throughout. The reference is always the clean image's
            map of this class, with ``wanted`` that of its clean prediction.
        wanted: a class for each image, or one for all, that is to be predicted.
        hold: logits to penalty; 0 leaves the class to chance and keeps the best image that is of the class held.
        betas: climb on a softplus copy of the model whose beta grows from the first value to the second over the
            steps (Dombrowski: 10 to 100), and judge on the original. Needed where the map is a gradient of a network
            of ReLUs alone, whose second derivative is zero; Grad-CAM can do without.
        through: climb another explainer's map than is judged: the one inside a defence, for an attacker who does not
            know of the defence. ``None``: the one that is judged.
        draws: for an attacker who knows a noisy defence: climb the mean over so many draws of its noise, fresh in
            every step, and through the surrogate of ranks and votes; judged by the explainer's own draw. 0: climb the
            explainer as it is, noise and all.

    Raises:
        InputError: ``hold``, ``betas`` or ``draws`` that make no sense.
    """
    if hold < 0:
        raise InputError(f"hold must not be negative, got {hold}")
    if draws < 0:
        raise InputError(f"draws of the noise, fresh in every step, must not be negative, got {draws}")
    if betas is not None and not 0 < betas[0] <= betas[1]:
        raise InputError(f"betas grow from a positive number, for example (10, 100); got {betas}")
    explainer = at_named_layer(model, explainer)  # betas climb on a copy
    climbed = explainer if through is None else at_named_layer(model, through)
    holds, leaves = ((model,), ()) if wanted is None else ((), (model,))

    def start(clean: Images) -> Goal:
        # explained once and for all at the clean image; its own graph is not needed
        reference, logits, explained = explainer(model, clean, targets if wanted is None else None)
        reference, held = reference.detach(), logits.detach().argmax(1)
        first, shown = reference, explained
        if wanted is not None:
            held = _classes(logits, wanted, "wanted classes")
            first, _, explained = explainer(model, clean, held if targets is None else targets)
        before = penalty(first.detach(), reference).detach()
        aim = reference if through is None else climbed(model, clean, shown).heatmaps.detach()

        def at(network: nn.Module, images: Images, asked: Explainer = explainer, known: Heatmaps = reference) -> Look:
            heatmaps, logits, _ = asked(network, images, explained, create_graph=torch.is_grad_enabled())
            moved = penalty(heatmaps, known)
            value = -moved
            if hold:
                own = logits.gather(1, held[:, None])[:, 0]
                rival = logits.scatter(1, held[:, None], -torch.inf).amax(1)
                value = value - hold * (rival - own).clamp(min=0)
            allowed = logits.argmax(1) == held
            return Look(value, allowed & (moved < before), allowed)

        def climb(images: Images, done: float) -> PerImage:
            network: nn.Module = model if betas is None else smooth(model, betas[0] * (betas[1] / betas[0]) ** done)
            first = 1 + round(done * 1_000_000) * draws
            drawn = [redrawn(climbed, first + draw) for draw in range(draws)] or [climbed]
            values = [at(network, images, one, aim).value for one in drawn]
            return torch.stack(values).mean(0)

        other = betas is not None or through is not None or draws > 0
        return Goal(
            lambda images: at(model, images), climb=climb if other else None, hint=_FLAT, holds=holds, leaves=leaves
        )

    return Goal(lambda images: start(images).look(images), start=start, hint=_FLAT, holds=holds, leaves=leaves)


_FLAT = (
    "are the maps empty (then explain another class, or without ReLU)? A penalty that is flat at the clean image "
    "(center-mass) needs a random start. A gradient map of a ReLU network has no second derivative: climb on a "
    "softplus copy with move_heatmap(..., betas=(10, 100))"
)


def _check_together(one: Goal, other: Goal) -> None:
    for holding, leaving in ((one, other), (other, one)):
        if any(held is left for held in holding.holds for left in leaving.leaves):
            raise InputError(
                "no image keeps the predicted class, as move_heatmap(...) holds it, and loses it, as misclassify(...) "
                "and reach(...) want: to change the class and the map at once say move_heatmap(..., wanted=CLASS), "
                "alone or beside reach(model, CLASS)"
            )


def _climbed(goal: Goal, images: Images, done: float) -> PerImage:
    return goal.climb(images, done) if goal.climb else goal.look(images).value


def _logits(model: nn.Module, images: Images) -> Logits:
    with evaluating(model):
        return model(images)


def _classes(logits: Logits, classes: Classes, what: str) -> Targets:
    try:
        return resolve_targets(logits, classes)
    except InputError as error:
        raise InputError(str(error).replace("targets", what).replace("one target", "one class")) from error
