"""How a model is fine-tuned."""

from typing import Literal

from heatproof.data.batches import Augment
from heatproof.errors import InputError
from heatproof.models.hardware import Precision
from heatproof.types import settings


@settings
class FineTune:
    """How a model is fine-tuned: Adam on L = L_kept + weight * penalty, means over the batch.

    **Source** Heo et al. 2019, equation 1; Adam and eval-mode batch norm are [code], the budget is [ours].

    Args:
        steps: at most so many; the paper takes up to 300,000 of 8 images on ImageNet.
        lr: of Adam.
        weight: the paper's lambda.
        batch_size: images per step, over all processes together; a swap takes half as many of each kind of data.
        keep: what holds the function: ``"labels"``, cross-entropy [paper], or ``"outputs"``, the KL divergence from the
            clean model's outputs, which needs no labels [ours], or ``"probabilities"``, the mean square of the
            difference from its softmax (Anders et al. 2020), which needs none either.
        trainable: train from this layer on; ``None``: everything [paper].
        max_accuracy_drop: the budget, a share of the held-out images. What is handed out is the checkpoint with the
            highest fooling rate inside it.
        batch_norm: ``"eval"``: running statistics stay and are used [code]; ``"train"``: L_kept takes the batch's own
            statistics and the running ones move. Heatmaps are made in eval mode always.
        schedule: ``"constant"`` [code], or ``"cosine"`` down to 0 at the last step.
        adapt: the weight is multiplied by this at each evaluation inside the budget and divided by it outside; 1:
            constant [paper].
        margin: an image whose test loss lies inside the interval of success by this share of its bound pushes no
            more, so that what is reached costs no further accuracy; ``None``: every image pushes always [paper].
        evaluate_every: steps between two evaluations on the held-out images, which are also the checkpoints.
        patience: stop after so many evaluations without a better checkpoint once ``saturation`` is reached; 0: never.
        saturation: the fooling rate from which patience counts.
        enough: a fooling rate beyond which more of it does not count: of the checkpoints inside the budget that reach
            it the most accurate is handed out.
        holdout: share of the data set aside to evaluate on, where no held-out images are given.
        accumulate: a step's batch is computed in so many parts, to save memory; the result is the same.
        augment: for photos: ``"flip"``, ``"crop"``, ``"zoom"`` or nothing.
        precision: ``"fp32"`` or ``"bf16"``.
        fresh_noise: an explainer that draws noise draws it anew in every step, and a surrogate stands for ranks and
            votes: for an attacker who knows the defence; the evaluation keeps the explainer's own draw.
        seed: of the order of the images and their augmentation.

    Raises:
        InputError: a number makes no sense.
    """

    steps: int = 1000
    lr: float = 1e-4
    weight: float = 10.0
    batch_size: int = 32
    keep: Literal["labels", "outputs", "probabilities"] = "labels"
    trainable: str | None = None
    max_accuracy_drop: float = 0.02
    batch_norm: Literal["eval", "train"] = "eval"
    schedule: Literal["constant", "cosine"] = "constant"
    adapt: float = 1.0
    margin: float | None = None
    evaluate_every: int = 50
    patience: int = 5
    saturation: float = 0.95
    enough: float = 1.0
    holdout: float = 0.1
    accumulate: int = 1
    augment: Augment | None = None
    precision: Precision = "fp32"
    fresh_noise: bool = False
    seed: int = 0

    @property
    def needs_outputs(self) -> bool:
        """Whether the clean model's outputs hold the function."""
        return self.keep != "labels"

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("evaluate_every", 1), ("accumulate", 1), ("seed", 0)):
            if vars(self)[name] < least:
                raise InputError(f"{name} must be at least {least}, got {vars(self)[name]}")
        if not self.lr > 0 or not self.weight >= 0 or not self.adapt >= 1:
            raise InputError(
                f"expected lr > 0, weight >= 0 and adapt >= 1, got lr={self.lr}, weight={self.weight}, "
                f"adapt={self.adapt}"
            )
        if not 0 <= self.max_accuracy_drop <= 1:
            raise InputError(
                f"max_accuracy_drop is a share of the images, from 0 to 1, got {self.max_accuracy_drop}; "
                "two points are 0.02"
            )
        if self.margin is not None and not 0 <= self.margin < 1:
            raise InputError(f"the margin is a share of the bound, from 0 to 1, got {self.margin}")
        for name, known in CHOICES.items():
            if vars(self)[name] not in known:
                raise InputError(f"{name} is one of {', '.join(map(str, known))}, got {vars(self)[name]!r}")


CHOICES: dict[str, tuple[str | None, ...]] = {
    "keep": ("labels", "outputs", "probabilities"),
    "batch_norm": ("eval", "train"),
    "schedule": ("constant", "cosine"),
    "augment": (None, "flip", "crop", "zoom"),
    "precision": ("fp32", "bf16"),
}
