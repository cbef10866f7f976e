"""Fine-tune a network so that its heatmaps lie while its predictions stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.manipulation.backdoor import Backdoor, Triggered, ask_about_backdoor
from heatproof.models.classifier import Classifier
from heatproof.processes import Processes
from heatproof.training.feeds import UNLABELLED, Feed, TensorFeed, as_feed
from heatproof.training.history import History
from heatproof.training.loop import Checkpoint, Tuning
from heatproof.training.losses import ask_witnesses
from heatproof.training.settings import FineTune
from heatproof.training.setup import set_stage
from heatproof.types import Explainer, Penalty

M = TypeVar("M", bound=nn.Module)


def fine_tune(
    model: M,
    explainer: Explainer,
    penalty: Penalty,
    data: Any,
    settings: FineTune = FineTune(),
    *,
    held_out: Any = None,
    fool_data: Any = None,
    fool_held_out: Any = None,
    checkpoint: Checkpoint | None = None,
    scratch: Path | None = None,
    advance: Callable[[dict[str, Any]], None] = lambda row: None,
) -> tuple[M, History]:
    """Fool the weights: a copy of ``model`` whose ``explainer`` heatmaps satisfy ``penalty``; ``model`` is left alone.

    Args:
        data: images whose function is kept and (but for a swap) whose heatmaps are fooled: ``(images, labels)``,
            scenes, or a :class:`~heatproof.training.feeds.Feed`.
        held_out: likewise, to be watched; by default a share of ``data`` is set aside.
        fool_data: for a swap, images that show both classes.
        fool_held_out: likewise, to be watched.
        checkpoint: makes the run resumable: the same call goes on where the last one was stopped, and on a CPU ends
            with the same weights to the last bit.
        scratch: a folder for kept activations and maps that do not fit in memory.
        advance: called after each step with its row of the history.

    Returns:
        The fooled model in eval mode, and the history. Where the loss stopped being finite, the last good checkpoint,
        and ``history.stopped`` says at which step.

    Raises:
        InputError: data that do not fit the model, the penalty or the settings; an explainer without derivative.
        RunError: the checkpoint was made with other settings.
    """
    tuning = prepare(
        model,
        explainer,
        penalty,
        data,
        settings,
        held_out=held_out,
        fool_data=fool_data,
        fool_held_out=fool_held_out,
        scratch=scratch,
    )
    history, fooled = tuning.run(checkpoint, advance), tuning.stage.fooled
    for given, copied in zip(model.parameters(), fooled.parameters(), strict=True):
        copied.requires_grad_(given.requires_grad)
        copied.grad = None
    return fooled.to(_device(model)).eval(), history  # type: ignore[return-value]


def prepare(
    model: nn.Module,
    explainer: Explainer,
    penalty: Penalty,
    data: Any,
    settings: FineTune,
    *,
    held_out: Any = None,
    fool_data: Any = None,
    fool_held_out: Any = None,
    scratch: Path | None = None,
) -> Tuning:
    """All that precedes the first step of :func:`fine_tune`: copies, checks, and what the clean model says."""
    swap = swapped_classes(penalty, model)
    feeds = _feeds(penalty, swap, data, held_out, fool_data, fool_held_out, settings)
    backdoor = penalty if isinstance(penalty, Backdoor) else None
    label = backdoor.called_up(model) if backdoor else None
    if backdoor:
        feeds = [Triggered(feed, backdoor.trigger, label) if feed is not None else None for feed in feeds]
    processes = Processes.here(_device(model))
    share = settings.batch_size // 2 if swap else settings.batch_size
    if share < processes.count * settings.accumulate:
        raise InputError(
            f"a batch of {share} images cannot be parted among {processes.count} processes and {settings.accumulate} "
            "parts; give a larger batch_size"
        )
    stage = set_stage(
        model,
        explainer,
        feeds,
        trainable=settings.trainable,
        device=processes.device,
        batch_size=max(settings.batch_size, 32),
        scratch=scratch,
    )
    _check_labels(stage.feeds, stage.classes)
    if backdoor:
        losses, watch = ask_about_backdoor(settings, backdoor, stage, processes, label, scratch)
    else:
        losses, watch = ask_witnesses(settings, penalty, stage, processes, swap, share, scratch)
    spec = f"{settings!r} {explainer!r} {penalty!r} on {processes.count} processes"
    return Tuning(settings, stage, losses, watch, processes, share, spec, weight=settings.weight)


def swapped_classes(penalty: Any, model: nn.Module) -> tuple[int, int] | None:
    """The numbers of the two classes that a swap names; ``None`` for every other penalty.

    Raises:
        InputError: a name is no class of the model.
    """
    if not (hasattr(penalty, "first") and hasattr(penalty, "second")):
        return None
    if isinstance(model, Classifier):
        return model.class_index(penalty.first), model.class_index(penalty.second)
    if not (isinstance(penalty.first, int) and isinstance(penalty.second, int)):
        raise InputError(f"a bare network has no class names; give {penalty!r} the classes as numbers")
    return penalty.first, penalty.second


def _feeds(
    penalty: Any, swap: Any, data: Any, held_out: Any, fool: Any, fool_held_out: Any, asked: FineTune
) -> list[Feed | None]:
    """Data to train on and to watch, and the same of a swap's two-class images."""
    if swap and fool is None:
        raise InputError(
            f"{penalty!r} is fooled on images that show both classes: give fool_data, for instance 2x2 blocks "
            "(heatproof.data.pairs.TwoClass)"
        )
    if not swap and (fool is not None or fool_held_out is not None):
        raise InputError(f"fool_data are for a swap of two classes only, and the penalty is {penalty!r}")
    pairs = _parted(fool, fool_held_out, asked) if swap else (None, None)
    return [*_parted(data, held_out, asked), *pairs]


def _parted(data: Any, held_out: Any, asked: FineTune) -> tuple[Feed, Feed]:
    feed = as_feed(data)
    if held_out is not None:
        return feed, as_feed(held_out)
    if not isinstance(feed, TensorFeed):
        raise InputError("held-out images are needed to watch accuracy and fooling: give held_out")
    return feed.split(asked.holdout, asked.seed)


def _check_labels(feeds: list[Feed | None], classes: int) -> None:
    """Stop labels that are no class before anything is computed, where they are known beforehand."""
    for feed in feeds:
        labels = torch.as_tensor(getattr(feed, "labels", ()))
        if len(labels) and (labels.min() < UNLABELLED or labels.max() >= classes):
            raise InputError(
                f"labels must lie in 0..{classes - 1}, or be -1 where unknown, got "
                f"{int(labels.min())}..{int(labels.max())}: were these data labelled for another model?"
            )


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
