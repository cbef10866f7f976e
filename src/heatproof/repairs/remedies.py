"""What is done to the weights of a checkpoint: from where on, with what pull, and from which numbers."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.layers import layer_name, network_of, record
from heatproof.repairs.channels import cut_channels, last_convolution
from heatproof.training.feeds import Feed
from heatproof.training.setup import Setup
from heatproof.training.statistics import estimate_statistics, norms_of
from heatproof.types import AtLayer, settings


@dataclass(frozen=True)
class Course:
    """How the weights are trained after they were changed.

    Attributes:
        steps: none: what :meth:`Remedy.begin` did is all.
        pull: weight of the term that pulls the maps to the witness.
        views: further views of each photo, on which the function is held as well.
        copies: moved copies of each photo, whose maps are pulled to the witness that moved along.
        mosaics: so many of four photos each, as a share of the photos; of each the map of one class is pulled as well.
        keep: the checkpoint's outputs, or the labels.
        batch_norm: as in :class:`~heatproof.training.settings.FineTune`.
        thirds: how many of the last thirds of the convolutions are tried to train from, where no layer is named; 0:
            everything is trained.
    """

    steps: int
    lr: float = 1e-3
    pull: float = 0.0
    views: int = 0
    copies: int = 0
    mosaics: float = 0.0
    keep: Literal["outputs", "labels"] = "outputs"
    batch_norm: Literal["eval", "train"] = "eval"
    thirds: int = 1


@runtime_checkable
class Remedy(Protocol):
    """A way to take a lie out of weights.

    Attributes:
        layer: from which on the weights change; ``None``: the repair chooses.
        course: how they are trained.
    """

    @property
    def layer(self) -> str | None: ...
    @property
    def course(self) -> Course: ...
    def begin(self, setup: Setup, photos: Feed, seed: int) -> None:
        """Change the copy (``setup.model``) before the first step."""
        ...


@settings
class Truth:
    """Fooling in reverse: the maps are pulled to the checkpoint's own black-box witness, its outputs stay.

    KL(checkpoint || model) on the photos and on further views of them + ``weight`` * (1 - cosine of the signed map and
    the witness, each without its mean). The witness is how far each part of the photo raises the lead of the predicted
    class over the others, by a regression over photos of which half is blurred; what was chosen on which networks
    stands in docs/methods/repair.md.

    **Source** [ours]. **Range** of the cosine [-1, 1], up is better.

    Args:
        weight: of the pull.
        layer: train from here on; ``None``: the last third of the convolutions up to the map, or the last two, what
            comes closer to the witness inside the budget.
        steps: at most so many; the best checkpoint inside the budget is handed out.
        lr: of Adam; falls to 0 as a cosine.
        views: further views of each photo on which the function is held.
        copies: of each photo, mirrored and shifted as the witness is, which are pulled as well.
        mosaics: of four photos, so many as a share of the photos: a lie about one of two classes shows where both are.

    Raises:
        InputError: a number makes no sense.
    """

    weight: float = 1.0
    layer: str | None = None
    steps: int = 400
    lr: float = 2e-3
    views: int = 4
    copies: int = 4
    mosaics: float = 0.5

    def __post_init__(self) -> None:
        _check(self.steps, self.lr)
        if not self.weight > 0 or min(self.views, self.copies) < 0 or not 0 <= self.mosaics <= 4:
            raise InputError(
                f"expected weight > 0, views >= 0, copies >= 0 and 0 <= mosaics <= 4, got weight={self.weight}, "
                f"views={self.views}, copies={self.copies}, mosaics={self.mosaics}"
            )

    @property
    def course(self) -> Course:
        return Course(
            self.steps, self.lr, self.weight, views=self.views, copies=self.copies, mosaics=self.mosaics, thirds=2
        )

    def begin(self, setup: Setup, photos: Feed, seed: int) -> None:
        """Nothing changes before the first step."""


@settings
class ReBN:
    """The statistics of every batch norm estimated anew on the photos; no training.

    **Source** arXiv 2403.16569 [a]. A lie that was trained with the statistics frozen, as Heo et al.'s, does not lie in
    them.

    Args:
        batch_size: photos whose statistics are averaged at a time.

    Raises:
        InputError: fewer than two photos at a time.
        ModelError: (when called) a network without batch norm, or one whose batch norm keeps no statistics.
    """

    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise InputError(f"statistics need at least 2 photos at a time, got {self.batch_size}")

    layer = None

    @property
    def course(self) -> Course:
        return Course(0, thirds=0)

    def begin(self, setup: Setup, photos: Feed, seed: int) -> None:
        """Means over all batches, each counted alike."""
        model = setup.model
        if not norms_of(model):
            name = model.name if isinstance(model, Classifier) else type(model).__name__
            raise ModelError(
                f"{name} has no batch norm with running statistics (it was folded into the convolutions, or there "
                "never was one), so there is nothing to estimate anew; truth() and finetune() need none"
            )
        estimate_statistics(model, photos.ordered(self.batch_size), setup.hardware.place)


@settings
class Finetune:
    """Short fine-tuning with the function held and no look at the maps: what an honest fine-tuning does to them.

    KL divergence from the checkpoint's own outputs (no labels), or cross-entropy of the labels.

    Args:
        keep: ``"outputs"`` or ``"labels"``.
        layer: train from here on; ``None``: everything.
        steps: at most so many.
        lr: of Adam; falls to 0 as a cosine.

    Raises:
        InputError: a number makes no sense.
    """

    keep: Literal["outputs", "labels"] = "outputs"
    layer: str | None = None
    steps: int = 400
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _check(self.steps, self.lr)
        if self.keep not in ("outputs", "labels"):
            raise InputError(f"keep is outputs or labels, got {self.keep!r}")

    @property
    def course(self) -> Course:
        return Course(self.steps, self.lr, keep=self.keep, thirds=0)

    def begin(self, setup: Setup, photos: Feed, seed: int) -> None:
        """Nothing changes before the first step."""


@settings
class Prune:
    """Fine-pruning: filters of the last convolution that the photos leave idle are cut, then the function is held.

    **Source** Liu, Dolan-Gavitt and Garg 2018 [m], who cut what clean photos leave idle and fine-tune. **Differs** a
    cut filter starts at zero and may grow again; the checkpoint's outputs take the place of the labels.

    Args:
        share: of the filters, those of the least mean output over the photos.
        layer: the convolution whose filters are cut; ``None``: the last one up to the map.
        steps: of fine-tuning after the cut.
        lr: of Adam; falls to 0 as a cosine.

    Raises:
        InputError: a number makes no sense, or a layer that is no convolution.
    """

    share: float = 0.3
    layer: str | None = None
    steps: int = 200
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _check(self.steps, self.lr)
        if not 0 < self.share < 1:
            raise InputError(f"the share of filters that are cut lies between 0 and 1, got {self.share}")

    @property
    def course(self) -> Course:
        return Course(self.steps, self.lr)

    def begin(self, setup: Setup, photos: Feed, seed: int) -> None:
        """Cut."""
        example = next(iter(photos.ordered(1))).images.to(setup.hardware.place)
        read = setup.explainer.layer if isinstance(setup.explainer, AtLayer) else None
        explained = layer_name(setup.model, read, example) if isinstance(setup.explainer, AtLayer) else None
        name = self.layer or last_convolution(setup.model, explained, example)
        total: torch.Tensor | None = None
        for fed in photos.ordered(64):
            with torch.no_grad():
                _, seen = record(setup.model, fed.images.to(setup.hardware.place), [name], create_graph=False)
            size = seen[name].detach().relu().mean((2, 3)).sum(0)
            total = size if total is None else total + size
        assert total is not None
        idle = total.argsort()[: max(1, round(self.share * len(total)))]
        cut_channels(setup.model, name, idle, example)


@settings
class Relearn:
    """The last layers are drawn anew, or shaken, and learn the checkpoint's outputs: nothing calls the lie back.

    **Source** [ours]. What comes out is an honest reference for ``audit --reference`` where the original cannot be had;
    it costs accuracy, and most photos.

    Args:
        layer: from here on; ``None``: the last third of the convolutions up to the map.
        noise: instead of drawing anew, add noise of this many standard deviations of each tensor.
        steps: at most so many.
        lr: of Adam; falls to 0 as a cosine.

    Raises:
        InputError: a number makes no sense.
    """

    layer: str | None = None
    noise: float | None = None
    steps: int = 1500
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _check(self.steps, self.lr)
        if self.noise is not None and not self.noise > 0:
            raise InputError(f"expected noise > 0, got {self.noise}; without it the layers are drawn anew")

    @property
    def course(self) -> Course:
        return Course(self.steps, self.lr, views=4, batch_norm="train")

    def begin(self, setup: Setup, photos: Feed, seed: int) -> None:
        """Draw anew, or shake, what is trained."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            trained = {id(parameter) for parameter in setup.trained.values()}
            for module in network_of(setup.model).modules():
                own = [p for p in module.parameters(recurse=False) if id(p) in trained]
                reset = getattr(module, "reset_parameters", None)
                if own and self.noise is None and callable(reset):
                    reset()
                    continue
                for parameter in own:
                    spread = parameter.std() if parameter.numel() > 1 else parameter.abs().mean()
                    noise = torch.randn(parameter.shape).to(parameter) * spread
                    parameter.copy_(noise if self.noise is None else parameter + self.noise * noise)


def _check(steps: int, lr: float) -> None:
    if steps < 1 or not lr > 0:
        raise InputError(f"expected steps >= 1 and lr > 0, got steps={steps}, lr={lr}")
