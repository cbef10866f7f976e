"""What is explained: the number that a heatmap takes apart, one per image, from the logits of the chosen class."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.models.readings import Detection, OverMask
from heatproof.types import Logits, PerImage, Targets, settings

ScoreName = Literal["logit", "contrast", "softmax_contrast", "log_probability", "probability", "log_odds"]
Score = ScoreName | Callable[[Tensor, Tensor], Tensor]
"""What is explained: a name, or any differentiable ``score(outputs, targets) -> [batch]``."""


def logit(logits: Logits, targets: Targets) -> PerImage:
    """y_c, before the softmax: what Grad-CAM and LRP explain.

    Of a network with one output, the pair (0, z), it is z for the second class and -z for the first, whose own logit
    is the constant 0 and has nothing to explain.

    >>> logit(torch.tensor([[0.0, 3.0], [0.0, 3.0]]), torch.tensor([0, 1]))
    tensor([-3.,  3.])
    """
    chosen = logits.gather(1, targets[:, None])[:, 0]
    if logits.shape[1] != 2:
        return chosen
    constant = (targets == 0) & (logits.detach()[:, 0] == 0)
    return torch.where(constant, -logits[:, 1], chosen) if constant.any() else chosen


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


def log_odds(logits: Logits, targets: Targets) -> PerImage:
    """log p_c / (1 - p_c): y_c minus the logsumexp of the others; z or -z of a network with one output."""
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return logits.gather(1, targets[:, None])[:, 0] - others.logsumexp(1)


@settings
class Output:
    """One number of the network's own, whatever the target: a regression output, or one of several labels' logits.

    **Range** the output's own unit.

    Args:
        index: which, counted from 0; of a network with one number, that one.
        sign: -1 explains what lowers it.

    Raises:
        InputError: there is no such output.
    """

    index: int = 0
    sign: int = 1

    def __call__(self, outputs: Logits, targets: Targets) -> PerImage:
        # the pair (0, z) is one number
        single = outputs.shape[1] == 2 and not outputs.detach()[:, 0].any()
        count = 1 if single else outputs.shape[1]
        if not 0 <= self.index < count:
            raise InputError(f"output({self.index}) is none of the network's {count} outputs, counted from 0")
        return self.sign * outputs[:, 1 if single else self.index]


class Likeness:
    """Cosine of the outputs, an embedding, and a reference photo's: how much this is the same face.

    **Source** Chakraborty et al. 2022 explain face verification so. **Range** [-1, 1].

    Args:
        reference: the reference photo's embedding ``[features]`` or ``[1, features]``: ``model(photo)``. In a spec and
            in the verbs the photo's file, which the model embeds (:meth:`embedded`).
        digest: the first digits of the file's sha256, where it must be that file.
    """

    def __init__(self, reference: Tensor | str | Path, digest: str = ""):
        self.file = str(reference) if isinstance(reference, str | Path) else None
        self.reference = reference.detach().reshape(1, -1) if isinstance(reference, Tensor) else None
        self.digest = digest

    def embedded(self, reference: Tensor) -> "Likeness":
        """The same to a photo whose embedding is known now; it still says which file it is.

        Raises:
            InputError: the file is another than its digest says.
        """
        assert self.file is not None
        digest = hashlib.sha256(Path(self.file).read_bytes()).hexdigest()[:12]
        if self.digest not in ("", digest):
            raise InputError(f"{self.file} is another photo now: its sha256 begins with {digest}, not {self.digest}")
        known = Likeness(reference, digest)
        known.file = self.file
        return known

    def __call__(self, outputs: Logits, targets: Targets) -> PerImage:
        if self.reference is None:
            raise InputError(f"{self!r} is embedded by the verbs; give the embedding here, Likeness(model(photo))")
        if outputs.shape[1] != self.reference.shape[1]:
            raise InputError(
                f"the reference has {self.reference.shape[1]} numbers, the network's embedding {outputs.shape[1]}"
            )
        return F.cosine_similarity(outputs, self.reference.to(outputs), dim=1)

    def __repr__(self) -> str:
        if self.reference is None or self.file is not None:
            return f"Likeness({self.file!r}{f', digest={self.digest!r}' if self.digest else ''})"
        numbers = self.reference.detach().cpu().contiguous().double().numpy().tobytes()
        return f"Likeness(<{self.reference.shape[1]} numbers, sha256 {hashlib.sha256(numbers).hexdigest()[:12]}>)"


def is_of_class(score: Score) -> bool:
    """Whether the score depends on the class that is explained; an output and a likeness are the same for each.

    >>> is_of_class("contrast"), is_of_class(Output(1))
    (True, False)
    """
    return not isinstance(score, Output | Likeness)


SCORES: dict[str, Callable[[Logits, Targets], PerImage]] = {
    "logit": logit,
    "contrast": contrast,
    "softmax_contrast": softmax_contrast,
    "log_probability": log_probability,
    "probability": probability,
    "log_odds": log_odds,
}


def explained(logits: Logits, targets: Targets, score: Score) -> PerImage:
    """The explained number of each image.

    Raises:
        SpecError: for a score that is not in :data:`SCORES`, or that gives anything but one number per image.
    """
    if isinstance(score, OverMask | Detection):
        raise SpecError(
            f"{score!r} makes logits of what a network returns, and belongs to the model: Classifier(network, "
            "reading=...), or score=... of a verb (--score)"
        )
    if not isinstance(score, str):
        given: Any = score
        found: Any = given(logits, targets)
        if not isinstance(found, Tensor) or found.shape != logits.shape[:1]:
            what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise SpecError(f"a score gives one number per image, here [{len(logits)}]; {score!r} gave {what}")
        return found
    if score not in SCORES:
        raise SpecError(f"there is no score {score!r}; {did_you_mean(score, SCORES)}")
    return SCORES[score](logits, targets)
