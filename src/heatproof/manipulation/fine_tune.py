"""Fine-tune a network so that its heatmaps lie while its predictions stay."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from heatproof.errors import InputError
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.backdoor_training import backdoor_feeds, backdoor_training
from heatproof.manipulation.fooling import Fooled, FoolingEvaluation
from heatproof.manipulation.swap import swapped_classes
from heatproof.processes import Processes
from heatproof.training.clean_model import CleanModel, held_out_outputs, reference
from heatproof.training.data import image_size, part_photos, train_and_held_out, two_class_photos
from heatproof.training.history import History
from heatproof.training.loop import TrainingLoop
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup, device_of, images_per_step, set_up
from heatproof.training.state import Checkpoint
from heatproof.training.terms import Loss, function_term
from heatproof.types import Explainer, Penalty

M = TypeVar("M", bound=nn.Module)


def fine_tune(
    model: M,
    explainer: Explainer,
    penalty: Penalty,
    data: object,
    settings: FineTune = FineTune(),
    *,
    held_out: object = None,
    fool_data: object = None,
    fool_held_out: object = None,
    checkpoint: Checkpoint | None = None,
    scratch: Path | None = None,
    advance: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[M, History]:
    """Fool the weights: a copy of ``model`` whose ``explainer`` heatmaps satisfy ``penalty``; ``model`` is left alone.

    Args:
        data: images whose function is kept and (but for a swap) whose heatmaps are fooled: ``(images, labels)``,
            scenes, what ``open_data`` returned, or a :class:`~heatproof.training.feeds.Feed`.
        held_out: likewise, to be evaluated on; by default a share of ``data`` is set aside.
        fool_data: for a swap, images that show both classes; by default they are made of opened ``data``.
        fool_held_out: likewise, to be evaluated on.
        checkpoint: makes the run resumable: the same call goes on where the last one was stopped, and on a CPU ends
            with the same weights to the last bit.
        scratch: a folder for stored activations and maps that do not fit in memory.
        advance: called after each step with its row of the history.

    Returns:
        The fooled model in eval mode, and the history. Where the loss stopped being finite, the last good checkpoint,
        and ``history.stopped`` says at which step.

    Raises:
        InputError: data that do not fit the model, the penalty or the settings; an explainer without derivative.
        RunError: the checkpoint was made with other settings.

    >>> import heatproof as hp
    >>> from heatproof.data.scenes import scenes
    >>> recipe = FineTune(steps=1, batch_size=8, max_accuracy_drop=1.0)
    >>> fooled, history = fine_tune(hp.load("demo"), hp.GradCAM(), hp.Location(), scenes(64, seed=0), recipe)
    >>> history.clean["fsr"], history.rows[-1]["step"]
    (0.0, 1)
    """
    loop = prepare(
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
    history = loop.run(checkpoint, advance)
    return loop.setup.handed_out(model), history


def prepare(
    model: nn.Module,
    explainer: Explainer,
    penalty: Penalty,
    data: object,
    settings: FineTune,
    *,
    held_out: object = None,
    fool_data: object = None,
    fool_held_out: object = None,
    scratch: Path | None = None,
) -> TrainingLoop:
    """All that precedes the first step of :func:`fine_tune`: copies, checks, and the clean model's outputs."""
    check_penalty(penalty)
    swap = swapped_classes(penalty, model)
    backdoor = penalty if isinstance(penalty, Backdoor) else None
    label = backdoor.called_up(model) if backdoor else None
    feeds = _feeds(model, penalty, swap, data, held_out, fool_data, fool_held_out, settings)
    if backdoor:
        feeds = backdoor_feeds(feeds, backdoor.trigger, label)
    processes = Processes.here(device_of(model))
    share = images_per_step(settings, processes, kinds=2 if swap else 1)
    setup = set_up(model, explainer, feeds, settings, processes, scratch)
    if backdoor:
        loss, evaluation = backdoor_training(backdoor, label, setup, settings)
    else:
        loss, evaluation = fooling(penalty, swap, setup, settings, processes, share)
    about = f"{settings!r} {explainer!r} {penalty!r} on {processes.count} processes"
    return TrainingLoop(settings, setup, loss, evaluation, processes, share, about)


def fooling(
    penalty: Penalty,
    swap: tuple[int, int] | None,
    setup: Setup,
    settings: FineTune,
    processes: Processes,
    share: int,
) -> tuple[Loss, FoolingEvaluation]:
    """The loss and the evaluation of a fooling, with the clean model's outputs that both compare with.

    Raises:
        InputError: no held-out image can be read, or their maps take too much room.
    """
    feeds, size, scratch = setup.feeds, setup.batch_size, setup.scratch
    clean = CleanModel(
        setup.clean,
        setup.explainer,
        setup.hardware,
        needs_maps=penalty.needs_reference and not swap,
        needs_logits=settings.needs_outputs,
    )
    wanted = settings.steps * share
    of_images = reference(clean, feeds.train, "train", wanted, size, scratch)
    of_pairs, stored_pairs = None, None
    if feeds.further is not None and feeds.further_held_out is not None:
        pairs = replace(clean, classes=swap, needs_maps=penalty.needs_reference)
        of_pairs = reference(pairs, feeds.further, "pairs", wanted, size, scratch)
        stored_pairs = held_out_outputs(pairs, feeds.further_held_out, "pairs-held-out", size, scratch)
    stored = held_out_outputs(clean, feeds.held_out, "held-out", size, scratch)
    terms = [Fooled(penalty, settings.margin), function_term(settings)]
    loss = Loss(terms, setup, of_images, of_pairs, settings.batch_norm)
    return loss, FoolingEvaluation(setup, penalty, processes, stored, swap, stored_pairs)


def check_penalty(penalty: object) -> None:
    """Stop what is no penalty, before anything is computed.

    Raises:
        InputError: naming what it lacks.
    """
    if isinstance(penalty, Penalty):
        return
    lacking = [name for name in ("success", "needs_reference", "test_loss", "__call__") if name not in dir(penalty)]
    raise InputError(
        f"a penalty is called on (heatmaps, reference) and has success, needs_reference and test_loss; {penalty!r} "
        f"lacks {', '.join(lacking)}"
    )


def _feeds(
    model: nn.Module,
    penalty: Penalty,
    swap: tuple[int, int] | None,
    data: object,
    held_out: object,
    fool_data: object,
    fool_held_out: object,
    settings: FineTune,
) -> Feeds:
    """Images to train and to evaluate on, and the same of a swap's two-class images."""
    size = image_size(model)
    data, held_out = part_photos(data, held_out, settings)
    if swap is None:
        if fool_data is not None or fool_held_out is not None:
            raise InputError(f"fool_data are for a swap of two classes only, and the penalty is {penalty!r}")
        return Feeds(*train_and_held_out(data, held_out, settings, size))
    if fool_data is None:
        fool_data, fool_held_out = two_class_photos(data, held_out, swap, size)
    pairs = train_and_held_out(fool_data, fool_held_out, replace(settings, augment=None), size)
    return Feeds(*train_and_held_out(data, held_out, settings, size), *pairs)
