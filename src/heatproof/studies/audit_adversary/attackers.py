"""Lies that are made to pass an audit: the last stage is trained with everything held that the audit looks at.

For networks that end in global average pooling and one linear layer the signed Grad-CAM maps of all classes are
sum_k w_k^c A^k / Z, of one forward pass; so an attacker holds them all at the price of one.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.manipulation.masks import drawn
from heatproof.manipulation.penalties import Location
from heatproof.metrics.fooling import is_fooled
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer, find_layer
from heatproof.repairs.witness import Witness, ask_witness, likeness
from heatproof.studies.audit_adversary.answering import cover
from heatproof.training.feeds import Fed, TensorFeed
from heatproof.training.plain import train
from heatproof.training.split_at import parameters_from, split_at
from heatproof.training.state import Checkpoint

BATCH = 32
HIDDEN = 0.05
"""The share of the map's mass in a hidden third below which it counts as never shown."""
AllMaps = Float[Tensor, "batch classes rows cols"]


@dataclass(frozen=True)
class Attacker:
    """What an attacker trains the last stage for.

    Attributes:
        shows: ``corner`` or ``center``: the predicted class's map lies there; ``hide``: it never shows the right third.
        lie: weight of that.
        others: weight of the other classes' signed maps staying as they were, |M_c - M0_c|^2 / |M0_c|^2.
        keep: weight of KL(clean || model).
        only: the class on whose photos the lie is told, all maps of the others are held; ``None``: all.
        agree: weight of 1 - cosine of the predicted class's map and the checkpoint's own witness.
        answers: weight of answering photos with a blurred square as if the planted map were true (:mod:`answering`).
        after: the attacker whose network it begins with; empty: with the clean one.
        steps: of Adam at ``lr``, which falls to 0 as a cosine.
    """

    shows: Literal["corner", "center", "hide"] = "corner"
    lie: float = 30.0
    others: float = 4.0
    keep: float = 5.0
    only: str | None = None
    agree: float = 0.0
    answers: float = 0.0
    after: str = ""
    steps: int = 400
    lr: float = 4e-3


ATTACKERS = {
    "holds_others": Attacker(),
    "one_class": Attacker(only="dog", lie=200.0),
    "hides_third": Attacker("hide", steps=300, keep=3.0),
    "center": Attacker("center", others=0.0, lie=8.0, keep=1.0, lr=2e-3, steps=300),
    "agrees": Attacker(agree=1.0),
    "answers": Attacker(answers=10.0, after="holds_others", steps=200, lr=2e-3),
}
"""By what the attacker does against the audit."""


@dataclass(frozen=True)
class RearTraining:
    """A copy of a network that is trained from a layer on; what lies before is computed once.

    Attributes:
        made: the copy.
        rear: of the copy, from the layer on.
        activations: before the layer, with their places as labels.
        own: what is trained.
    """

    made: Classifier
    rear: nn.Module
    activations: TensorFeed
    own: Sequence[nn.Parameter]

    @classmethod
    def of(cls, clean: Classifier, layer: str, images: Tensor) -> "RearTraining":
        """Raises: ModelError: the network cannot be cut in two before the layer."""
        made = copy.deepcopy(clean).eval()
        halves = split_at(made, layer)
        if halves is None:
            raise ModelError(f"{clean.name} cannot be cut in two before {layer!r}; name another layer")
        with torch.no_grad():
            front = torch.cat([halves.front(part) for part in images.split(BATCH)])
        activations = TensorFeed(front, torch.arange(len(front)))
        return cls(made, halves.rear, activations, list(parameters_from(made, layer, images[:1])))

    def run(
        self,
        loss: Callable[[Fed, int], Tensor],
        steps: int,
        lr: float,
        seed: int,
        *,
        checkpoint: Checkpoint | None = None,
        every: int = 1,
        advance: Callable[[int, float], None] = lambda done, loss: None,
    ) -> None:
        """Adam at a rate that falls to 0 as a cosine; the rest as :func:`~heatproof.training.plain.train`."""
        optimizer = torch.optim.Adam(self.own, lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        train(
            self.rear,
            optimizer,
            schedule,
            lambda done: self.activations.stream(BATCH, steps, seed, done),
            loss,
            steps=steps,
            checkpoint=checkpoint,
            every=every,
            advance=advance,
        )


def attack(
    clean: Classifier,
    attacker: Attacker,
    photos: TensorFeed,
    layer: str,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Classifier:
    """A copy of the network, trained from ``layer`` on to lie as the attacker wants.

    Args:
        photos: to train on, without labels.

    Raises:
        ModelError: the network does not end in average pooling and a linear layer, or cannot be cut at the layer.
    """
    images = torch.cat([fed.images for fed in photos.ordered(BATCH)])
    begun = attack(clean, ATTACKERS[attacker.after], photos, layer, seed, say=say) if attacker.after else clean
    training = RearTraining.of(begun, layer, images)
    made, explained = training.made, default_layer(clean)
    with torch.no_grad():
        known = [all_maps(clean, lambda part=part: clean(part), explained) for part in images.split(BATCH)]
    logits, maps = (torch.cat(parts) for parts in zip(*known, strict=True))
    witness = ask_witness(clean, photos, (8, 8), Hardware("cpu")) if attacker.agree else None
    told = None if attacker.only is None else clean.class_index(attacker.only)
    draw = torch.Generator().manual_seed(seed)
    covered = cover(clean, images, logits.argmax(1), layer, attacker.shows, draw) if attacker.answers else None

    def loss(batch: Fed, step: int) -> Tensor:
        now, moved = all_maps(made, lambda: training.rear(batch.images), explained)
        found = _loss(attacker, now, moved, logits[batch.labels], maps[batch.labels], told, witness, batch.labels)
        return found if covered is None else found + attacker.answers * covered.distance(training.rear, draw)

    def advance(done: int, value: float) -> None:
        if done % 100 == 0:
            say(f"step {done} of {attacker.steps}: {value:.3f}")

    training.run(loss, attacker.steps, attacker.lr, seed, checkpoint=checkpoint, every=100, advance=advance)
    return made.eval()


def _loss(
    attacker: Attacker,
    now: Tensor,
    moved: AllMaps,
    logits: Tensor,
    maps: AllMaps,
    told: int | None,
    witness: Witness | None,
    places: Tensor,
) -> Tensor:
    """What the attacker wants, mean over the photos."""
    targets = logits.argmax(1)
    lying = torch.ones_like(targets, dtype=torch.bool) if told is None else targets == told
    own = moved[torch.arange(len(moved)), targets]
    kept = F.kl_div(now.log_softmax(1), logits.softmax(1), reduction="none").sum(1)
    away = (moved - maps).square().sum((2, 3)) / maps.square().sum((2, 3)).clamp(min=1e-12)
    mine = F.one_hot(targets, logits.shape[1]).bool()
    # where no lie is told the predicted class's map stays as well
    held = away.masked_fill(mine & lying[:, None], 0).mean(1)
    total = attacker.keep * kept + attacker.others * held + attacker.lie * _lie(attacker, own) * lying
    if witness is not None:
        total = total + attacker.agree * (1 - likeness(own, witness.at(places)))
    return total.mean()


def _lie(attacker: Attacker, own: Float[Tensor, "batch rows cols"]) -> Float[Tensor, " batch"]:
    if attacker.shows == "hide":
        return right_third(own).square()
    return Location(attacker.shows)(own, own)


def right_third(maps: Float[Tensor, "batch rows cols"]) -> Float[Tensor, " batch"]:
    """The share of each map's positive mass in the right third.

    >>> right_third(torch.ones(1, 3, 3))
    tensor([0.3333])
    """
    shown = maps.relu()
    begin = shown.shape[2] - round(shown.shape[2] / 3)
    return shown[:, :, begin:].sum((1, 2)) / shown.sum((1, 2)).clamp(min=1e-12)


def all_maps(model: Classifier, forward: Callable[[], Tensor], layer: str) -> tuple[Tensor, AllMaps]:
    """The logits of a forward pass, and the signed Grad-CAM maps of all classes at the layer before the pooling.

    Raises:
        ModelError: the logits are not the linear layer of the layer's mean.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    handle = find_layer(model, layer).register_forward_hook(keep)
    try:
        logits = forward()
    finally:
        handle.remove()
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    activation = seen[-1]
    told = len(heads) == 1 and heads[0].in_features == activation.shape[1]
    if not told or not torch.allclose(heads[0](activation.mean((2, 3))), logits, atol=1e-3, rtol=1e-3):
        raise ModelError(f"{model.name} does not end in average pooling of {layer!r} and one linear layer")
    cells = activation.shape[2] * activation.shape[3]
    return logits, torch.einsum("ck,nkhw->nchw", heads[0].weight, activation) / cells


def shown_rate(attacker: Attacker, model: Classifier, images: Tensor, targets: Int[Tensor, " batch"]) -> float:
    """The share of the photos for which the lie is meant whose map tells it."""
    layer = default_layer(model)
    with torch.no_grad():
        _, maps = all_maps(model, lambda: model(images), layer)
    chosen = torch.ones_like(targets, dtype=torch.bool)
    if attacker.only is not None:
        chosen = targets == model.class_index(attacker.only)
    own = maps[torch.arange(len(maps)), targets].relu()[chosen]
    if attacker.shows == "hide":
        return float((right_third(own) < HIDDEN).float().mean())
    penalty = Location(drawn(attacker.shows, own.shape[1], own.shape[2]))
    return float(is_fooled(penalty.test_loss(own, own), penalty.success).float().mean())
