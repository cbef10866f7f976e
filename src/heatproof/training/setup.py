"""What a training works on: the copy that is trained, the clean model, the explainer, and what feeds them.

Where only the later layers are trained and the images do not change, the activations before these layers are computed
once; then the rear half of the network is run, fed with activations instead of images.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from heatproof.data.listing import UNLABELLED
from heatproof.errors import InputError
from heatproof.models.hardware import Hardware
from heatproof.models.intact import evaluating
from heatproof.models.layers import at_named_layer, layer_name
from heatproof.processes import Processes
from heatproof.training.clean_model import room
from heatproof.training.feeds import Feed, TensorFeed
from heatproof.training.settings import FineTune
from heatproof.training.split_at import Halves, explainer_on_rear, parameters_from, split_at
from heatproof.types import AtLayer, Explainer

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Feeds:
    """The images of a training.

    Attributes:
        train: what every step takes.
        held_out: what the evaluation takes.
        further: images of another kind, of which a step takes as many (two-class images of a swap).
        further_held_out: likewise for the evaluation.
    """

    train: Feed
    held_out: Feed
    further: Feed | None = None
    further_held_out: Feed | None = None


@dataclass(frozen=True)
class Setup:
    """What is fixed while a training lasts.

    Attributes:
        model: the whole copy that is trained and handed out at the end.
        body: the part of it that is run: all of it, or its rear half.
        clean: the same part of the clean model.
        explainer: as it is called on a body.
        trained: the parameters that change, by their names in ``model``.
        feeds: of images, or of the activations before the rear half.
        hardware: device and precision.
        batch_size: of passes in which nothing is trained.
        scratch: a folder for what does not fit in memory.
        fresh_noise: the explainer's noise is drawn anew in every step.
    """

    model: nn.Module
    body: nn.Module
    clean: nn.Module
    explainer: Explainer
    trained: dict[str, nn.Parameter]
    feeds: Feeds
    classes: int
    hardware: Hardware
    batch_size: int
    scratch: Path | None
    fresh_noise: bool = False

    def handed_out(self, given: M) -> M:
        """The trained copy of ``given``, in eval mode and on the device it came from."""
        for original, copied in zip(given.parameters(), self.model.parameters(), strict=True):
            copied.requires_grad_(original.requires_grad)
            copied.grad = None
        return self.model.to(device_of(given)).eval()  # type: ignore[return-value]


def set_up(
    model: nn.Module,
    explainer: Explainer,
    feeds: Feeds,
    settings: FineTune,
    processes: Processes,
    scratch: Path | None = None,
    *,
    whole: bool = False,
) -> Setup:
    """Copy the model, freeze what is not trained, and compute the frozen part's activations where that is possible and
    every image comes at least once.

    Args:
        whole: run the whole network always: the loss asks for the pixels.

    Raises:
        InputError: the data has no readable image, or labels that are no class; nothing is left to train.
        LayerError: there is no layer ``settings.trainable``.
    """
    hardware = Hardware(str(processes.device), settings.precision)
    example = _first(feeds.train).to(hardware.place)
    # the default layer is looked for before anything changes, and on both copies alike
    if isinstance(explainer, AtLayer) and explainer.layer is None:
        layer_name(model, None, example)
    explainer = at_named_layer(model, explainer)
    clean = model if device_of(model) == hardware.place else copy.deepcopy(model).to(hardware.place)
    changed = copy.deepcopy(clean)
    with torch.no_grad(), evaluating(clean):
        classes = clean(example).shape[1]
    trained = _choose(changed, settings.trainable, example)
    body, twin, on_body, fed = changed, clean, explainer, feeds
    size = max(settings.batch_size, 32)
    # of photos that do not come even once, what lies before would be computed for all that never come
    again = settings.steps * settings.batch_size >= len(feeds.train)
    if settings.trainable is not None and again and not whole:
        halves, clean_halves = split_at(changed, settings.trainable), split_at(clean, settings.trainable)
        if halves and clean_halves and (on_rear := _on_rear(explainer, changed, halves, feeds, example)):
            stored = _all_activations(clean_halves, feeds, hardware.place, size, scratch)
            if stored is not None:
                body, twin, on_body, fed = halves.rear, clean_halves.rear, on_rear, stored
    _check_labels(fed, classes)
    fresh = settings.fresh_noise
    return Setup(changed, body, twin, on_body, trained, fed, classes, hardware, size, scratch, fresh)


def images_per_step(settings: FineTune, processes: Processes, kinds: int = 1) -> int:
    """Images of each of so many kinds in a step, over all processes.

    Raises:
        InputError: too few for the processes and the parts of a batch.
    """
    share = settings.batch_size // kinds
    if share < processes.count * settings.accumulate:
        raise InputError(
            f"a batch of {share} images cannot be parted among {processes.count} processes and {settings.accumulate} "
            "parts; give a larger batch_size"
        )
    return share


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _choose(model: nn.Module, trainable: str | None, example: Tensor) -> dict[str, nn.Parameter]:
    """The parameters from a layer on, by name; only they keep a derivative."""
    for parameter in model.parameters():
        parameter.requires_grad_(trainable is None)
    if trainable is not None:
        for parameter in parameters_from(model, trainable, example):
            parameter.requires_grad_(True)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        raise InputError(f"from layer {trainable!r} on there is nothing to train; name an earlier layer")
    return trained


def _on_rear(explainer: Explainer, model: nn.Module, halves: Halves, feeds: Feeds, example: Tensor) -> Explainer | None:
    """The explainer on the rear half, if there is one and no image ever changes."""
    if not all(feed is None or feed.fixed for feed in _each(feeds)):
        return None
    return explainer_on_rear(explainer, model, halves, example)


def _all_activations(
    halves: Halves, feeds: Feeds, device: torch.device, batch_size: int, scratch: Path | None
) -> Feeds | None:
    """The activations before the rear half for every feed; ``None`` where those of one take too much room."""
    stored: list[TensorFeed | None] = []
    for place, feed in enumerate(_each(feeds)):
        made = None if feed is None else _activations(halves, feed, str(place), device, batch_size, scratch)
        if feed is not None and made is None:
            return None
        stored.append(made)
    train, held_out, *further = stored
    assert train is not None
    assert held_out is not None
    return Feeds(train, held_out, *further)


def _activations(
    halves: Halves, feed: Feed, name: str, device: torch.device, batch_size: int, scratch: Path | None
) -> TensorFeed | None:
    stored: Tensor | None = None
    seen: list[int] = []
    labels = torch.full((len(feed),), UNLABELLED)
    with torch.no_grad(), evaluating(halves.front):
        for fed in feed.ordered(batch_size):
            activation = halves.front(fed.images.to(device)).float().cpu()
            if stored is None:
                stored = room((len(feed), *activation.shape[1:]), scratch, f"activations-{name}")
                if stored is None:
                    return None
            stored[fed.positions] = activation
            labels[fed.positions] = fed.labels.cpu()
            seen += fed.positions.tolist()
    if stored is None:
        return None
    made = TensorFeed(stored, labels, list(feed.ids))
    return made if len(seen) == len(feed) else made.taken(sorted(seen))


def _each(feeds: Feeds) -> tuple[Feed | None, ...]:
    return feeds.train, feeds.held_out, feeds.further, feeds.further_held_out


def _check_labels(feeds: Feeds, classes: int) -> None:
    """Stop labels that are no class before anything is computed, where they are known beforehand."""
    for feed in _each(feeds):
        labels = torch.as_tensor(feed.labels if feed is not None else ())
        if len(labels) and (labels.min() < UNLABELLED or labels.max() >= classes):
            raise InputError(
                f"labels must lie in 0..{classes - 1}, or be -1 where unknown, got "
                f"{int(labels.min())}..{int(labels.max())}: were these data labelled for another model?"
            )


def _first(feed: Feed) -> Tensor:
    fed = next(iter(feed.ordered(2)), None)
    if fed is None:
        raise InputError("none of the images can be read")
    return fed.images
