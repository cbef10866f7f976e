"""The loss of a training as a list of terms that share the forward passes of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar
from zlib import crc32

import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.intact import evaluating
from heatproof.training.clean_model import Reference, ReferenceOutputs, repeated
from heatproof.training.feeds import Fed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Setup
from heatproof.types import (
    Attribution,
    Explainer,
    Explanation,
    Images,
    Logits,
    PerChannel,
    PerImage,
    Rectified,
    redrawn,
)

E = TypeVar("E")


@dataclass
class Shared:
    """Images of one kind in a batch, and what terms may need of them: each computed once, when it is first needed.

    One forward pass serves the heatmaps and the logits, provided that the terms that explain come first.
    """

    fed: Fed
    setup: Setup
    reference_of: Reference
    batch_norm: str = "eval"

    @cached_property
    def reference(self) -> ReferenceOutputs:
        """The clean model's outputs."""
        return self.reference_of.of(self.fed)

    @cached_property
    def explanation(self) -> Explanation:
        """Signed heatmaps with their derivative in the weights: of the reference's targets, or its several classes.

        Raises:
            InputError: the explainer has no derivative, or reads a layer before all that is trained.
        """
        classes = self.reference_of.clean.classes
        several = repeated(self.fed.images, classes) if classes else None
        images, targets = several or (self.fed.images, self.reference.targets)
        explanation = self._explained(lambda: self._explainer(self.setup.body, images, targets, create_graph=True))
        self._check(explanation.heatmaps)
        return explanation

    @cached_property
    def pixels(self) -> Images:
        """The images, with respect to which what is made of them can be differentiated."""
        return self.fed.images.detach().requires_grad_()

    @cached_property
    def attribution(self) -> Attribution:
        """What the explainer says of ``pixels``, with its derivative in them and in the weights.

        Raises:
            InputError: as of ``explanation``.
        """
        return self.attribution_at(self.pixels)

    def attribution_at(self, images: Images) -> Attribution:
        """What the explainer says of other images of these targets, or of the first targets alone: of each channel of
        each pixel where it says so much, else its signed heatmap, as one channel.

        Raises:
            InputError: as of ``explanation``.
        """
        explainer, body, targets = self._explainer, self.setup.body, self.reference.targets[: len(images)]

        def explain() -> Attribution:
            if isinstance(explainer, PerChannel):
                return Attribution(*explainer.attribute(body, images, targets, create_graph=True))
            heatmaps, logits, explained = explainer(body, images, targets, create_graph=True)
            return Attribution(heatmaps[:, None], logits, explained)

        found = self._explained(explain)
        self._check(found.values)
        return found

    @property
    def draw(self) -> int:
        """A number for what is drawn for this batch: its own, and the same in a resumed run."""
        return 1 + crc32(str(self.fed.positions.tolist()).encode())

    @property
    def _explainer(self) -> Explainer:
        """Without its ReLU; where it is asked for, with noise that is this batch's own."""
        explainer = without_relu(self.setup.explainer)
        return redrawn(explainer, self.draw) if self.setup.fresh_noise else explainer

    def _explained(self, explain: Callable[[], E]) -> E:
        """Raises: InputError: the explainer reads a layer before all that is trained."""
        try:
            with self.setup.hardware.autocast():
                return explain()
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise InputError(
                f"{self.setup.explainer!r} reads a layer before all that is trained; explain a later layer, or train "
                "from an earlier one on"
            ) from error

    def _check(self, said: Tensor) -> None:
        """Raises: InputError: what the explainer says has no derivative."""
        if not said.requires_grad:
            raise InputError(
                f"{self.setup.explainer!r} has no derivative with respect to the trained weights; fool or defend an "
                "explainer that has (gradcam, simple_grad, lrp), and measure this one with compare"
            )

    @cached_property
    def logits(self) -> Logits:
        """The trained model's, in float32."""
        if self.batch_norm == "train":
            return self._by_own_statistics().float()
        for made in ("explanation", "attribution"):
            if made in vars(self) and self.reference_of.clean.classes is None:
                return getattr(self, made).logits.float()
        with evaluating(self.setup.body), self.setup.hardware.autocast():
            return self.setup.body(self.fed.images).float()

    def _by_own_statistics(self) -> Tensor:
        """The logits by the batch's own statistics; the running statistics move."""
        body = self.setup.body
        kind = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
        norms = [module for module in body.modules() if isinstance(module, kind)]
        with evaluating(body), self.setup.hardware.autocast():
            for norm in norms:
                norm.training = True
            try:
                return body(self.fed.images)
            finally:
                for norm in norms:
                    norm.training = False


@dataclass(frozen=True)
class Batch:
    """What a term is given: the images of the step and, where the training has them, those of the other kind."""

    images: Shared
    further: Shared | None = None


class Term(Protocol):
    """One term of a loss: from a batch one value per image (or per row, where an image is explained several times).

    Attributes:
        name: its column in the history is ``loss_<name>``.
        weight: its factor in the loss.
        adapts: ``settings.weight`` is a further factor, and with it the budget's ``adapt``.
    """

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def adapts(self) -> bool: ...
    def __call__(self, batch: Batch) -> PerImage: ...


@dataclass(frozen=True)
class Loss:
    """Terms, evaluated in order: those that explain come first, so that the logits cost no further pass.

    Attributes:
        reference: the clean model about the images of ``setup.feeds.train``.
        further: the same about those of the other kind.
    """

    terms: Sequence[Term]
    setup: Setup
    reference: Reference
    further: Reference | None = None
    batch_norm: str = "eval"

    def values(self, fed: Fed, further: Fed | None) -> list[PerImage]:
        """What each term makes of a batch."""
        device = self.setup.hardware.place
        batch = Batch(
            Shared(fed.to(device), self.setup, self.reference, self.batch_norm),
            Shared(further.to(device), self.setup, self.further) if further and self.further else None,
        )
        return [term(batch) for term in self.terms]


@dataclass(frozen=True)
class LabelTerm:
    """Cross-entropy of the labels [paper]: holds the function where the classes are known."""

    name: str = "kept"
    weight: float = 1.0
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        logits, labels = batch.images.logits, batch.images.fed.labels
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= logits.shape[1]:
            raise InputError(
                f"labels must lie in 0..{logits.shape[1] - 1}, got {low}..{high}; "
                'keep="outputs" needs no labels: it holds the function by the clean model\'s outputs'
            )
        return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class OutputTerm:
    """KL divergence from the clean model's outputs [ours]: holds the function without any label."""

    name: str = "kept"
    weight: float = 1.0
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        clean = _clean_logits(batch).log_softmax(1)
        return F.kl_div(batch.images.logits.log_softmax(1), clean, log_target=True, reduction="none").sum(1)


@dataclass(frozen=True)
class ProbabilityTerm:
    """Mean square of the difference from the clean model's softmax (Anders et al. 2020, code): without any label."""

    name: str = "kept"
    weight: float = 1.0
    adapts: bool = False

    def __call__(self, batch: Batch) -> PerImage:
        return (batch.images.logits.softmax(1) - _clean_logits(batch).softmax(1)).square().mean(1)


def _clean_logits(batch: Batch) -> Logits:
    """What the clean model answers, which terms that hold by it have had asked."""
    logits = batch.images.reference.logits
    assert logits is not None
    return logits


HOLDING: dict[str, Callable[..., Term]] = {
    "labels": LabelTerm,
    "outputs": OutputTerm,
    "probabilities": ProbabilityTerm,
}


def function_term(settings: FineTune, weight: float = 1.0) -> Term:
    """The term that holds the function, as ``settings.keep`` says."""
    return HOLDING[settings.keep](weight=weight)


def without_relu(explainer: Explainer) -> Explainer:
    """The explainer without its ReLU, where it has one."""
    if is_dataclass(explainer) and not isinstance(explainer, type) and rectified(explainer):
        return replace(explainer, relu=False)
    return explainer


def rectified(explainer: Explainer) -> bool:
    """Whether the explainer ends in a ReLU that can be left out."""
    return isinstance(explainer, Rectified) and explainer.relu is True
