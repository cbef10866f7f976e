"""What a model answers, as one number per image: all that the metrics of evidence ask of it."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.models.intact import evaluating
from heatproof.models.odd_images import outside
from heatproof.types import Images, Logits, PerImage, Targets

Model = Callable[[Images], Logits]
"""A classifier, or any function from images to logits."""
Answer = Literal["probability", "logit", "correct"]
ANSWERS = ("probability", "logit", "correct")
UNITS: dict[Answer, str] = {"probability": "[0, 1]", "logit": "logits", "correct": "[0, 1]"}
"""The range of each answer, in words."""


def ask(model: Model, images: Images) -> Logits:
    """The logits in eval mode, without a graph, in float32 where the model computes in half precision."""
    with torch.no_grad(), evaluating(model) if isinstance(model, nn.Module) else nullcontext():
        logits = model(images)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def answers(model: Model, images: Images, targets: Targets, answer: Answer = "probability") -> PerImage:
    """The model's answer about each image's class.

    ``probability``: softmax · ``logit``: before it · ``correct``: 1 where the class is the predicted one, else 0.

    >>> answers(lambda images: torch.tensor([[0.0, 0.0]]), torch.rand(1, 3, 4, 4), torch.tensor([1]))
    tensor([0.5000])
    """
    return read(ask(model, images), targets, answer)


def read(logits: Logits, targets: Targets, answer: Answer) -> PerImage:
    """The answer in the logits.

    Raises:
        SpecError: an answer that is none of :data:`ANSWERS`.
        InputError: targets that are no class of the model.
    """
    if answer not in ANSWERS:
        raise SpecError(f"there is no answer {answer!r}; {did_you_mean(str(answer), ANSWERS)}")
    if targets.min() < 0 or targets.max() >= logits.shape[1]:
        raise InputError(outside(targets, logits.shape[1]))
    if answer == "correct":
        return (logits.argmax(1) == targets).to(logits.dtype)
    return (logits.softmax(1) if answer == "probability" else logits).gather(1, targets[:, None])[:, 0]


def chosen(model: Model, images: Images, targets: Targets | Int[Tensor, ""] | None) -> Targets:
    """The classes asked about: as given, or the predicted ones; only these cost a forward pass.

    Raises:
        InputError: there is no image, or not one target for each.
    """
    if images.ndim != 4 or not len(images):
        raise InputError(f"expected at least one image, [batch, channels, rows, cols], got {list(images.shape)}")
    if targets is None:
        return ask(model, images).argmax(1)
    targets = torch.as_tensor(targets, device=images.device).long()
    if targets.ndim == 0:
        targets = targets.expand(len(images))
    if targets.shape != images.shape[:1]:
        raise InputError(f"one target per image: expected [{len(images)}], got {list(targets.shape)}")
    return targets
