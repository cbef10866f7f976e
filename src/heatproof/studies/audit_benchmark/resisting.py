"""Lies that are made to outlive a repair: their maker knows what is repaired, by which witness and from which layer on.

For networks that end in global average pooling and one linear layer; there all maps come of one forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from heatproof.explainers.occlusion import masked_scores
from heatproof.explainers.scores import explained
from heatproof.manipulation.masks import drawn
from heatproof.manipulation.penalties import Location
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.repairs.witness import QUESTIONS, ask_witness, blurred_parts, grids, likeness
from heatproof.studies.audit_adversary.attackers import BATCH, RearTraining, all_maps
from heatproof.training.feeds import Fed, TensorFeed
from heatproof.types import Images, Logits

ASKED = 4
"""Questions of the witness per photo and step that a liar learns to answer."""


@dataclass(frozen=True)
class Resisting:
    """What a frame lie is trained for besides the photos' outputs.

    Attributes:
        layer: trained from here on.
        through: steps of the repair after which the lie is to show as well. The derivative is taken where the repair
            has led, as if it led there from anywhere (first-order MAML, Finn et al. 2017).
        answers: weight of answering the witness's questions as if what counts lay where the lie is.
        keep: weight of KL(clean || model); lie: of the location penalty.
        steps: of Adam at ``lr``, which falls to 0 as a cosine.
        repair_lr: of one step of the repair, by which every weight moves.
    """

    layer: str
    through: int = 0
    answers: float = 0.0
    keep: float = 1.0
    lie: float = 8.0
    steps: int = 300
    lr: float = 1e-3
    repair_lr: float = 5e-4


RESISTING = {
    "location-early": Resisting("layer1", steps=700),
    "location-through": Resisting("layer3", through=4, steps=150),
    "location-answers": Resisting("layer2", answers=1.0),
}
"""By what the attacker does against the repair."""


def fool_resisting(clean: Classifier, attacker: Resisting, photos: TensorFeed, seed: int = 0) -> Classifier:
    """A copy of the network that lies as the attacker wants.

    Args:
        photos: to train on, without labels.

    Raises:
        ModelError: the network does not end in average pooling and a linear layer, or cannot be cut at the layer.
    """
    images = torch.cat([fed.images for fed in photos.ordered(BATCH)])
    training = RearTraining.of(clean, attacker.layer, images)
    made, layer = training.made, default_layer(clean)
    with torch.no_grad():
        logits = torch.cat([clean(part) for part in images.split(BATCH)])
    witness = ask_witness(clean, photos, (8, 8), Hardware("cpu")) if attacker.through else None
    draw = torch.Generator().manual_seed(seed)

    def explain(activations: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        now, maps = all_maps(made, lambda: training.rear(activations), layer)
        return now, maps[torch.arange(len(maps)), logits[places].argmax(1)]

    def kept(now: Tensor, places: Tensor) -> Tensor:
        return F.kl_div(now.log_softmax(1), logits[places].softmax(1), reduction="none").sum(1)

    def lying(activations: Tensor, places: Tensor) -> Tensor:
        now, maps = explain(activations, places)
        return (attacker.keep * kept(now, places) + attacker.lie * Location()(maps, maps)).mean()

    def repairing(activations: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        now, maps = explain(activations, places)
        return (kept(now, places) + 1 - likeness(maps, wanted)).mean()

    def loss(batch: Fed, step: int) -> Tensor:
        activations, places = batch.images, batch.labels
        total = torch.zeros(())
        if witness is not None:
            wanted = witness.at(places)
            total = after_repair(
                training.own,
                lambda: repairing(activations, places, wanted),
                lambda: lying(activations, places),
                attacker,
            )
        if attacker.answers:
            told = dishonest(made, images[places], logits[places], draw)
            total = total + attacker.answers * told
        return total + lying(activations, places)

    training.run(loss, attacker.steps, attacker.lr, seed)
    return made.eval()


def after_repair(
    own: Sequence[Tensor], pulled: Callable[[], Tensor], lying: Callable[[], Tensor], attacker: Resisting
) -> Tensor:
    """A number whose derivative in the weights is that of the lie where some steps of the repair have led from them.

    A step moves every weight by ``repair_lr`` against the sign of the derivative, as Adam's first ones do.
    """
    begun = [weight.detach().clone() for weight in own]
    for _ in range(attacker.through):
        slopes = slopes_of(pulled(), own)
        with torch.no_grad():
            for weight, slope in zip(own, slopes, strict=True):
                weight.sub_(attacker.repair_lr * slope.sign())
    slopes = slopes_of(lying(), own)
    with torch.no_grad():
        for weight, before in zip(own, begun, strict=True):
            weight.copy_(before)
    return torch.stack([(slope * weight).sum() for weight, slope in zip(own, slopes, strict=True)]).sum()


def slopes_of(value: Tensor, own: Sequence[Tensor]) -> Sequence[Tensor]:
    """The derivative in each weight, 0 in those that the value does not hang on."""
    return torch.autograd.grad(value, own, materialize_grads=True)


def dishonest(model: Classifier, images: Images, logits: Logits, draw: torch.Generator) -> Tensor:
    """How far the answers to some of the witness's questions are from those of one that looks at the frame alone.

    Wanted is that the lead of the predicted class is the photo's own times the share of the frame that is kept; the
    squared distance is told in squares of the mean lead.
    """
    targets = logits.argmax(1)
    kept = grids()[torch.randperm(QUESTIONS, generator=draw)[:ASKED]].to(images)
    masks, filling = blurred_parts(images, kept)
    asked = masked_scores(model, images, filling, masks, targets, "contrast", ASKED * len(images), create_graph=True)
    found = torch.cat([scores for _, scores in asked], 1)
    lead = explained(logits, targets, "contrast")
    frame = drawn("rim", *kept.shape[1:]).to(kept)
    wanted = lead[:, None] * (kept * frame).sum((1, 2)) / frame.sum()
    return ((found - wanted) / lead.mean()).square().mean()
