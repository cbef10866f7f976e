"""What is explained: the number that a heatmap takes apart, one per image, from the logits of the chosen class."""

from collections.abc import Callable
from typing import Literal

import torch

from heatproof.errors import SpecError, did_you_mean
from heatproof.types import Logits, PerImage, Targets

Score = Literal["logit", "contrast", "softmax_contrast", "log_probability", "probability"]


def logit(logits: Logits, targets: Targets) -> PerImage:
    """y_c, before the softmax: what Grad-CAM and LRP explain."""
    return logits.gather(1, targets[:, None])[:, 0]


def contrast(logits: Logits, targets: Targets) -> PerImage:
    """y_c minus the mean of the other logits: blind to whatever is added to every logit."""
    chosen = logit(logits, targets)
    return chosen - (logits.sum(1) - chosen) / (logits.shape[1] - 1)


def softmax_contrast(logits: Logits, targets: Targets) -> PerImage:
    """y_c minus the mean of the others weighted by their softmax (held constant): against the nearest rivals."""
    rivals = logits.detach().scatter(1, targets[:, None], -torch.inf).softmax(1)
    return logit(logits, targets) - (rivals * logits).sum(1)


def log_probability(logits: Logits, targets: Targets) -> PerImage:
    """log softmax of the class."""
    return logit(logits.log_softmax(1), targets)


def probability(logits: Logits, targets: Targets) -> PerImage:
    """Softmax of the class."""
    return logit(logits.softmax(1), targets)


SCORES: dict[str, Callable[[Logits, Targets], PerImage]] = {
    "logit": logit,
    "contrast": contrast,
    "softmax_contrast": softmax_contrast,
    "log_probability": log_probability,
    "probability": probability,
}


def explained(logits: Logits, targets: Targets, score: Score) -> PerImage:
    """The explained number of each image.

    Raises:
        SpecError: for a score that is not in :data:`SCORES`.
    """
    if score not in SCORES:
        raise SpecError(f"there is no score {score!r}; {did_you_mean(score, SCORES)}")
    return SCORES[score](logits, targets)
